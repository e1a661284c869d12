//! Orders to instances: start, stop, restart, retry, signal.

use minder_model::Signal;
use minder_proto::v1;
use minder_state::{Command, Order, OrderKind};
use tonic::Status;

use super::{wire, write::write};
use crate::core::Core;

pub async fn order(core: &Core, request: v1::OrderRequest) -> Result<v1::WriteReply, Status> {
    let kind = match request.kind() {
        v1::OrderKind::Start => OrderKind::Start,
        v1::OrderKind::Stop => OrderKind::Stop,
        v1::OrderKind::Restart => OrderKind::Restart,
        v1::OrderKind::Retry => OrderKind::Retry,
        v1::OrderKind::Signal => OrderKind::Signal(signal(request.signal)?),
        v1::OrderKind::Reload => OrderKind::Reload,
        v1::OrderKind::Unspecified => {
            return Err(Status::invalid_argument(
                "kind: say what to do: start, stop, restart, retry, signal or reload",
            ));
        }
    };
    wire::selection(request.selection.clone(), false)?;
    let selection = request.selection.unwrap_or_default();
    let order = Order { terms: selection.terms, labels: selection.labels, all: selection.all, kind };
    write(core, request.options, Command::Order(order)).await
}

fn signal(number: u32) -> Result<Signal, Status> {
    Signal::from_number(i64::from(number))
        .ok_or_else(|| Status::invalid_argument(format!("signal: {number} is no signal, there are 1 to 64")))
}
