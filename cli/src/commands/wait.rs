use clap::Args;

use crate::{
    context::{Context, some},
    failure::Failure,
    flags::Select,
    waiting::{Goal, wait},
};

/// Wait until the selected instances have done what they owe
#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    pub select: Select,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = Goal::Settled, value_name = "GOAL")]
    pub goal: Goal,
    /// Their hosts must have taken over at least this revision
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    pub revision: u64,
}

pub async fn run(context: &Context, command: Wait) -> Result<u8, Failure> {
    let selection = some(&command.select)?;
    let reply = context.client.instances(selection.clone()).await?;
    if reply.instances.is_empty() {
        return Err(Failure::nothing_matched(&selection));
    }
    wait(context, selection, command.revision, command.goal, context.wait_limit).await
}
