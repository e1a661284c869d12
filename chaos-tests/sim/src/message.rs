//! What slaves and managers say to each other: the messages of `minder.proto`'s `Attend`, as far as they matter here.

use minder_fleet::Reported;
use minder_model::{AssignmentDelta, ClusterId, Digest, InstanceKey, Revision};

/// One message on a stream.
#[derive(Debug, Clone)]
pub enum Message {
    /// Manager: whether it leads, and in which term.
    Role {
        /// It leads.
        leader: bool,
        /// Its term.
        term: u64,
    },
    /// Slave: begins a session.
    Hello(Box<Introduction>),
    /// Manager: the session is open, or why it is not.
    Welcome {
        /// Why not.
        refused: Option<String>,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Slave: a sign of life.
    Heartbeat {
        /// Counts up.
        nonce: u64,
        /// When it was sent, on the machine's clock that only goes forward.
        up_ms: u64,
    },
    /// Manager: heard it.
    HeartbeatReply {
        /// Which.
        nonce: u64,
    },
    /// Manager: what the host should run.
    Assignment {
        /// The heartbeat it is sent under.
        nonce: u64,
        /// The change.
        delta: Box<AssignmentDelta>,
        /// Run specs in stored form.
        run_specs: Vec<Vec<u8>>,
    },
    /// Slave: an assignment was not taken.
    Refused {
        /// Why.
        why: &'static str,
    },
    /// Slave: these run specs are missing.
    SpecsWanted(Vec<Digest>),
    /// Manager: run specs in stored form.
    Specs(Vec<Vec<u8>>),
    /// Slave: what it sees.
    Report(Box<Report>),
}

/// A slave's first word in a session.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The host's address.
    pub address: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Drawn at the slave's start.
    pub slave_id: String,
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// The assignment it holds.
    pub revision: Revision,
    /// Its digest.
    pub digest: Digest,
}

/// What a slave sees, or what has changed of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Everything.
    pub full: bool,
    /// Statuses.
    pub statuses: Vec<Reported>,
    /// Instances that are gone.
    pub gone: Vec<InstanceKey>,
    /// The assignment it acts on.
    pub revision: Revision,
    /// Its digest.
    pub digest: Digest,
}
