//! Promise 6: all managers at the same index have the same state, whether they applied every entry, loaded rows from their
//! disk or installed a snapshot.

use minder_state::{Reply, StateHash};

use super::acknowledged::request_number;
use crate::world::World;

/// The hash that the first manager had at each index.
#[derive(Debug, Default)]
pub struct SameState(Vec<Option<StateHash>>);

impl World {
    /// A manager stands at an index.
    pub fn judge_applied(&mut self, manager: usize, index: u64, hash: StateHash, reply: Option<&Reply>) {
        let hashes = &mut self.oracles.same_state.0;
        let at = index as usize;
        if hashes.len() <= at {
            hashes.resize(at + 1, None);
        }
        let first = *hashes[at].get_or_insert(hash);
        if first != hash {
            let what = format!("manager {manager} has state {hash} at index {index}, another one had {first}");
            self.fail(6, what);
        }
        let proposal = self.agreement.log.get(at - 1).and_then(|entry| entry.proposal.clone());
        if let (Some(proposal), Some(reply)) = (proposal, reply) {
            self.judge_reply(manager, index, request_number(&proposal), reply);
        }
    }
}
