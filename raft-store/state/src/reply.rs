//! What a write answers. A refusal is an answer that every manager gives alike, not an error.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minder_model::{ClusterId, CommandVersion, Generation, HostName, InstanceKey, ProcessName, Revision};
use minicbor::{CborLen, Decode, Encode};

/// The answer to one proposal. A repeated request gets the answer of the first one, its revision included.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Reply {
    /// Log index of the write that gave this answer.
    #[n(0)]
    pub revision: Revision,
    /// What happened.
    #[n(1)]
    pub outcome: Outcome,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Outcome {
    /// Nothing that needs words.
    #[n(0)]
    Done,
    /// What became of each spec.
    #[n(1)]
    Processes(#[n(0)] Vec<ProcessChange>),
    /// How many instances an order reached, and the first [`Outcome::INSTANCES_LISTED_MAX`] of them.
    #[n(2)]
    Instances(#[n(0)] u64, #[n(1)] Vec<(HostName, InstanceKey)>),
    /// Nothing was changed, and why.
    #[n(3)]
    Refused(#[n(0)] Refusal),
    /// What became of many specs, by number: what is remembered of a large apply.
    #[n(4)]
    Counted(#[n(0)] ProcessCounts),
}

impl Outcome {
    /// Instances listed in an answer; more are only counted, so that remembered answers stay small.
    pub const INSTANCES_LISTED_MAX: usize = 100;
    /// Processes listed in an answer that is remembered, for the same reason; of more the answer gives the numbers when
    /// its request is repeated.
    pub const PROCESSES_REMEMBERED_MAX: usize = 100;

    /// What is remembered of it in a cluster at this version.
    pub(crate) fn remembered(&self, version: CommandVersion) -> Option<Self> {
        match self {
            Self::Processes(changes)
                if version >= CommandVersion::LARGE_APPLIES && changes.len() > Self::PROCESSES_REMEMBERED_MAX =>
            {
                Some(Self::Counted(ProcessCounts::of(changes)))
            }
            Self::Done | Self::Processes(_) | Self::Instances(..) | Self::Refused(_) | Self::Counted(_) => None,
        }
    }
}

/// How many processes became what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ProcessCounts {
    /// New ones.
    #[n(0)]
    pub created: u64,
    /// Those whose spec changed.
    #[n(1)]
    pub changed: u64,
    /// Those that were like this before.
    #[n(2)]
    pub unchanged: u64,
    /// Those that are gone.
    #[n(3)]
    pub deleted: u64,
    /// Instances that all of them have.
    #[n(4)]
    pub instances: u64,
}

impl ProcessCounts {
    fn of(changes: &[ProcessChange]) -> Self {
        let mut counts = Self::default();
        for change in changes {
            match change.kind {
                ProcessChangeKind::Created => counts.created += 1,
                ProcessChangeKind::Changed => counts.changed += 1,
                ProcessChangeKind::Unchanged => counts.unchanged += 1,
                ProcessChangeKind::Deleted => counts.deleted += 1,
            }
            counts.instances += change.instances;
        }
        counts
    }
}

/// What became of one process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ProcessChange {
    /// Which process.
    #[n(0)]
    pub name: ProcessName,
    /// What became of it.
    #[n(1)]
    pub kind: ProcessChangeKind,
    /// Its generation now.
    #[n(2)]
    pub generation: Generation,
    /// Instances it has now.
    #[n(3)]
    pub instances: u64,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum ProcessChangeKind {
    /// It is new.
    #[n(0)]
    Created,
    /// Its spec changed.
    #[n(1)]
    Changed,
    /// It was like this before.
    #[n(2)]
    Unchanged,
    /// It is gone.
    #[n(3)]
    Deleted,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Refusal {
    /// The revision is not the expected one.
    #[n(0)]
    Conflict(#[n(0)] ProcessName, #[n(1)] Revision, #[n(2)] Revision),
    /// No such process.
    #[n(1)]
    NoSuchProcess(#[n(0)] ProcessName),
    /// No such host.
    #[n(2)]
    NoSuchHost(#[n(0)] HostName),
    /// The selection, or these terms of it, fit nothing.
    #[n(3)]
    NothingMatched(#[n(0)] Vec<String>),
    /// A bound would be exceeded; the text names it.
    #[n(4)]
    LimitExceeded(#[n(0)] String),
    /// The request itself is wrong; the text says where.
    #[n(5)]
    Invalid(#[n(0)] String),
    /// The cluster already has an identity.
    #[n(6)]
    ClusterExists(#[n(0)] ClusterId),
    /// The host still has a process placed on it by name.
    #[n(7)]
    HostInUse(#[n(0)] HostName, #[n(1)] ProcessName),
    /// The command needs a later version than the cluster is at: which one, and where it is.
    #[n(8)]
    NeedsVersion(#[n(0)] CommandVersion, #[n(1)] CommandVersion),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(process, expected, Revision::ZERO) => {
                write!(f, "process {process} does not exist, revision {expected} was expected")
            }
            Self::Conflict(process, Revision::ZERO, actual) => {
                write!(f, "process {process} exists already, at revision {actual}")
            }
            Self::Conflict(process, expected, actual) => {
                write!(
                    f,
                    "process {process} is at revision {actual}, not at the expected {expected}; look at the change, then try again with its revision"
                )
            }
            Self::NoSuchProcess(process) => write!(f, "there is no process named {process}"),
            Self::NoSuchHost(host) => write!(f, "there is no host named {host}"),
            Self::NothingMatched(terms) if terms.is_empty() => f.write_str("nothing matches the selection"),
            Self::NothingMatched(terms) => write!(f, "nothing matches {}", terms.join(", ")),
            Self::LimitExceeded(what) | Self::Invalid(what) => f.write_str(what),
            Self::ClusterExists(cluster) => write!(f, "this cluster has its identity already: {cluster}"),
            Self::NeedsVersion(needed, version) => write!(
                f,
                "this needs commands of version {needed} and the cluster takes those up to {version}; \
                 `minderctl manager upgrade` says what is in the way"
            ),
            Self::HostInUse(host, process) => {
                write!(f, "process {process} names host {host}; delete the process or change its hosts first")
            }
        }
    }
}
