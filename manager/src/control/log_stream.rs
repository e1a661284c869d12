//! Output of many instances as one stream, each piece marked with its instance.

use std::sync::Arc;

use minder_model::{HostName, InstanceKey, InstanceRef};
use minder_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, linearize, wire};
use crate::core::Core;

/// Instances one call may follow: each costs a stream on its slave.
const INSTANCES_MAX: usize = 200;
/// Pieces waiting for the reader of all of them.
const QUEUE: usize = 16;
/// Past lines a request may ask for of each instance.
const TAIL_LINES_MAX: u32 = 100_000;

type Sender = mpsc::Sender<Result<v1::LogChunk, Status>>;

pub async fn logs(core: &Arc<Core>, request: v1::LogsRequest) -> Result<Answers<v1::LogChunk>, Status> {
    let selection = wire::selection(request.selection.clone(), false)?;
    if !matches!(request.stream.as_str(), "" | "stdout" | "stderr") {
        return Err(Status::invalid_argument(format!("stream: {:?} is neither stdout nor stderr", request.stream)));
    }
    if request.tail_lines > TAIL_LINES_MAX {
        return Err(Status::invalid_argument(format!("tail_lines: is above the limit of {TAIL_LINES_MAX}")));
    }
    linearize(core).await?;
    let (state, _) = core.node.snapshot_state();
    let instances: Vec<InstanceRef> = state.selected(&selection).map(|(instance, _)| instance).collect();
    if instances.is_empty() {
        return Err(Status::not_found("nothing matches the selection"));
    }
    if instances.len() > INSTANCES_MAX {
        let count = instances.len();
        return Err(Status::failed_precondition(format!(
            "{count} instances match, the limit of one call is {INSTANCES_MAX}; narrow the selection"
        )));
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    for instance in instances {
        tokio::spawn(pump(core.clone(), instance, request.clone(), sender.clone()));
    }
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Orders one instance's output and passes it on until either side ends.
async fn pump(core: Arc<Core>, instance: InstanceRef, request: v1::LogsRequest, sender: Sender) {
    let Some(session) = core.fleet.session(&instance.host) else {
        let problem = format!("host {} has no session with the leader", instance.host);
        // A reader that is gone needs no word.
        let _ = sender
            .send(Ok(chunk(&instance.host, &instance.key, v1::LogPush { error: problem, ..Default::default() })))
            .await;
        return;
    };
    let (id, mut pushes) = core.logs.expect();
    let order = v1::LogOrder {
        id: id.clone(),
        process: instance.key.process.to_string(),
        index: instance.key.index,
        tail_lines: request.tail_lines,
        follow: request.follow,
        stream: request.stream,
    };
    let order = v1::ToSlave { message: Some(v1::to_slave::Message::Logs(order)) };
    if session.orders.send(Box::new(order)).await.is_err() {
        core.logs.forget(&id);
        return;
    }
    loop {
        // Both may be dropped at their await: the queue keeps what it holds, and a closed reader stays closed.
        let push = tokio::select! {
            push = pushes.recv() => push,
            () = sender.closed() => None,
            // The slave never answered, because its session ended first.
            () = session.orders.closed(), if core.logs.is_waiting(&id) => None,
        };
        let Some(push) = push else { break };
        if sender.send(Ok(chunk(&instance.host, &instance.key, push))).await.is_err() {
            break;
        }
    }
    core.logs.forget(&id);
    let stop = v1::ToSlave { message: Some(v1::to_slave::Message::LogsStop(v1::LogStop { id })) };
    // A full queue means a slave that reads nothing; its push ends with the dropped queue anyway.
    let _ = session.orders.try_send(Box::new(stop));
}

fn chunk(host: &HostName, key: &InstanceKey, push: v1::LogPush) -> v1::LogChunk {
    v1::LogChunk {
        instance: Some(wire::instance_name(host, key)),
        stream: push.stream,
        data: push.data,
        error: push.error,
        incarnation: push.incarnation,
    }
}
