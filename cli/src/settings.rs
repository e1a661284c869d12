//! Which managers to ask: flags, then the environment, then the user's settings, then the machine's.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::failure::Failure;

/// The machine's settings.
const MACHINE_FILE: &str = "/etc/minder/minderctl.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    servers: Vec<String>,
}

/// The managers; flags and environment were read by the command line already.
pub fn servers(named: &[String]) -> Result<Vec<String>, Failure> {
    let named: Vec<String> = named.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
    if !named.is_empty() {
        return Ok(named);
    }
    for path in files() {
        let servers = read(&path)?;
        if !servers.is_empty() {
            return Ok(servers);
        }
    }
    Err(Failure::usage("no manager is named").hint(format!(
        "say --server HOST:PORT, set MINDER_SERVERS, or write `servers = [\"HOST:PORT\"]` into {MACHINE_FILE} or ~/.config/minder/config.toml"
    )))
}

fn files() -> Vec<PathBuf> {
    let home = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    home.map(|home| home.join("minder/config.toml")).into_iter().chain([PathBuf::from(MACHINE_FILE)]).collect()
}

fn read(path: &Path) -> Result<Vec<String>, Failure> {
    let name = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::usage(format!("cannot read the settings {name}")).cause(error.to_string())),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Failure::usage(format!("the settings {name} are wrong"))
            .cause(error.message().to_owned())
            .hint("known keys: servers")
    })?;
    Ok(file.servers)
}
