//! The forms in which this crate keeps things, by name, for whoever tries out what their readers make of any bytes.

use crate::{
    Identity,
    codec::{
        LogIdForm, VoteForm, decode_entry, decode_membership, decode_snapshot_meta, encode_entry, encode_membership,
        encode_snapshot_meta, frame_entry, open, seal, unframe_entry,
    },
    mark,
};

/// Reads bytes as one form and writes what they mean in it again; `None` when they are refused.
pub type Again = fn(&[u8]) -> Option<Vec<u8>>;

/// Every form and its name.
pub const STORED_FORMS: [(&str, Again); 8] = [
    ("entry", |bytes| Some(encode_entry(&decode_entry(bytes).ok()?))),
    ("framed entry", |bytes| unframe_entry(bytes).ok().map(|(chain, form)| frame_entry(form, chain))),
    ("membership", |bytes| Some(encode_membership(&decode_membership(bytes).ok()?))),
    ("snapshot coverage", |bytes| Some(encode_snapshot_meta(&decode_snapshot_meta(bytes).ok()?))),
    ("log id", |bytes| Some(seal(&open::<LogIdForm>("log id", bytes).ok()?))),
    ("vote", |bytes| Some(seal(&open::<VoteForm>("vote", bytes).ok()?))),
    ("identity", |bytes| Some(seal(&open::<Identity>("identity", bytes).ok()?))),
    ("slot of the mark", mark::slot_again),
];
