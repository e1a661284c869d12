//! Who asks for votes in a term. At most one of them leads in it, as in the Raft paper.

use std::{cmp::Ordering, fmt};

use openraft::{
    impls::leader_id_adv,
    vote::{LeaderIdCompare, RaftLeaderId},
};

/// Who leads, as log entries name it. Of one term all entries are one leader's, so that the order by the manager's id
/// never decides anything.
pub type CommittedLeaderId = leader_id_adv::LeaderId<u64, u64>;

/// A manager that leads in a term, or would like to.
///
/// Two of one term have no order, so whoever has voted for the one never votes for the other. openraft's own default
/// orders them by node id and lets a second manager take a term over; its type for one leader a term leaves the node out
/// of log ids, and with it out of what is stored and sent. This one has the paper's rule and keeps both formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderId {
    /// The term.
    pub term: u64,
    /// The manager.
    pub node_id: u64,
}

impl RaftLeaderId for LeaderId {
    type Term = u64;
    type NodeId = u64;
    type Committed = CommittedLeaderId;

    fn new(term: u64, node_id: u64) -> Self {
        Self { term, node_id }
    }

    fn term(&self) -> u64 {
        self.term
    }

    fn node_id(&self) -> &u64 {
        &self.node_id
    }

    fn to_committed(&self) -> CommittedLeaderId {
        CommittedLeaderId { term: self.term, node_id: self.node_id }
    }
}

impl PartialOrd for LeaderId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        LeaderIdCompare::std(self, other)
    }
}

impl PartialEq<CommittedLeaderId> for LeaderId {
    /// Never: whoever is granted a term is more than whoever asks for it.
    fn eq(&self, _: &CommittedLeaderId) -> bool {
        false
    }
}

impl PartialOrd<CommittedLeaderId> for LeaderId {
    fn partial_cmp(&self, other: &CommittedLeaderId) -> Option<Ordering> {
        Some(self.term.cmp(&other.term).then(Ordering::Less))
    }
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-N{}", self.term, self.node_id)
    }
}

#[cfg(test)]
mod tests {
    use crate::Vote;

    #[test]
    fn one_manager_leads_in_a_term() {
        // Vote held, vote asked for: whether it is given.
        let table = [
            (Vote::new(7, 1), Vote::new(8, 2), true),
            (Vote::new(7, 1), Vote::new(7, 1), true),
            (Vote::new(7, 1), Vote::new(7, 2), false),
            (Vote::new(7, 2), Vote::new(7, 1), false),
            (Vote::new(7, 2), Vote::new(6, 3), false),
            (Vote::new_committed(7, 1), Vote::new(7, 2), false),
            // A leader is believed by whoever asked for the term in vain.
            (Vote::new(7, 2), Vote::new_committed(7, 1), true),
            (Vote::new_committed(7, 2), Vote::new_committed(7, 1), false),
            (Vote::new_committed(7, 2), Vote::new(8, 1), true),
        ];
        for (held, asked, given) in table {
            assert_eq!(asked >= held, given, "{asked} over {held}");
            // A folder that has kept what was asked for has lost what was held.
            let is_loss = held > asked;
            assert!(!(given && is_loss), "{held} is lost in {asked}");
        }
    }
}
