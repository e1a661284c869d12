//! Timing and sizes of consensus, all settings, down to tens of milliseconds.

use std::sync::Arc;

use anyhow::{Context, bail};
use openraft::{Config, SnapshotPolicy};
use serde::Deserialize;

/// `[raft]` of the configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSettings {
    /// The leader tells everybody that it lives this often.
    pub heartbeat_interval_ms: u64,
    /// A follower that hears nothing for the longest election time-out, and then for a random time between the two,
    /// campaigns. So a killed leader costs about `max + random(min..max)`, two round trips and two syncs.
    pub election_timeout_min_ms: u64,
    /// See above.
    pub election_timeout_max_ms: u64,
    /// A snapshot is written each time the log has grown by this many entries.
    pub snapshot_every_entries: u64,
    /// A snapshot is written, too, each time the log has grown by this many MiB: large writes fill a disk long before
    /// they are many.
    pub snapshot_every_mib: u64,
    /// At most this many MiB of entries are kept behind a snapshot.
    pub keep_mib: u64,
    /// Entries kept behind a snapshot, so that a manager that was away for a short while needs none.
    pub keep_entries: u64,
    /// MiB of writes that may wait for their commit; more are told to come back.
    pub writes_in_flight_mib: usize,
}

impl Default for RaftSettings {
    /// For managers on one local network with ordinary disks: five beats may be lost before anybody doubts the leader,
    /// and the next acknowledged write comes 0.5 to 0.7 s after a `kill -9` (`manager/tests/raft_failover.rs` measures
    /// both, on a busy machine too).
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 50,
            election_timeout_min_ms: 200,
            election_timeout_max_ms: 300,
            snapshot_every_entries: 100_000,
            snapshot_every_mib: 256,
            keep_mib: 64,
            keep_entries: 10_000,
            // Each is in memory several times until it is applied, and this much of ordinary writes is more than their
            // number allows.
            writes_in_flight_mib: 64,
        }
    }
}

impl RaftSettings {
    /// Refuses what cannot work, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.heartbeat_interval_ms < 10 || self.heartbeat_interval_ms * 2 > self.election_timeout_min_ms {
            bail!(
                "raft.heartbeat_interval_ms ({}) must be at least 10 and at most half of raft.election_timeout_min_ms ({})",
                self.heartbeat_interval_ms,
                self.election_timeout_min_ms
            );
        }
        if self.election_timeout_min_ms >= self.election_timeout_max_ms {
            bail!(
                "raft.election_timeout_min_ms ({}) must be below raft.election_timeout_max_ms ({}), so that managers do not campaign in step",
                self.election_timeout_min_ms,
                self.election_timeout_max_ms
            );
        }
        if !(5..=1_024).contains(&self.writes_in_flight_mib) {
            bail!(
                "raft.writes_in_flight_mib ({}) must be within 5 and 1024: one write may have 4 MiB",
                self.writes_in_flight_mib
            );
        }
        if self.snapshot_every_entries == 0 {
            bail!("raft.snapshot_every_entries must not be 0");
        }
        if self.snapshot_every_mib == 0 || self.keep_mib > self.snapshot_every_mib {
            bail!(
                "raft.snapshot_every_mib ({}) must not be 0, and raft.keep_mib ({}) not above it",
                self.snapshot_every_mib,
                self.keep_mib
            );
        }
        Ok(())
    }

    /// openraft's form of it. What is not a setting of Minder's stands here with its reason.
    pub(super) fn config(&self) -> anyhow::Result<Arc<Config>> {
        let config = Config {
            cluster_name: "minder".into(),
            heartbeat_interval: self.heartbeat_interval_ms,
            election_timeout_min: self.election_timeout_min_ms,
            election_timeout_max: self.election_timeout_max_ms,
            // A manager that comes back must not depose a leader that works.
            enable_pre_vote: Some(true),
            // A leader that restarts within its lease could serve a state that lost its unsynced end.
            enable_leader_restore: Some(false),
            max_payload_entries: 1_024,
            max_append_entries: Some(4_096),
            // A queue ahead of the core only hides overload; proposals are bounded before it.
            api_batch_linger_ms: 0,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // Must be above what one snapshot interval lets a follower lag, or it would be sent snapshots for ever.
            replication_lag_threshold: self.snapshot_every_entries.saturating_mul(2).saturating_add(self.keep_entries),
            // Only advice; the transfer itself has a deadline per piece.
            install_snapshot_timeout: 10_000,
            allow_log_reversion: None,
            ..Config::default()
        };
        Ok(Arc::new(config.validate().context("raft settings")?))
    }
}
