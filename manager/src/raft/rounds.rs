//! Quorum rounds shared by everybody who waits for one: a round proves leadership to all who came before it began, and
//! whoever comes while it is under way shares the next one. So a thousand readers ask the consensus core as often as one
//! that asks again and again.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use minder_model::Revision;
use openraft::{
    errors::{LinearizableReadError, RaftError},
    raft::ReadPolicy,
};
use tokio::sync::{Notify, oneshot};

use super::{error::ReadError, node::Node};

/// A quorum round takes milliseconds; a leader that cannot finish one for this long cannot serve reads.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);

type Answer = Result<Revision, ReadError>;

/// Who waits for the next round.
#[derive(Default)]
pub(super) struct Rounds {
    waiting: Mutex<Vec<oneshot::Sender<Answer>>>,
    somebody: Notify,
}

impl Rounds {
    fn take(&self) -> Vec<oneshot::Sender<Answer>> {
        mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes rounds as long as somebody waits for one, for as long as the node lives.
pub(super) async fn make_rounds(node: Node) {
    loop {
        node.inner.rounds.somebody.notified().await;
        loop {
            let waiting = node.inner.rounds.take();
            if waiting.is_empty() {
                break;
            }
            let answer = node.round().await;
            for one in waiting {
                // One that waits no longer needs no answer.
                let _ = one.send(answer.clone());
            }
        }
    }
}

impl Node {
    /// Confirms leadership by a quorum round that begins after this call, and waits until everything that was committed
    /// before is applied here. The round is the only proof: leases are never trusted.
    pub async fn confirm(&self) -> Result<Revision, ReadError> {
        if self.raft().is_none() {
            return Err(ReadError::NoCluster);
        }
        let (told, answer) = oneshot::channel();
        let first = {
            let mut waiting = self.inner.rounds.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(told);
            waiting.len() == 1
        };
        if first {
            self.inner.rounds.somebody.notify_one();
        }
        // Whoever makes the rounds ends with the process.
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    async fn round(&self) -> Answer {
        let raft = self.raft().ok_or(ReadError::NoCluster)?;
        let confirmed = tokio::time::timeout(CONFIRM_DEADLINE, raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        match confirmed {
            Ok(Ok(read)) => Ok(Revision(read.index())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Err(ReadError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ReadError::NoQuorum(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoQuorum(format!("no answer within {CONFIRM_DEADLINE:?}"))),
        }
    }
}
