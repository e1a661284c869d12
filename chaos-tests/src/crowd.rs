//! Thousands of pretended slaves in one process. To the managers they are slaves: each keeps a connection of its own to
//! every manager, with signs of life, keepalives, reports, machine information and its history, takes assignments with
//! the product's own fence and digests, and says at once that everything assigned runs. There are no processes, no
//! ledgers and no clocks of machines behind them.
//!
//! They speak HTTP/2 without tonic, whose client costs several times as much memory a connection as the manager's side.

mod apart;
mod connection;
mod slave;
mod tally;

use std::sync::{Arc, atomic::Ordering};

use minder_model::{ClusterId, HostName};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

pub use self::apart::{Crowds, be_a_crowd_if_asked};
use self::slave::Slave;
pub use self::tally::{CrowdTally, Moment};

/// Which hosts, and whom they attend.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CrowdShape {
    /// Number of the first host; hosts are `host-N`.
    pub first: usize,
    /// How many.
    pub hosts: usize,
    /// Groups of hosts: host N says the label `group=N mod groups`.
    pub groups: usize,
    /// Client addresses of the managers.
    pub managers: Vec<String>,
}

/// Pretended slaves. They end when this is dropped.
pub struct Crowd {
    slaves: Vec<Arc<Slave>>,
    tally: Arc<tally::Tally>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Lets all of them come at once, as they would after a full outage.
    pub fn start(shape: &CrowdShape) -> Self {
        let tally = Arc::new(tally::Tally::default());
        let slaves: Vec<_> = (shape.first..shape.first + shape.hosts)
            .map(|number| Arc::new(Slave::new(number, number % shape.groups.max(1), tally.clone())))
            .collect();
        let attend = |slave: &Arc<Slave>, address: &String| {
            tokio::spawn(connection::attend_for_ever(slave.clone(), address.clone()))
        };
        let tasks =
            slaves.iter().flat_map(|slave| shape.managers.iter().map(move |address| attend(slave, address))).collect();
        Self { slaves, tally, tasks }
    }

    /// Counts what there is now.
    pub fn tally(&self) -> CrowdTally {
        let instances = self.slaves.iter().map(|slave| slave.held().assignment.items.len()).sum();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        CrowdTally {
            streams: load(&self.tally.streams),
            sessions: load(&self.tally.sessions),
            instances,
            assignments: load(&self.tally.assignments),
            wholes: load(&self.tally.wholes),
            refused: load(&self.tally.refused),
            assignment_bytes: load(&self.tally.assignment_bytes),
            report_bytes: load(&self.tally.report_bytes),
            reports: load(&self.tally.reports),
            sent: load(&self.tally.sent),
            sent_bytes: load(&self.tally.sent_bytes),
            received: load(&self.tally.received),
            received_bytes: load(&self.tally.received_bytes),
        }
    }

    /// How many slaves took an assignment of this revision, and when the first and the last did.
    pub fn took(&self, revision: u64) -> Moment {
        self.tally.took.of(revision)
    }

    /// How many slaves got a session with the leader of this term, and when the first and the last did.
    pub fn welcomed(&self, term: u64) -> Moment {
        self.tally.welcomed.of(term)
    }

    /// The cluster they belong to, once one of them does.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.slaves.iter().find_map(|slave| slave.held().cluster.clone())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The name of a pretended slave's host.
pub fn crowd_host(number: usize) -> HostName {
    HostName::new(format!("host-{number}")).unwrap()
}
