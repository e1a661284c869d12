//! What happened in the fleet.

use std::sync::Arc;

use minder_model::{HostName, InstanceKey, InstanceRef, ProcessName, Selection};
use minder_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, wire};
use crate::core::Core;

/// Events waiting for one reader; a slower one skips what the ring forgets meanwhile.
const QUEUE: usize = 64;
/// Past events unless the request says how many.
const TAIL_DEFAULT: usize = 100;

pub fn events(core: &Arc<Core>, request: v1::EventsRequest) -> Result<Answers<v1::Event>, Status> {
    let selection = wire::selection(request.selection, true)?;
    let tail = match (request.only_new, request.tail) {
        (true, _) => 0,
        (false, 0) => TAIL_DEFAULT,
        (false, tail) => tail as usize,
    };
    // What comes from here on is new to whoever has this stream, also before the task below has begun.
    let newest = core.fleet.events.newest();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let past = core.fleet.events.after(0);
    tokio::spawn(follow(core.clone(), selection, (past, newest), tail, request.follow, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn follow(
    core: Arc<Core>,
    selection: Selection,
    ((past, mut seen), mut newest): ((Vec<v1::Event>, u64), watch::Receiver<u64>),
    tail: usize,
    follow: bool,
    sender: mpsc::Sender<Result<v1::Event, Status>>,
) {
    let mut chosen: Vec<v1::Event> = past.into_iter().filter(|event| is_meant(&core, &selection, event)).collect();
    // Slaves send what they have when they come, so the ring is not in the order of time.
    chosen.sort_by_key(|event| event.time_ms);
    let mut batch = chosen.split_off(chosen.len().saturating_sub(tail));
    loop {
        for event in batch {
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if !follow {
            return;
        }
        // Both may be dropped at their await: the watch keeps its value.
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
        let (new, upto) = core.fleet.events.after(seen);
        seen = upto;
        batch = new.into_iter().filter(|event| is_meant(&core, &selection, event)).collect();
    }
}

/// Events of a host itself are meant by whoever asks for everything or for that host.
fn is_meant(core: &Core, selection: &Selection, event: &v1::Event) -> bool {
    if *selection == Selection::all() {
        return true;
    }
    let Ok(host) = HostName::new(event.host.clone()) else { return false };
    match ProcessName::new(event.process.clone()) {
        Err(_) => selection.matches_host(&host),
        Ok(process) => {
            let labels = core.node.look(|state| state.process(&process).map(|record| record.spec.labels.clone()));
            let labels = labels.unwrap_or_default();
            selection.matches(&InstanceRef { host, key: InstanceKey::new(process, event.index.max(1)) }, &labels)
        }
    }
}
