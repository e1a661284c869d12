use clap::Args;
use minder_client::{Write, v1};
use v1::OrderKind;

use super::{revision, show_write};
use crate::{
    confirm::confirm,
    context::{Context, some},
    failure::{DONE, Failure},
    flags::{self, Change, Select},
    waiting::{self, Goal, wait},
};

/// Do this to the selected instances; the managers remember it
#[derive(Debug, Args)]
pub struct Order {
    #[command(flatten)]
    pub select: Select,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub wait: flags::Wait,
}

/// Send a signal to the selected instances, once
#[derive(Debug, Args)]
pub struct Signal {
    /// Name or number, such as HUP or 1
    #[arg(value_parser = minder_model::Signal::parse)]
    pub signal: minder_model::Signal,
    #[command(flatten)]
    pub order: Order,
}

pub async fn run(context: &Context, kind: OrderKind, command: Order) -> Result<u8, Failure> {
    give(context, kind, 0, command, true).await
}

pub async fn signal(context: &Context, command: Signal) -> Result<u8, Failure> {
    give(context, OrderKind::Signal, command.signal.number().unsigned_abs(), command.order, false).await
}

async fn give(context: &Context, kind: OrderKind, signal: u32, command: Order, waits: bool) -> Result<u8, Failure> {
    let selection = some(&command.select)?;
    let verb = verb(kind);
    confirm(context, verb, &selection, &command.change).await?;
    let reply = context.client.order(kind, signal, selection.clone(), &Write::from(&command.change)).await?;
    show_write(context, &reply, verb)?;
    if reply.dry_run || !waiting::wanted(&command.wait, waits) {
        return Ok(DONE);
    }
    let goal = match kind {
        OrderKind::Signal | OrderKind::Reload => Goal::Told,
        OrderKind::Start | OrderKind::Stop | OrderKind::Restart | OrderKind::Retry | OrderKind::Unspecified => {
            Goal::Settled
        }
    };
    wait(context, selection, revision(&reply), goal, context.wait_limit).await
}

fn verb(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Start => "start",
        OrderKind::Stop => "stop",
        OrderKind::Restart => "restart",
        OrderKind::Retry => "retry",
        OrderKind::Signal => "signal",
        OrderKind::Reload => "reload",
        OrderKind::Unspecified => "do nothing to",
    }
}
