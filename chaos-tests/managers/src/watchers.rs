//! Watchers, who see every change once and in order, at one manager after the other.

use std::{sync::Arc, time::Duration};

use minder_chaos_tests::oracle::watch::{Change, Event, Watched};
use minder_proto::v1;
use minder_sim::Chance;
use tonic::{Code, Streaming};

use crate::{
    callers::row,
    shared::{PREFIX, Shared},
};

/// A watch that says nothing for so long is opened elsewhere: progress is told every second.
const SILENT: Duration = Duration::from_millis(2_500);
const AGAIN: Duration = Duration::from_millis(40);

/// Watches from the beginning until it has seen everything, and resumes where it stood; where that is forgotten, it lists.
pub async fn watch(shared: Arc<Shared>, number: usize, mut chance: Chance) {
    shared.until_formed().await;
    let (mut after, mut at, mut list) = (0, number, false);
    while !shared.has_seen_all(after) {
        let mut watched = Watched { client: number as u64, after, listed: None, events: Vec::new() };
        at += 1;
        if list {
            let Some((revision, rows)) = read_all(&shared, at).await.filter(|(revision, _)| *revision >= after) else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            (watched.after, watched.listed, after) = (revision, Some(rows), revision);
        }
        // Some leave early, so that there is more resuming.
        let leave = chance.percent(50).then(|| Duration::from_millis(chance.of(100..4_000)));
        list = watch_at(&shared, at, &mut watched, leave).await;
        after = watched.events.iter().rev().find(|event| !event.more).map_or(after, |event| event.revision);
        // What came of a revision that is not whole comes again.
        watched.events.retain(|event| event.revision <= after);
        if !watched.events.is_empty() || watched.listed.is_some() {
            shared.keep_watch(watched);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Until the manager ends it, says nothing for too long, or the watcher leaves; `true` when it cannot go on where it stood.
async fn watch_at(shared: &Shared, at: usize, watched: &mut Watched, leave: Option<Duration>) -> bool {
    let Ok(mut control) = shared.control(at) else { return false };
    let opened = control.watch(v1::WatchRequest { after_revision: watched.after });
    match tokio::time::timeout(SILENT, opened).await {
        Ok(Ok(reply)) => {
            let follow = follow(shared, reply.into_inner(), watched);
            match leave {
                Some(leave) => tokio::time::timeout(leave, follow).await.unwrap_or(false),
                None => follow.await,
            }
        }
        Ok(Err(status)) => status.code() == Code::OutOfRange,
        Err(_) => false,
    }
}

async fn follow(shared: &Shared, mut stream: Streaming<v1::WatchEvent>, watched: &mut Watched) -> bool {
    let mut seen = watched.after;
    while !shared.has_seen_all(seen) {
        match tokio::time::timeout(SILENT, stream.message()).await {
            Ok(Ok(Some(event))) => {
                seen = if event.more { seen } else { event.revision };
                watched.events.push(event_of(event));
            }
            Ok(Err(status)) => return status.code() == Code::OutOfRange,
            Ok(Ok(None)) | Err(_) => return false,
        }
    }
    false
}

async fn read_all(shared: &Shared, at: usize) -> Option<(u64, Vec<minder_chaos_tests::history::Row>)> {
    let mut control = shared.control(at).ok()?;
    let selection = Some(v1::Selection { all: true, ..Default::default() });
    let request = v1::GetProcessesRequest { selection, options: None };
    let reply = tokio::time::timeout(SILENT, control.get_processes(request)).await.ok()?.ok()?.into_inner();
    let rows = reply.processes.iter().filter_map(row).collect();
    Some((reply.position?.revision, rows))
}

/// Only what clients write is of interest: nobody else's changes are in the history.
fn event_of(event: v1::WatchEvent) -> Event {
    let progress = matches!(event.change, Some(v1::watch_event::Change::Progress(_)));
    let change = match event.change {
        Some(v1::watch_event::Change::ProcessPut(process)) => row(&process).map(Change::Put),
        Some(v1::watch_event::Change::ProcessDeleted(name)) => Some(Change::Deleted(name)),
        _ => None,
    };
    let change = change.filter(|change| match change {
        Change::Put(row) => row.process.starts_with(PREFIX),
        Change::Deleted(name) => name.starts_with(PREFIX),
    });
    Event { revision: event.revision, change, progress, more: event.more }
}
