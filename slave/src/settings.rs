//! Flags and the configuration file, parsed as typed and resolved once into [`Settings`]. Flags win over the file;
//! unknown keys are refused.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use minder_model::{HostName, check_labels};
use nix::unistd::{Gid, Group};
use serde::Deserialize;

/// Starts, watches and stops the processes that Minder's managers assign to this machine.
#[derive(Debug, Parser)]
#[command(name = "minder-slave", version)]
pub struct Flags {
    /// Configuration file (TOML); every key is also a flag
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of this host in the cluster [default: the machine's host name]
    #[arg(long)]
    name: Option<String>,
    /// Data folder; one slave each
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Managers to attend, HOST:PORT, several with commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    managers: Option<Vec<String>>,
    /// Address that this host is announced under, HOST:PORT [default: its name]
    #[arg(long)]
    address: Option<String>,
    /// Label of this host, KEY=VALUE; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// The shim program [default: minder-shim beside this program]
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// How firmly processes are held
    #[arg(long, value_enum)]
    supervision: Option<Supervision>,
    /// Group whose members may give orders on the machine itself [default: root and the slave's user alone]
    #[arg(long, value_name = "GROUP")]
    local_group: Option<String>,
    /// What is done with processes where this slave keeps its own, of which its ledger knows nothing
    #[arg(long, value_enum)]
    stray: Option<StrayPolicy>,
    /// Where Prometheus reads metrics, HOST:PORT; nowhere unless said
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Let `minderctl drill slave-kill` kill this slave; it comes back by itself
    #[arg(long = "allow-drills")]
    drills: bool,
    /// What to log: error, warn, info, debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// How firmly processes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// By cgroups where the kernel has them, else by sessions.
    #[default]
    Auto,
    /// By sessions.
    Session,
}

/// What is done with strays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum StrayPolicy {
    /// They are told, and left as they are until an instance of their name is started.
    #[default]
    Report,
    /// They are told and ended.
    Kill,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    name: Option<String>,
    data: Option<PathBuf>,
    managers: Option<Vec<String>>,
    address: Option<String>,
    labels: BTreeMap<String, String>,
    shim: Option<PathBuf>,
    supervision: Option<Supervision>,
    local_group: Option<String>,
    stray: Option<StrayPolicy>,
    metrics_listen: Option<String>,
    drills: Option<bool>,
    log: Option<String>,
    heartbeat_interval_ms: Option<u64>,
    machine_interval_ms: Option<u64>,
}

/// What the slave runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This host.
    pub name: HostName,
    /// Data folder.
    pub data: PathBuf,
    /// Managers to begin with; a leader tells of others.
    pub managers: Vec<String>,
    /// What is announced.
    pub address: String,
    /// What is announced.
    pub labels: BTreeMap<String, String>,
    /// The shim program.
    pub shim: PathBuf,
    /// How firmly processes are held.
    pub supervision: Supervision,
    /// Whose members may give local orders.
    pub local_group: Option<Gid>,
    /// What is done with strays.
    pub stray: StrayPolicy,
    /// Where metrics are read. It may be any address: nothing can be changed there, and nothing is shown but figures.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether it may be killed for drills.
    pub drills: bool,
    /// Log filter.
    pub log: String,
    /// Between two signs of life.
    pub heartbeat_interval: Duration,
    /// Between two samples of the machine.
    pub machine_interval: Duration,
}

impl Settings {
    /// Reads the file, if one is named, and lays the flags over it.
    pub fn resolve(flags: Flags) -> anyhow::Result<Self> {
        let file = flags.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let name = match flags.name.or(file.name) {
            Some(name) => name,
            None => machine_name()?,
        };
        let name = HostName::new(name).context("name")?;
        let managers = flags.managers.or(file.managers).unwrap_or_default();
        if managers.is_empty() {
            bail!("no managers: give --managers HOST:PORT,..., or `managers` in the configuration");
        }
        let mut labels = file.labels;
        for label in flags.labels {
            let (key, value) = label.split_once('=').with_context(|| format!("--label {label:?}: write KEY=VALUE"))?;
            labels.insert(key.into(), value.into());
        }
        check_labels("labels", &labels)?;
        let heartbeat_ms = file.heartbeat_interval_ms.unwrap_or(1_000);
        if !(20..=60_000).contains(&heartbeat_ms) {
            bail!("heartbeat_interval_ms: {heartbeat_ms} is not within 20 to 60000");
        }
        let machine_ms = file.machine_interval_ms.unwrap_or(5_000);
        if !(200..=600_000).contains(&machine_ms) {
            bail!("machine_interval_ms: {machine_ms} is not within 200 to 600000");
        }
        let data =
            flags.data.or(file.data).context("no data folder: give --data DIR, or `data` in the configuration")?;
        Ok(Self {
            address: flags.address.or(file.address).unwrap_or_else(|| name.to_string()),
            name,
            data: std::path::absolute(&data).with_context(|| format!("data: {}", data.display()))?,
            managers,
            labels,
            shim: flags.shim.or(file.shim).map_or_else(shim_beside, Ok)?,
            supervision: flags.supervision.or(file.supervision).unwrap_or_default(),
            local_group: flags.local_group.or(file.local_group).map(|name| group(&name)).transpose()?,
            stray: flags.stray.or(file.stray).unwrap_or_default(),
            metrics_listen: flags.metrics_listen.or(file.metrics_listen).map(|text| address(&text)).transpose()?,
            drills: flags.drills || file.drills.unwrap_or_default(),
            log: flags.log.or(file.log).unwrap_or_else(|| "info".into()),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            machine_interval: Duration::from_millis(machine_ms),
        })
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no configuration of minder-slave", path.display()))
}

fn machine_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("the machine's host name")?;
    Ok(name.to_string_lossy().into_owned())
}

fn group(name: &str) -> anyhow::Result<Gid> {
    let group = Group::from_name(name).with_context(|| format!("local_group: looking for {name}"))?;
    Ok(group.with_context(|| format!("local_group: there is no group {name}"))?.gid)
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found =
        text.to_socket_addrs().with_context(|| format!("metrics_listen: {text:?} is no address; write HOST:PORT"))?;
    found.next().with_context(|| format!("metrics_listen: {text:?} has no address"))
}

fn shim_beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this program lies")?;
    let shim = own.with_file_name("minder-shim");
    if !shim.exists() {
        bail!("there is no {}; install minder-shim beside minder-slave or name it with --shim", shim.display());
    }
    Ok(shim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, flags: &[&str]) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("slave.toml");
        std::fs::write(&path, file)?;
        let path = path.to_string_lossy().into_owned();
        let words = ["minder-slave", "--config", &path, "--shim", "/bin/true"].into_iter().chain(flags.iter().copied());
        Settings::resolve(Flags::try_parse_from(words)?)
    }

    #[test]
    fn flags_win_over_the_file() {
        let settings = resolve(
            "name = 'a'\ndata = '/d'\nmanagers = ['x:1']\n[labels]\nrole = 'web'",
            &["--name", "b", "--managers", "y:1,z:2", "--label", "zone=1"],
        )
        .unwrap();
        assert_eq!((settings.name.as_str(), settings.address.as_str()), ("b", "b"));
        assert_eq!(settings.managers, ["y:1", "z:2"]);
        assert_eq!(settings.labels.len(), 2);
        assert!(!settings.drills, "only on somebody's word");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let good = "name = 'a'\ndata = '/d'\nmanagers = ['x:1']\n";
        for (file, flags, expected) in [
            ("name = 'a'\ndata = '/d'", vec![], "no managers"),
            ("name = 'a'\nmanagers = ['x:1']", vec![], "no data folder"),
            ("name = 'a b'\ndata = '/d'\nmanagers = ['x:1']", vec![], "no host name"),
            (&format!("{good}nmae = 'b'"), vec![], "nmae"),
            (good, vec!["--label", "zone"], "KEY=VALUE"),
            (good, vec!["--metrics-listen", "nonsense"], "HOST:PORT"),
            (good, vec!["--local-group", "no-such-group"], "there is no group no-such-group"),
            (&format!("{good}heartbeat_interval_ms = 1"), vec![], "heartbeat_interval_ms"),
        ] {
            let error = format!("{:#}", resolve(file, &flags).unwrap_err());
            assert!(error.contains(expected), "{file:?} {flags:?}: {error}");
        }
    }
}
