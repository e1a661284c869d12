//! Giving leadership away: on request, and before this manager stops.

use std::time::Duration;

use minder_raft_store::TypeConfig;
use openraft::{Instant, RaftMetrics};

use super::{
    error::TransferError,
    leadership::{Leadership, Member},
    node::Node,
};

/// A transfer takes milliseconds. When the target fails in the middle, an ordinary election takes a second.
pub(super) const TRANSFER_DEADLINE: Duration = Duration::from_secs(3);
/// A stopping process tries for this long; its peers can elect without its help in less.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

impl Node {
    /// Gives leadership to `to`, or to the voter that is furthest in step. Returns who leads then.
    pub async fn transfer(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let raft = self.raft().ok_or(TransferError::NotLeader)?;
        let mut leadership = self.leadership();
        let now = leadership.borrow_and_update().clone();
        let metrics = self.metrics().filter(|_| now.leading).ok_or(TransferError::NotLeader)?;
        let target = match to {
            Some(own) if own == metrics.id => return Ok(own),
            Some(to) => self.check_target(&now, &metrics, to)?,
            None => self.furthest_voter(&now, &metrics).ok_or_else(|| {
                TransferError::Refused("there is no other manager that answers and could lead".into())
            })?,
        };
        raft.trigger().transfer_leader(target).await.map_err(|_| TransferError::NotLeader)?;
        let moved = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|leader| leader.id == target));
        match tokio::time::timeout(TRANSFER_DEADLINE, moved).await {
            Ok(Ok(_)) => Ok(target),
            Ok(Err(_)) | Err(_) => Err(TransferError::NotInTime(target)),
        }
    }

    /// Before a stop in order: a leader gives its leadership away. It goes on following, and passing calls on.
    pub async fn hand_over(&self) {
        if !self.leadership().borrow().leading {
            return;
        }
        match tokio::time::timeout(STOP_DEADLINE, self.transfer(None)).await {
            Ok(Ok(to)) => tracing::info!(to, "leadership given away before stopping"),
            Ok(Err(error)) => tracing::info!(%error, "stopping without a transfer of leadership"),
            Err(_) => tracing::info!("stopping without a transfer of leadership: nobody took it in time"),
        }
    }

    /// Stops taking part.
    pub async fn shutdown(&self) {
        self.begin_to_stop();
        let Some(raft) = self.raft() else { return };
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
    }

    /// A leader that transfers sends no heartbeats any more: to somebody who does not answer, that would only cost an
    /// election.
    fn check_target(&self, now: &Leadership, metrics: &RaftMetrics<TypeConfig>, to: u64) -> Result<u64, TransferError> {
        let member = now.managers.iter().find(|member| member.id == to).ok_or(TransferError::NoSuchManager(to))?;
        if !member.voter {
            return Err(TransferError::Refused(format!("manager {to} does not vote, so it cannot lead")));
        }
        if !self.answers(metrics, member) {
            return Err(TransferError::Refused(format!("manager {to} does not answer, so it cannot lead now")));
        }
        Ok(to)
    }

    fn furthest_voter(&self, now: &Leadership, metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
        let others = now.managers.iter().filter(|member| member.voter && member.id != metrics.id);
        let matched = |member: &&Member| {
            let replication = metrics.replication.as_ref()?;
            replication.get(&member.id)?.as_ref().map(|log_id| log_id.index)
        };
        others.filter(|member| self.answers(metrics, member)).max_by_key(matched).map(|member| member.id)
    }

    /// Whether it acknowledged something within the time in which a follower keeps believing in its leader.
    pub(super) fn answers(&self, metrics: &RaftMetrics<TypeConfig>, member: &Member) -> bool {
        let acknowledged = metrics.heartbeat.as_ref().and_then(|acknowledged| *acknowledged.get(&member.id)?);
        acknowledged.is_some_and(|at| at.elapsed() < self.belief())
    }
}
