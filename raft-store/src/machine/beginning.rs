//! A machine that becomes a given state instead of applying its way there: the beginning of a rebuilt cluster.

use std::{collections::BTreeMap, io};

use minder_state::State;
use openraft::{RaftSnapshotBuilder, storage::RaftStateMachine};

use super::{Builder, Machine, Published};
use crate::types::{ManagerNode, Membership, SnapshotMeta, StoredMembership};

impl Machine {
    /// Gives a rebuilt folder, which is nobody's yet, the managers of its new cluster.
    pub async fn set_managers(&mut self, managers: &BTreeMap<u64, ManagerNode>) -> io::Result<()> {
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let Published { state, applied, .. } = self.shared.read().clone();
        let last = applied.ok_or_else(|| invalid("an empty folder has no state to begin with".into()))?;
        let voters = managers.keys().copied().collect();
        let membership = Membership::new(vec![voters], managers.clone()).map_err(|error| invalid(error.to_string()))?;
        let last_membership = StoredMembership::new(Some(last), membership);
        self.become_state(state, SnapshotMeta { last_log_id: Some(last), last_membership }).await
    }

    /// Makes this state the whole content, as a snapshot from another manager would.
    pub(crate) async fn become_state(&mut self, state: State, meta: SnapshotMeta) -> io::Result<()> {
        let becoming = Published { state, applied: meta.last_log_id, membership: meta.last_membership.clone() };
        let mut builder = Builder { captured: Some(Ok(becoming)), snapshots: self.snapshots.clone() };
        let built = builder.build_snapshot().await?;
        self.install_snapshot(&meta, built.snapshot).await
    }
}
