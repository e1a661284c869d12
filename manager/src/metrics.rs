//! What a manager shows to Prometheus. Everything is looked up when it is asked for; deploy/metrics.md lists it, and a test
//! compares the two.

use std::time::Duration;

use minder_model::Phase;
use minder_proto::{
    metrics::{Metric, process},
    v1,
};

use crate::{core::Core, fleet::Tally};

/// Everything of this manager.
pub fn page(core: &Core) -> Vec<Metric> {
    let status = core.node.status();
    let mut page = consensus(core, &status);
    page.extend(storage(core, &status));
    page.extend(fleet(&core.fleet.tally(), core.presences.count()));
    page.extend(process());
    page
}

fn consensus(core: &Core, status: &v1::ManagerStatus) -> Vec<Metric> {
    let leadership = core.node.leadership().borrow().clone();
    let indexes = [
        ("last", status.last_log_index),
        ("committed", status.committed_index),
        ("applied", status.applied_index),
        ("snapshot", status.snapshot_index),
        ("purged", status.purged_index),
    ];
    vec![
        Metric::by(
            "minder_manager_info",
            "1, with the version of the program",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1_u64)],
        ),
        Metric::gauge("minder_manager_is_leader", "1 while this manager leads", leadership.leading),
        Metric::gauge(
            "minder_manager_has_leader",
            "1 while this manager knows of a leader",
            leadership.leader.is_some(),
        ),
        Metric::gauge("minder_manager_is_voter", "1 while this manager votes", status.voter),
        Metric::gauge(
            "minder_manager_members",
            "Managers of the cluster, as this one knows",
            leadership.managers.len(),
        ),
        Metric::gauge("minder_manager_term", "Current term", status.term),
        Metric::counter(
            "minder_manager_leader_changes",
            "Changes of leader this manager has seen",
            status.leader_changes,
        ),
        Metric::by("minder_manager_log_index", "Where the log stands", "position", indexes),
        Metric::gauge(
            "minder_manager_proposals_in_flight",
            "Writes that wait for their commit on this manager as the leader",
            status.proposals_in_flight,
        ),
        Metric::counter(
            "minder_manager_refused_busy",
            "Calls that were told to come back because too much was under way",
            core.places.refused(),
        ),
        Metric::gauge(
            "minder_manager_proposals_max",
            "Writes that may wait before more are refused",
            status.proposals_max,
        ),
    ]
}

fn storage(core: &Core, status: &v1::ManagerStatus) -> Vec<Metric> {
    let syncs = [("0.5", status.fsync_p50_us), ("0.99", status.fsync_p99_us)];
    let syncs = syncs.map(|(quantile, us)| (quantile, Duration::from_micros(us)));
    vec![
        Metric::by("minder_manager_fsync_seconds", "How long the latest syncs of the log took", "quantile", syncs),
        Metric::gauge(
            "minder_manager_log_bytes",
            "The log on its disk, with the journal of the table's latest writes",
            status.log_bytes,
        ),
        Metric::gauge("minder_manager_snapshot_bytes", "Size of the latest snapshot", status.snapshot_bytes),
        Metric::gauge(
            "minder_manager_snapshot_age_seconds",
            "Since the latest snapshot was written, 0 without one",
            Duration::from_millis(status.snapshot_age_ms.unwrap_or_default()),
        ),
        Metric::gauge(
            "minder_manager_disk_free_bytes",
            "Free on the data folder's file system",
            status.disk_free_bytes,
        ),
        Metric::gauge(
            "minder_manager_disk_size_bytes",
            "Size of the data folder's file system",
            status.disk_total_bytes,
        ),
        Metric::gauge(
            "minder_manager_disk_floor_bytes",
            "Free bytes below which this manager refuses writes as the leader",
            core.room.floor_bytes(),
        ),
    ]
}

fn fleet(tally: &Tally, streams: usize) -> Vec<Metric> {
    let phases =
        Phase::ALL.into_iter().zip(tally.phases).map(|(phase, count)| (phase.to_string().to_lowercase(), count));
    vec![
        Metric::gauge("minder_manager_slave_streams", "Slaves that have a stream to this manager", streams),
        Metric::gauge(
            "minder_manager_slave_sessions",
            "Slaves that have their session here; of the leader",
            tally.sessions,
        ),
        Metric::by(
            "minder_manager_hosts",
            "Hosts by how they are spoken of; of the leader",
            "condition",
            tally.conditions.map(|(condition, count)| (condition.word().to_lowercase(), count)),
        ),
        Metric::gauge(
            "minder_manager_suspects_itself",
            "1 while so many hosts are silent at once that this leader suspects itself",
            tally.self_doubt,
        ),
        Metric::by(
            "minder_manager_instances",
            "Instances by phase, as their slaves last said, those of lost hosts as lost; of the leader",
            "phase",
            phases,
        ),
    ]
}
