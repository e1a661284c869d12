//! Who leads whom, as openraft's metrics tell it.

use minder_raft_store::TypeConfig;
use openraft::{RaftMetrics, async_runtime::WatchReceiver, errors::Fatal, type_config::alias::WatchReceiverOf};

use super::node::Node;

/// A manager of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Node id.
    pub id: u64,
    /// Where managers reach it.
    pub peer_address: String,
    /// Where users and slaves reach it.
    pub client_address: String,
    /// Whether it votes.
    pub voter: bool,
}

/// Whoever leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Node id.
    pub id: u64,
    /// Where users and slaves reach it.
    pub client_address: String,
    /// It is this manager.
    pub own: bool,
}

/// Who leads whom, as this manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Leader>,
    /// This manager leads, and has applied an entry of its own term: its state is as new as anybody's.
    pub leading: bool,
    /// All managers.
    pub managers: Vec<Member>,
}

/// Turns openraft's metrics into leadership, and its end into a reason for the process to end.
pub(super) async fn follow(node: Node, mut metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>) {
    let mut told = None;
    loop {
        {
            // Changes with every entry, so that nothing is built before it is known to matter.
            let now = metrics.borrow_watched();
            if let Err(fatal) = &now.running_state {
                return node.ended(fatal);
            }
            let matters = Some((now.current_term, now.current_leader, leads(&now), *now.membership_config.log_id()));
            if matters != told {
                told = matters;
                node.lead(leadership(&now));
            }
        }
        if metrics.changed().await.is_err() {
            return node.ended(&Fatal::Stopped);
        }
    }
}

fn leadership(metrics: &RaftMetrics<TypeConfig>) -> Leadership {
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let managers = membership.nodes().map(|(id, node)| Member {
        id: *id,
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        voter: voters.contains(id),
    });
    let leader = metrics.current_leader.and_then(|id| {
        let node = membership.get_node(&id)?;
        Some(Leader { id, client_address: node.client_address.clone(), own: id == metrics.id })
    });
    Leadership {
        term: metrics.current_term,
        leading: leads(metrics) && leader.is_some(),
        leader,
        managers: managers.collect(),
    }
}

fn leads(metrics: &RaftMetrics<TypeConfig>) -> bool {
    let own_entry_applied =
        metrics.last_applied.as_ref().is_some_and(|applied| applied.leader_id.term == metrics.current_term);
    metrics.state.is_leader() && own_entry_applied && metrics.current_leader == Some(metrics.id)
}
