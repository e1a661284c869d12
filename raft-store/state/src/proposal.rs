//! What goes through Raft: intent and decisions, never observations.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use minder_model::{
    ClusterId, CommandVersion, HostName, ProcessName, RequestId, Revision, Selection, SelectionError, Signal, Spec,
};
use minicbor::{CborLen, Decode, Encode};

use crate::record::SharedSpec;

/// One write as the leader proposes it. The leader stamps the time; followers never look at a clock.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Proposal {
    /// Drawn by the client; repeating it gives the first answer.
    #[n(0)]
    pub request: RequestId,
    /// The leader's wall clock, milliseconds since 1970.
    #[n(1)]
    pub time_ms: u64,
    /// Who asked, for history.
    #[n(2)]
    pub actor: String,
    /// What must be true for the write to happen.
    #[n(3)]
    pub expect: Expect,
    /// What is to happen.
    #[n(4)]
    pub command: Command,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} of {}", self.request, self.actor)
    }
}

/// Compare-and-set: the revision that every process touched must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
pub enum Expect {
    /// Whatever is there.
    #[default]
    #[n(0)]
    Anything,
    /// Exactly this revision; 0 means that the process must not exist.
    #[n(1)]
    Revision(#[n(0)] Revision),
}

/// Every kind of write.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Command {
    /// Names the cluster, which begins with commands of this version. The first write of its life.
    #[n(0)]
    CreateCluster(#[n(0)] ClusterId, #[cbor(n(1), default, skip_if = "CommandVersion::is_first")] CommandVersion),
    /// Writes specs, all or none.
    #[n(1)]
    Apply(#[n(0)] Vec<SharedSpec>),
    /// Forgets processes; their instances are stopped and removed.
    #[n(2)]
    Delete(#[n(0)] Vec<ProcessName>),
    /// Tells instances to do something.
    #[n(3)]
    Order(#[n(0)] Order),
    /// A slave announced a host that is new, or whose address or own labels changed.
    #[n(4)]
    RegisterHost(#[n(0)] HostName, #[n(1)] String, #[n(2)] BTreeMap<String, String>),
    /// Sets (`Some`) and unsets (`None`) central labels of a host.
    #[n(5)]
    LabelHost(#[n(0)] HostName, #[n(1)] BTreeMap<String, Option<String>>),
    /// Forgets a host and every instance placed on it by selector.
    #[n(6)]
    RemoveHost(#[n(0)] HostName),
    /// From here on the cluster takes commands of this version. It never falls.
    #[n(7)]
    RaiseVersion(#[n(0)] CommandVersion),
}

impl Command {
    /// Writes these specs, all or none.
    pub fn apply(specs: impl IntoIterator<Item = Spec>) -> Self {
        Self::Apply(specs.into_iter().map(Into::into).collect())
    }

    /// The version of commands that every manager must know before this one may go into the log: one that does not know
    /// it could not read it, or would take it for something else.
    pub fn needs(&self) -> CommandVersion {
        match self {
            Self::CreateCluster(_, version) | Self::RaiseVersion(version) => *version,
            Self::Apply(specs) if specs.len() > CommandVersion::FIRST.apply_specs_max() => {
                CommandVersion::LARGE_APPLIES
            }
            Self::Apply(_)
            | Self::Delete(_)
            | Self::Order(_)
            | Self::RegisterHost(..)
            | Self::LabelHost(..)
            | Self::RemoveHost(_) => CommandVersion::FIRST,
        }
    }

    /// Whether a cluster at `version` takes it. The commands that set the version do not wait for it.
    pub(crate) fn is_taken_at(&self, version: CommandVersion) -> bool {
        matches!(self, Self::CreateCluster(..) | Self::RaiseVersion(_)) || self.needs() <= version
    }
}

/// A selection and what the selected instances are to do. It is evaluated when applied, so that it means the table
/// as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Order {
    /// Selection terms, see [`Selection`].
    #[n(0)]
    pub terms: Vec<String>,
    /// Label pairs `key=value`.
    #[n(1)]
    pub labels: Vec<String>,
    /// Every instance there is.
    #[n(2)]
    pub all: bool,
    /// What they are to do.
    #[n(3)]
    pub kind: OrderKind,
}

impl Order {
    /// The selection this order speaks of.
    pub fn selection(&self) -> Result<Selection, SelectionError> {
        if self.all { Ok(Selection::all()) } else { Selection::parse(&self.terms, &self.labels) }
    }
}

/// What selected instances are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum OrderKind {
    /// Run.
    #[n(0)]
    Start,
    /// Stop and stay stopped.
    #[n(1)]
    Stop,
    /// Begin a new incarnation.
    #[n(2)]
    Restart,
    /// Forget restart counters and FATAL.
    #[n(3)]
    Retry,
    /// Send the main process a signal, once.
    #[n(4)]
    Signal(#[n(0)] Signal),
    /// Do what the spec's `reload` says, once.
    #[n(5)]
    Reload,
}

/// Bytes that are no proposal.
#[derive(Debug)]
pub enum DecodeError {
    /// Nothing at all.
    Empty,
    /// Written by a newer Minder.
    NewerFormat(u8),
    /// Not what this format looks like.
    Malformed(minicbor::decode::Error),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes where a proposal should be"),
            Self::NewerFormat(format) => {
                let known = CommandVersion::NEWEST;
                write!(
                    f,
                    "it needs commands of version {format}, this program knows those up to {known}; run a newer one"
                )
            }
            Self::Malformed(_) => f.write_str("malformed proposal"),
        }
    }
}

impl core::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::Empty | Self::NewerFormat(_) => None,
        }
    }
}

impl Proposal {
    /// The stored form: one byte that says which version of commands it needs, then CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        minder_model::encode_after(&[self.command.needs().0], self)
    }

    /// Reads the stored form; any bytes give a proposal or a named error. What a proposal needs is known, whatever the byte
    /// before it says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
        let known = |version: u8| match version <= CommandVersion::NEWEST.0 {
            true => Ok(()),
            false => Err(DecodeError::NewerFormat(version)),
        };
        known(version)?;
        let proposal: Self = minicbor::decode(rest).map_err(DecodeError::Malformed)?;
        known(proposal.command.needs().0)?;
        Ok(proposal)
    }
}
