//! openraft's types as Minder uses them. Other crates name these and no storage trait.

use std::{fmt, sync::Arc};

use minder_state::{DecodeError, Proposal, Reply};
use minicbor::{CborLen, Decode, Encode};
use openraft::type_config::alias::{EntryPayloadOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};

openraft::declare_raft_types!(
    /// Minder's consensus group.
    pub TypeConfig:
        D = SharedProposal,
        R = Option<Reply>,
        NodeId = u64,
        Node = ManagerNode,
        LeaderId = crate::LeaderId,
);

/// One consensus node.
pub type Raft = openraft::Raft<TypeConfig, crate::Machine>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry says.
pub type EntryPayload = EntryPayloadOf<TypeConfig>;
/// Where an entry stands.
pub type LogId = LogIdOf<TypeConfig>;
/// Who is voted for, or leads.
pub type Vote = VoteOf<TypeConfig>;
/// Who takes part.
pub type Membership = openraft::Membership<u64, ManagerNode>;
/// Who takes part, and since when.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// Where a manager is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ManagerNode {
    /// By the other managers, `host:port`.
    #[n(0)]
    pub peer_address: String,
    /// By users and slaves, `host:port`.
    #[n(1)]
    pub client_address: String,
}

impl fmt::Display for ManagerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.peer_address, self.client_address)
    }
}

/// A proposal with its stored form, encoded or decoded once and then shared by log, replication and state machine.
#[derive(Clone)]
pub struct SharedProposal {
    proposal: Arc<Proposal>,
    bytes: Arc<[u8]>,
}

impl SharedProposal {
    /// The proposal.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// Its stored form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { proposal: Arc::new(Proposal::from_bytes(bytes)?), bytes: bytes.into() })
    }
}

impl From<Proposal> for SharedProposal {
    fn from(proposal: Proposal) -> Self {
        let bytes = proposal.to_bytes().into();
        Self { proposal: Arc::new(proposal), bytes }
    }
}

impl fmt::Debug for SharedProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.proposal, f)
    }
}

impl fmt::Display for SharedProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.proposal, f)
    }
}
