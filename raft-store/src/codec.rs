//! Minder's own encodings of what openraft gives to keep: a format byte, then CBOR with numbered fields. openraft's
//! serde layout is never on disk or wire, so a new version of it is never a migration.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{CborLen, Decode, Encode, bytes::ByteSlice};
use openraft::EntryPayload;
use sha2::{Digest, Sha256};

use crate::{
    CommittedLeaderId,
    error::CodecError,
    types::{Entry, LogId, ManagerNode, Membership, SharedProposal, SnapshotMeta, StoredMembership, Vote},
};

/// Version of everything in this file and of the layout of the store.
pub(crate) const FORMAT: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, CborLen)]
pub(crate) struct LogIdForm {
    #[n(0)]
    pub(crate) term: u64,
    #[n(1)]
    pub(crate) node: u64,
    #[n(2)]
    pub(crate) index: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
pub(crate) struct VoteForm {
    #[n(0)]
    pub(crate) term: u64,
    #[n(1)]
    pub(crate) node: u64,
    #[n(2)]
    pub(crate) committed: bool,
}

#[derive(Debug, Encode, Decode, CborLen)]
#[cbor(map)]
struct MembershipForm {
    #[n(0)]
    configs: Vec<BTreeSet<u64>>,
    #[n(1)]
    nodes: BTreeMap<u64, ManagerNode>,
}

#[derive(Debug, Encode, Decode, CborLen)]
enum PayloadForm<'a> {
    #[n(0)]
    Blank,
    #[n(1)]
    Normal(#[b(0)] &'a ByteSlice),
    #[n(2)]
    Membership(#[n(0)] MembershipForm),
}

#[derive(Debug, Encode, Decode, CborLen)]
#[cbor(map)]
struct EntryForm<'a> {
    #[n(0)]
    log_id: LogIdForm,
    #[b(1)]
    payload: PayloadForm<'a>,
}

#[derive(Debug, Encode, Decode, CborLen)]
#[cbor(map)]
struct StoredMembershipForm {
    #[n(0)]
    log_id: Option<LogIdForm>,
    #[n(1)]
    membership: MembershipForm,
}

#[derive(Debug, Encode, Decode, CborLen)]
#[cbor(map)]
struct SnapshotMetaForm {
    #[n(0)]
    last_log_id: Option<LogIdForm>,
    #[n(1)]
    last_membership: StoredMembershipForm,
}

impl From<&LogId> for LogIdForm {
    fn from(log_id: &LogId) -> Self {
        Self { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
    }
}

impl From<LogIdForm> for LogId {
    fn from(form: LogIdForm) -> Self {
        LogId::new(CommittedLeaderId { term: form.term, node_id: form.node }, form.index)
    }
}

impl From<&Vote> for VoteForm {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteForm> for Vote {
    fn from(form: VoteForm) -> Self {
        match form.committed {
            true => Vote::new_committed(form.term, form.node),
            false => Vote::new(form.term, form.node),
        }
    }
}

impl From<&Membership> for MembershipForm {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipForm> for Membership {
    type Error = CodecError;
    fn try_from(form: MembershipForm) -> Result<Self, CodecError> {
        if form.configs.is_empty() && form.nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(form.configs, form.nodes).map_err(|error| CodecError::Membership(error.to_string()))
    }
}

/// Puts the format byte in front of a value's CBOR.
pub(crate) fn seal<T: Encode<()> + CborLen<()>>(value: &T) -> Vec<u8> {
    minder_model::encode_after(&[FORMAT], value)
}

/// Reads what [`seal`] wrote; any bytes give a value or a named error.
pub(crate) fn open<'b, T: Decode<'b, ()>>(what: &'static str, bytes: &'b [u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short { what }),
        Some((&FORMAT, rest)) => minicbor::decode(rest).map_err(|source| CodecError::Malformed { what, source }),
        Some((&format, _)) => Err(CodecError::NewerFormat { what, format }),
    }
}

/// The form of an entry on the wire and, behind checksum and chain, on disk.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let payload = match &entry.payload {
        EntryPayload::Blank => PayloadForm::Blank,
        EntryPayload::Normal(proposal) => PayloadForm::Normal(proposal.bytes().into()),
        EntryPayload::Membership(membership) => PayloadForm::Membership(membership.into()),
    };
    seal(&EntryForm { log_id: (&entry.log_id).into(), payload })
}

/// Reads an entry; any bytes give an entry or a named error.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let form: EntryForm = open("entry", bytes)?;
    let index = form.log_id.index;
    let payload = match form.payload {
        PayloadForm::Blank => EntryPayload::Blank,
        PayloadForm::Normal(bytes) => EntryPayload::Normal(
            SharedProposal::from_bytes(bytes).map_err(|source| CodecError::Proposal { index, source })?,
        ),
        PayloadForm::Membership(form) => EntryPayload::Membership(form.try_into()?),
    };
    Ok(Entry { log_id: form.log_id.into(), payload })
}

/// The form of a snapshot's coverage on the wire and in its file.
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Vec<u8> {
    seal(&SnapshotMetaForm {
        last_log_id: meta.last_log_id.as_ref().map(Into::into),
        last_membership: membership_form(&meta.last_membership),
    })
}

/// Reads a snapshot's coverage.
pub fn decode_snapshot_meta(bytes: &[u8]) -> Result<SnapshotMeta, CodecError> {
    let form: SnapshotMetaForm = open("snapshot meta", bytes)?;
    Ok(SnapshotMeta {
        last_log_id: form.last_log_id.map(Into::into),
        last_membership: membership_from_form(form.last_membership)?,
    })
}

pub(crate) fn encode_membership(membership: &StoredMembership) -> Vec<u8> {
    seal(&membership_form(membership))
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    membership_from_form(open("membership", bytes)?)
}

fn membership_form(membership: &StoredMembership) -> StoredMembershipForm {
    StoredMembershipForm {
        log_id: membership.log_id().as_ref().map(Into::into),
        membership: membership.membership().into(),
    }
}

fn membership_from_form(form: StoredMembershipForm) -> Result<StoredMembership, CodecError> {
    Ok(StoredMembership::new(form.log_id.map(Into::into), form.membership.try_into()?))
}

/// A link of the hash chain over entries. The first one follows [`Chain::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chain(pub(crate) [u8; 16]);

impl Chain {
    /// The link after an entry with this form.
    pub(crate) fn next(self, entry: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(entry);
        let mut link = [0; 16];
        link.copy_from_slice(&hasher.finalize()[..16]);
        Self(link)
    }
}

const CRC_BYTES: usize = 4;
const CHAIN_BYTES: usize = 16;

/// What the log column holds for an entry: checksum of all that follows, chain link, form.
pub(crate) fn frame_entry(form: &[u8], chain: Chain) -> Vec<u8> {
    let mut framed = vec![0; CRC_BYTES];
    framed.extend_from_slice(&chain.0);
    framed.extend_from_slice(form);
    let crc = crc32c::crc32c(&framed[CRC_BYTES..]);
    framed[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    framed
}

/// Reads what [`frame_entry`] wrote and checks the checksum.
pub(crate) fn unframe_entry(framed: &[u8]) -> Result<(Chain, &[u8]), CodecError> {
    let (crc, rest) = framed.split_first_chunk::<CRC_BYTES>().ok_or(CodecError::Short { what: "entry" })?;
    let (chain, form) = rest.split_first_chunk::<CHAIN_BYTES>().ok_or(CodecError::Short { what: "entry" })?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
        return Err(CodecError::Checksum { what: "entry" });
    }
    Ok((Chain(*chain), form))
}

#[cfg(test)]
mod tests {
    use minder_model::RequestId;
    use minder_state::{Command, Expect, Proposal};
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Entry> {
        let normal = any::<u64>().prop_map(|time_ms| {
            let proposal = Proposal {
                request: RequestId::new("r").unwrap(),
                time_ms,
                actor: "a".into(),
                expect: Expect::Anything,
                command: Command::Delete(vec![]),
            };
            EntryPayload::Normal(proposal.into())
        });
        let membership = Just(EntryPayload::Membership(
            Membership::new(
                vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
                BTreeMap::from_iter(
                    (1..=4)
                        .map(|id| (id, ManagerNode { peer_address: format!("h:{id}"), client_address: String::new() })),
                ),
            )
            .unwrap(),
        ));
        let payload = prop_oneof![Just(EntryPayload::Blank), normal, membership];
        (any::<u64>(), any::<u64>(), any::<u64>(), payload)
            .prop_map(|(term, node, index, payload)| Entry { log_id: LogIdForm { term, node, index }.into(), payload })
    }

    proptest! {
        #[test]
        fn entries_read_back(entry in entries()) {
            let form = encode_entry(&entry);
            let back = decode_entry(&form).unwrap();
            prop_assert_eq!(back.log_id, entry.log_id);
            prop_assert_eq!(encode_entry(&back), form.clone());
            let framed = frame_entry(&form, Chain([7; 16]));
            prop_assert_eq!(unframe_entry(&framed).unwrap(), (Chain([7; 16]), &form[..]));
        }

        #[test]
        fn every_flipped_bit_is_found(entry in entries(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut framed = frame_entry(&encode_entry(&entry), Chain::default());
            let at = at.index(framed.len());
            framed[at] ^= 1 << bit;
            prop_assert!(unframe_entry(&framed).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_entry(&bytes);
            let _ = unframe_entry(&bytes);
            let _ = decode_snapshot_meta(&bytes);
            let _ = decode_membership(&bytes);
        }
    }
}
