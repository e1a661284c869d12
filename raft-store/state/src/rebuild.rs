//! A new cluster from the state of another one.
//!
//! Log indexes go on far above those of the predecessor instead of beginning anew: revisions fence what hosts take, and
//! orders are compared by them, so one that was given twice would be a command that nobody follows.

use core::fmt;

use minder_model::{ClusterId, Revision, encode};

use crate::{
    hash::RowHash,
    record::{ClusterRecord, Rebuilt},
    row::Key,
    state::State,
};

/// How far revisions jump. The predecessor may have gone on after the backup: at 10,000 writes a second this is eleven
/// days of it.
const REVISION_JUMP: u64 = 10_000_000_000;

/// How far terms jump, for the same reason: slaves that run listen to the latest term. A term is an election.
pub const TERM_JUMP: u64 = 1_000_000;

/// Why a state cannot become a new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildError {
    /// It belongs to no cluster: nothing was ever written.
    NoCluster,
}

impl fmt::Display for RebuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster => f.write_str("it belongs to no cluster yet, so there is nothing to rebuild; say `init`"),
        }
    }
}

impl core::error::Error for RebuildError {}

impl State {
    /// Makes this state, which stands at `revision`, the beginning of the cluster `id`. Gives the revision that it
    /// stands at then.
    pub fn rebuild(&mut self, id: ClusterId, revision: Revision, at_ms: u64) -> Result<Revision, RebuildError> {
        let before = self.cluster.take().ok_or(RebuildError::NoCluster)?;
        let since = Revision(revision.0.saturating_add(REVISION_JUMP));
        let key = Key::Cluster.to_bytes();
        self.hash.remove(RowHash::of(&key, &encode(&before)));
        let rebuilt = Rebuilt { predecessor: before.id, revision, since };
        let record = ClusterRecord { id, created_at_ms: at_ms, rebuilt: Some(rebuilt), version: before.version };
        self.hash.add(RowHash::of(&key, &encode(&record)));
        self.cluster = Some(record);
        Ok(since)
    }

    /// The revision that everything is assigned anew at; 0 in a cluster that was not rebuilt.
    pub(crate) fn rebuilt_at(&self) -> Revision {
        let rebuilt = self.cluster.as_ref().and_then(|cluster| cluster.rebuilt.as_ref());
        rebuilt.map_or(Revision::ZERO, |rebuilt| rebuilt.since)
    }
}
