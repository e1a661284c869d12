//! A manager whose folder was emptied has lost its vote and its log: it must never take part under its old id, and whoever
//! runs it must know.
//!
//! It finds out by being called by an id that it knows nothing of. But so is a manager that was removed in good order and
//! started again with an empty folder, by a leader that was cut off meanwhile and has not heard of it. So to be called is no
//! proof, and who is empty only refuses. The caller then has its leadership confirmed by a majority; when the id still
//! belongs to a member after that, it says so, and the empty manager ends with what to do. Where there is no majority
//! nobody can say so, and it stays, says once that it is called, and refuses.

use std::{sync::atomic::Ordering, time::Duration};

use minder_proto::v1;
use minder_raft_store::ExitReason;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{error::Fatal, node::Node};

/// Between two words to the same effect: a quorum round for each refused heartbeat would be too many.
const INTERVAL: Duration = Duration::from_millis(500);
/// A peer answers within this or is told again.
const DEADLINE: Duration = Duration::from_secs(1);

/// Whether a peer refused a call because it is empty: [`Node::called_though_empty`].
pub(super) fn is_its_reason(refusal: &Status) -> bool {
    refusal.code() == Code::DataLoss
}

/// Tells peers that refused a call because they are empty, for as long as the node lives.
pub(super) async fn tell(node: Node, mut refusals: mpsc::Receiver<u64>) {
    while let Some(id) = refusals.recv().await {
        node.tell_emptied(id).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Node {
    async fn tell_emptied(&self, id: u64) {
        if self.confirm().await.is_err() {
            return;
        }
        // A change that leaves it out would be known here: this manager led a moment ago.
        let (Some(peers), Ok(members)) = (self.peers(), self.members()) else { return };
        if let Some(member) = members.get_node(&id)
            && let Err(status) = peers.tell_emptied(id, member, DEADLINE).await
        {
            tracing::debug!(peer = id, why = status.message(), "a manager with an empty folder was not told so");
        }
    }

    /// Somebody calls this manager by an id, but its folder knows of none. Gives what it is told.
    pub(super) fn called_though_empty(&self, addressing: &v1::Addressing) -> Status {
        // One that waits for its own init is neither empty nor lost; who calls is of the cluster before.
        if self.is_rebuilt() {
            return Status::failed_precondition("this manager holds the state of a cluster that is to be rebuilt");
        }
        let v1::Addressing { cluster_id, from, to } = addressing;
        let message = format!(
            "manager {from} of cluster {cluster_id} takes this one for manager {to}, but its data folder is empty"
        );
        if !self.inner.called_though_empty.swap(true, Ordering::Relaxed) {
            tracing::warn!("{message}; if manager {to} was not removed, its log is lost");
        }
        Status::data_loss(message)
    }

    /// A leader with a majority says that this manager belongs to its cluster.
    pub(super) fn is_missed(&self, addressing: &v1::Addressing) {
        if self.identity().is_some() || self.is_rebuilt() {
            return;
        }
        let v1::Addressing { cluster_id, to, .. } = addressing;
        self.fail(Fatal {
            exit_code: ExitReason::Emptied.code(),
            message: format!(
                "cluster {cluster_id} knows this address as manager {to}, but the data folder is empty: its log is lost, so \
                 it must not vote under that id. Remove manager {to} from the cluster, then add this one, which gives it a \
                 new id; if the folder was moved by mistake, point --data at it"
            ),
        });
    }
}
