//! A manager whose folder was restored or recovered: it holds the state of a cluster that is yet to begin. `init` at this
//! manager begins it; until then it takes part in nothing.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use minder_model::ClusterId;
use minder_raft_store::{Identity, ManagerNode};
use minder_state::{BackupHeader, State};

use super::node::Node;

impl Node {
    /// Whether this manager's state waits for its cluster to begin.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.identity().is_none() && self.store().published().applied.is_some()
    }

    /// The cluster that begins with an `init` at this manager, if it is a rebuilt one.
    pub(super) fn rebuilt_cluster(&self) -> Option<ClusterId> {
        let state = self.snapshot_state().0;
        state.cluster().filter(|_| self.is_rebuilt()).map(|cluster| cluster.id.clone())
    }

    pub(super) fn check_not_rebuilt(&self) -> anyhow::Result<()> {
        if self.is_rebuilt() {
            bail!("this manager holds the state of a cluster that is to be rebuilt: say `init` at this manager itself");
        }
        Ok(())
    }

    /// Whether the cluster has its name and, when it was rebuilt, a quorum that holds what it begins with: the first
    /// entry of a leader is committed.
    pub(super) fn is_named(&self) -> bool {
        let (state, revision) = self.snapshot_state();
        let begins_after = |cluster: &minder_state::ClusterRecord| cluster.rebuilt.as_ref().map(|from| from.since);
        state.cluster().is_some_and(|cluster| begins_after(cluster).is_none_or(|since| revision > since))
    }

    /// Begins the rebuilt cluster with these managers, all of which have been adopted but this one. They get the state
    /// from this one as a snapshot.
    pub(super) async fn begin_rebuilt(
        &self,
        identity: Identity,
        managers: &BTreeMap<u64, ManagerNode>,
    ) -> anyhow::Result<()> {
        let _one_at_a_time = self.inner.adopting.lock().await;
        let taken = crate::lock(&self.inner.parts).take();
        let (log, mut machine) = taken.context("this manager takes part already")?;
        let set = machine.set_managers(managers).await;
        *crate::lock(&self.inner.parts) = Some((log, machine));
        set.context("the managers of the new cluster cannot be stored")?;
        self.store().set_identity(&identity)?;
        self.start(identity).await
    }

    /// The table as of now, by structural sharing, and what a backup of it says of itself. `None` without a cluster.
    pub fn backup(&self, now_ms: u64) -> Option<(BackupHeader, State)> {
        let published = self.store().published();
        let term = published.applied.as_ref().map_or(0, |applied| applied.leader_id.term);
        let version = env!("CARGO_PKG_VERSION");
        let header = BackupHeader::of(&published.state, published.revision(), term, version, now_ms)?;
        Some((header, published.state))
    }
}
