use clap::Args;

use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::Global,
    screen::put,
};

/// Show the version of minderctl, and of the managers with --managers
#[derive(Debug, Args)]
pub struct Version {
    /// Ask the managers as well
    #[arg(long)]
    pub managers: bool,
}

pub async fn run(global: &Global, command: &Version) -> Result<u8, Failure> {
    put(&format!("minderctl {}\n", env!("CARGO_PKG_VERSION")));
    if command.managers {
        for manager in Context::new(global)?.client.managers(false).await?.managers {
            let member = manager.member.unwrap_or_default();
            put(&format!("manager {} {} {}\n", member.id, member.client_address, manager.version));
        }
    }
    Ok(DONE)
}
