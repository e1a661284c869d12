use clap::Args;
use minder_client::{Write, v1};

use super::show_write;
use crate::{
    confirm::confirm,
    context::Context,
    failure::{DONE, Failure},
    flags::Change,
};

/// Forget processes; what runs of them is stopped
#[derive(Debug, Args)]
pub struct Delete {
    /// Names of processes
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

pub async fn run(context: &Context, command: Delete) -> Result<u8, Failure> {
    for name in &command.names {
        minder_model::ProcessName::new(name.clone()).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let selection = v1::Selection { terms: command.names.clone(), ..Default::default() };
    // A process without instances touches nothing, so there is nothing to ask about.
    let found = context.client.processes(selection.clone(), false).await?.processes;
    if found.iter().any(|process| !process.hosts.is_empty()) {
        confirm(context, "delete", &selection, &command.change).await?;
    }
    let reply = context.client.delete(command.names, &Write::from(&command.change)).await?;
    show_write(context, &reply, "deleted")?;
    Ok(DONE)
}
