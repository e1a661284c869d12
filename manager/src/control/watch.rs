//! Watches of the desired state: every change after a revision, each exactly once and in order, from any manager.

use std::{sync::Arc, time::Duration};

use minder_model::Revision;
use minder_proto::v1;
use minder_state::Change;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, hosts, processes};
use crate::{
    core::Core,
    history::{Compacted, Step},
};

/// Events waiting for one watcher. A slower one falls behind in the ring, at no cost to anybody, until it is told so.
const QUEUE: usize = 64;
/// A watcher hears at least this often up to where nothing changed for it.
const PROGRESS: Duration = Duration::from_secs(1);

type Sender = mpsc::Sender<Result<v1::WatchEvent, Status>>;

pub fn watch(core: &Arc<Core>, request: v1::WatchRequest) -> Result<Answers<v1::WatchEvent>, Status> {
    let after = Revision(request.after_revision);
    core.history.after(after).map_err(|compacted| out_of_range(after, &compacted))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(follow(core.clone(), after, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Sends step after step until the watcher is gone or has fallen out of the ring.
async fn follow(core: Arc<Core>, mut after: Revision, sender: Sender) {
    let mut newest = core.history.newest();
    loop {
        newest.mark_unchanged();
        let (steps, reached) = match core.history.after(after) {
            Ok(found) => found,
            Err(compacted) => {
                // The watcher is told if it still takes anything; it resumes by listing in any case.
                let _ = sender.send(Err(out_of_range(after, &compacted))).await;
                return;
            }
        };
        for event in steps.iter().flat_map(events) {
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        let told = steps.last().map_or(after, |step| step.revision);
        if reached > told && sender.send(Ok(progress(reached))).await.is_err() {
            return;
        }
        // A manager that lags behind the one before may not have come so far yet.
        after = reached.max(after);
        // Both may be dropped at their await: the watch keeps its value.
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PROGRESS) => {}
            () = sender.closed() => return,
        }
    }
}

fn events(step: &Step) -> Vec<v1::WatchEvent> {
    use v1::watch_event::Change as Wire;
    let last = step.changes.len().saturating_sub(1);
    let change = |change: &Change| match change {
        Change::ProcessPut(record, hosts) => Wire::ProcessPut(processes::to_wire(record, hosts.iter())),
        Change::ProcessDeleted(name) => Wire::ProcessDeleted(name.to_string()),
        Change::HostPut(host, record) => Wire::HostPut(hosts::record_to_wire(host, record)),
        Change::HostDeleted(host) => Wire::HostDeleted(host.to_string()),
    };
    let event = |(at, one): (usize, &Change)| v1::WatchEvent {
        revision: step.revision.0,
        change: Some(change(one)),
        more: at < last,
    };
    step.changes.iter().enumerate().map(event).collect()
}

fn progress(revision: Revision) -> v1::WatchEvent {
    v1::WatchEvent { revision: revision.0, change: Some(v1::watch_event::Change::Progress(true)), more: false }
}

fn out_of_range(after: Revision, compacted: &Compacted) -> Status {
    Status::out_of_range(format!(
        "changes after revision {after} are not kept any more, only those after {}; list again and watch from the list's revision",
        compacted.kept_after
    ))
}
