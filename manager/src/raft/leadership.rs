//! Who leads whom, as openraft's metrics tell it.

use minder_raft_store::{LogId, TypeConfig};
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
    // By the whole id: where managers of an earlier version vote, a second one may lead in a term, and an entry of that
    // term may be the first one's.
    let own = (metrics.current_term, metrics.id);
    let of = |applied: &LogId| (applied.leader_id.term, applied.leader_id.node_id);
    let own_entry_applied = metrics.last_applied.as_ref().is_some_and(|applied| of(applied) == own);
    metrics.state.is_leader() && own_entry_applied && metrics.current_leader == Some(metrics.id)
}

#[cfg(test)]
mod tests {
    use minder_raft_store::CommittedLeaderId;
    use openraft::ServerState;

    use super::*;

    /// Managers of an earlier version let two lead in one term, the second over the first.
    #[test]
    fn the_entry_of_another_leader_of_the_same_term_is_not_its_own() {
        let mut metrics = RaftMetrics::<TypeConfig>::new_initial(2);
        (metrics.current_term, metrics.current_leader, metrics.state) = (7, Some(2), ServerState::Leader);
        let entry = |term, node_id| Some(LogId::new(CommittedLeaderId { term, node_id }, 9));
        for ((term, node), expected) in [((6, 2), false), ((7, 1), false), ((7, 2), true)] {
            metrics.last_applied = entry(term, node);
            assert_eq!(leads(&metrics), expected, "an entry of manager {node} in term {term}");
        }
    }
}
