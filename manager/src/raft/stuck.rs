//! A leader that is alive but stuck gives leadership up: its heartbeats go on while its disk or its apply stands still,
//! so nobody else would ever doubt it.

use std::time::{Duration, Instant};

use openraft::RaftMetrics;

use minder_raft_store::TypeConfig;

use super::{belonging::membership, leadership::Leader, node::Node};

/// Between two looks of a leader; whoever does not lead has nothing to look at. Some looks fit into either patience.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A sync that takes this many times the longest election time-out is not slow any more. A disk that catches its breath
/// within that costs nothing: the others' syncs commit what is written meanwhile.
const SYNC_PATIENCE: u32 = 2;
/// Applying what is committed takes microseconds an entry; a table that is written out may take some of this.
const APPLY_PATIENCE: Duration = Duration::from_secs(2);
/// When all managers are stuck, giving up helps nobody: it is said this often, and tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A peer says within this whether it leads.
const ASK_DEADLINE: Duration = Duration::from_millis(500);

/// What was seen at the look before.
#[derive(Default)]
struct Seen {
    applied: Option<u64>,
    applied_since: Option<Instant>,
    /// Since when it is in trouble, and the last entry there was then.
    trouble: Option<u64>,
    tried: Option<Instant>,
}

/// Looks whenever the node leads, for as long as it lives.
pub(super) async fn watch(node: Node) {
    let mut seen = Seen::default();
    let mut leadership = node.leadership();
    loop {
        if leadership.wait_for(|now| now.leading).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        if !leadership.borrow().leading {
            seen = Seen::default();
            continue;
        }
        let Some(metrics) = node.metrics() else { continue };
        let Some(why) = node.trouble(&metrics, &mut seen) else {
            seen.trouble = None;
            continue;
        };
        // Whoever takes over must have acknowledged, since then, what this one cannot sync: else it is stuck as well.
        let Some(last) = seen.trouble else {
            seen.trouble = metrics.last_log_index;
            continue;
        };
        if seen.tried.is_none_or(|at| at.elapsed() > AGAIN) {
            seen.tried = Some(Instant::now());
            node.give_up(&metrics, last, &why).await;
        }
    }
}

impl Node {
    fn trouble(&self, metrics: &RaftMetrics<TypeConfig>, seen: &mut Seen) -> Option<String> {
        let index = |log_id: &Option<minder_raft_store::LogId>| log_id.as_ref().map(|log_id| log_id.index);
        let applied = index(&metrics.last_applied);
        if applied != seen.applied || applied >= index(&metrics.local_committed) {
            (seen.applied, seen.applied_since) = (applied, Some(Instant::now()));
        }
        let stands = seen.applied_since.map(|since| since.elapsed()).unwrap_or_default();
        if stands > APPLY_PATIENCE {
            return Some(format!("what is committed has not been applied for {stands:.1?}"));
        }
        let took = self.store().sync_under_way().filter(|took| *took > self.belief() * SYNC_PATIENCE)?;
        Some(format!("a sync of the log has taken {took:.1?} and is not done"))
    }

    /// Hands over to a voter that has everything up to `last`. From that moment on this manager serves nobody as a leader,
    /// however long its core may hang in the disk before it notices that somebody else leads.
    async fn give_up(&self, metrics: &RaftMetrics<TypeConfig>, last: u64, why: &str) {
        let now = self.leadership().borrow().clone();
        let has_all = |id: u64| {
            let replication = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
            (replication.index >= last).then_some(replication.index)
        };
        let able = now.managers.iter().filter(|member| {
            member.voter && member.id != metrics.id && has_all(member.id).is_some() && self.answers(metrics, member)
        });
        let Some(target) = able.max_by_key(|member| has_all(member.id)) else {
            tracing::error!(why, "this leader is stuck, and so is everybody who could take over; it goes on");
            return;
        };
        tracing::error!(why, to = target.id, "this leader is stuck; it gives its leadership up");
        let Some(raft) = self.raft() else { return };
        if raft.trigger().transfer_leader(target.id).await.is_err() {
            return;
        }
        self.resign(now.term, None);
        // Its own core may not be able to say who leads, so the others are asked.
        while self.metrics().is_some_and(|metrics| metrics.current_term == now.term) {
            for other in self.others() {
                let asked = tokio::time::timeout(ASK_DEADLINE, membership(&other.peer_address)).await;
                if asked.is_ok_and(|reply| reply.is_ok_and(|reply| reply.leads && reply.term > now.term)) {
                    tracing::info!(id = other.id, "another manager leads now");
                    let successor = Leader { id: other.id, client_address: other.client_address, own: false };
                    return self.resign(now.term, Some(successor));
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
