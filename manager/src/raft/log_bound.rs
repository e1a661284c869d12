//! The log's bound in bytes, beside openraft's in entries: a snapshot when it has grown by so many, then a purge.

use std::time::Duration;

use minder_raft_store::Raft;
use openraft::async_runtime::WatchReceiver;

use super::{RaftSettings, node::Node};

/// The log is looked at this often: at the speed of a disk it grows by less than the floor of free space meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// How large the log may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogBound {
    /// A snapshot is written when so many bytes lie behind the last one.
    snapshot_bytes: u64,
    /// At most so many bytes stay before it.
    keep_bytes: u64,
}

impl From<&RaftSettings> for LogBound {
    fn from(settings: &RaftSettings) -> Self {
        Self { snapshot_bytes: settings.snapshot_every_mib << 20, keep_bytes: settings.keep_mib << 20 }
    }
}

/// Keeps the bound until consensus ends. What it asks for is done in openraft's own time and order.
pub(super) async fn keep_log_bound(node: Node, raft: Raft) {
    let mut asked_at = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let (ended, snapshot, applied, purged) = {
            let now = raft.metrics();
            let now = now.borrow_watched();
            let index = |log_id: Option<minder_raft_store::LogId>| log_id.map_or(0, |log_id| log_id.index);
            (now.running_state.is_err(), index(now.snapshot), index(now.last_applied), index(now.purged))
        };
        if ended {
            return;
        }
        let bound = node.inner.log_bound;
        // Asked for once: until it is written, asking again would only queue up.
        let due = node.store().entry_bytes_after(snapshot) > bound.snapshot_bytes && applied > snapshot;
        if due && asked_at != Some(snapshot) {
            asked_at = Some(snapshot);
            tracing::info!(bytes = node.store().entry_bytes(), applied, "the log is large: writing a snapshot");
            // An error means that consensus has ended, which the next look sees.
            let _ = raft.trigger().snapshot().await;
        }
        let large = node.store().entry_bytes() > bound.snapshot_bytes;
        let upto = node.store().log_excess(bound.keep_bytes).filter(|_| large).map(|upto| upto.min(snapshot));
        if let Some(upto) = upto.filter(|upto| *upto > purged) {
            let _ = raft.trigger().purge_log(upto).await;
        }
    }
}
