//! What was seen while a drill went on, as plain data: the judge needs nothing else. Times are microseconds after the
//! drill's traffic began, by one clock.

use std::collections::{BTreeMap, BTreeSet};

use minder_client::v1::DrillKind;

/// Everything that was seen.
#[derive(Debug, Clone)]
pub struct Observed {
    pub kind: DrillKind,
    /// Whom it was done to.
    pub target: Target,
    /// When it was asked for.
    pub fault_us: u64,
    /// When writers and readers were told to stop.
    pub stopped_us: u64,
    pub writers: usize,
    /// The last log index before the traffic began.
    pub first_index: u64,
    pub writes: Vec<WriteSeen>,
    pub repeats: Vec<Repeat>,
    pub reads: Vec<ReadSeen>,
    pub reads_failed: usize,
    /// What is there of the drill's process when the writers have stopped.
    pub last: Option<Written>,
    pub changes: Vec<ChangeSeen>,
    /// Every change up to `last` is in `changes`.
    pub changes_whole: bool,
    pub before: Scene,
    pub after: Scene,
    /// Hosts by name, and when they were connected as they are to be afterwards.
    pub reattached: BTreeMap<String, u64>,
    /// When the harm was seen to be done: another leader, a manager out of reach, a slave that has begun anew.
    pub harmed_us: Option<u64>,
    /// When the one it was done to was there again.
    pub back_us: Option<u64>,
    /// Managers as they stood once writers had stopped.
    pub stands: Vec<Stand>,
}

/// Whom it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Manager { id: u64, address: String, leads: bool },
    Host(String),
}

/// One write of a writer. Every value is written once.
#[derive(Debug, Clone)]
pub struct WriteSeen {
    pub called_us: u64,
    pub answered_us: u64,
    pub value: String,
    pub end: WriteEnd,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteEnd {
    Acknowledged {
        generation: u64,
        revision: u64,
    },
    /// Nobody knows.
    Unknown,
    /// It has surely not happened.
    Failed,
}

/// A write that was said again with its request id: both answers name a revision.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub value: String,
    pub first: u64,
    pub again: u64,
}

/// A linearizable read that was answered.
#[derive(Debug, Clone)]
pub struct ReadSeen {
    pub called_us: u64,
    pub answered_us: u64,
    /// None: there was no such process.
    pub generation: Option<u64>,
}

/// The drill's process at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub generation: u64,
    pub revision: u64,
    pub value: String,
}

/// A change of the table that was committed.
#[derive(Debug, Clone)]
pub struct ChangeSeen {
    pub revision: u64,
    pub what: What,
}

/// Of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Own { generation: u64, value: String },
    Process(String),
    Host(String),
}

/// The cluster at some moment.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    pub leader: Option<u64>,
    pub term: u64,
    pub last_index: u64,
    pub managers: BTreeSet<u64>,
    pub hosts: BTreeMap<String, HostSeen>,
    /// By name, as `name:2@host`.
    pub instances: BTreeMap<String, InstanceSeen>,
}

/// A host at some moment.
#[derive(Debug, Clone)]
pub struct HostSeen {
    pub connected: bool,
    pub slave_id: String,
}

/// An instance at some moment.
#[derive(Debug, Clone)]
pub struct InstanceSeen {
    pub process: String,
    pub phase: &'static str,
    /// It is to run and does.
    pub runs: bool,
    pub pid: u32,
    pub incarnation: u64,
}

/// A manager at some moment.
#[derive(Debug, Clone)]
pub struct Stand {
    pub manager: u64,
    pub applied: u64,
    pub hash: String,
}

impl Observed {
    /// The writes that were acknowledged: when, as what.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&WriteSeen, u64, u64)> {
        self.writes.iter().filter_map(|write| match write.end {
            WriteEnd::Acknowledged { generation, revision } => Some((write, generation, revision)),
            WriteEnd::Unknown | WriteEnd::Failed => None,
        })
    }

    /// The writes of which nobody knows.
    pub fn unknown(&self) -> usize {
        self.writes.iter().filter(|write| write.end == WriteEnd::Unknown).count()
    }

    /// Hosts that were connected before.
    pub fn hosts_expected(&self) -> impl Iterator<Item = &String> {
        self.before.hosts.iter().filter(|(_, host)| host.connected).map(|(name, _)| name)
    }
}
