//! How this manager stands, in figures for people.

use std::sync::atomic::Ordering;

use minder_model::CommandVersion;
use minder_proto::v1;

use super::{node::Node, proposals::PROPOSALS_MAX};

impl Node {
    /// How this manager stands, for people.
    pub fn status(&self) -> v1::ManagerStatus {
        let published = self.store().published();
        let sync = self.store().sync_stats();
        // For people: what cannot be looked at shows as nothing.
        let sizes = self.store().sizes().unwrap_or_default();
        let base = v1::ManagerStatus {
            member: Some(v1::ManagerMember {
                id: self.identity().map_or(0, |identity| identity.manager.0),
                peer_address: self.addresses().peer.clone(),
                client_address: self.addresses().client.clone(),
            }),
            role: "no cluster".into(),
            applied_index: published.revision().0,
            state_hash: published.state.hash().to_string(),
            fsync_p50_us: sync.p50.as_micros() as u64,
            fsync_p99_us: sync.p99.as_micros() as u64,
            leader_changes: self.inner.leader_changes.load(Ordering::Relaxed),
            uptime_seconds: self.inner.started.elapsed().as_secs(),
            disk_free_bytes: self.disk_free_bytes(),
            log_bytes: sizes.log_bytes,
            snapshot_bytes: sizes.snapshot_bytes,
            snapshot_age_ms: sizes.snapshot_age.map(|age| age.as_millis() as u64),
            disk_total_bytes: sizes.disk_total_bytes,
            proposals_in_flight: self.proposals_in_flight() as u32,
            proposals_max: PROPOSALS_MAX as u32,
            instance: self.inner.instance.clone(),
            command_version: CommandVersion::NEWEST.to_wire(),
            ..Default::default()
        };
        let Some(metrics) = self.metrics() else { return base };
        let index = |log_id: &Option<minder_raft_store::LogId>| log_id.as_ref().map_or(0, |log_id| log_id.index);
        v1::ManagerStatus {
            role: if self.has_resigned(metrics.current_term) { "resigned" } else { role(metrics.state) }.into(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            committed_index: index(&metrics.local_committed),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            voter: metrics.membership_config.voter_ids().any(|id| id == metrics.id),
            ..base
        }
    }
}

fn role(state: openraft::ServerState) -> &'static str {
    match state {
        openraft::ServerState::Leader => "leader",
        openraft::ServerState::Follower => "follower",
        openraft::ServerState::Candidate => "candidate",
        openraft::ServerState::Learner => "learner",
        openraft::ServerState::Shutdown => "stopping",
    }
}
