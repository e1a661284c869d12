//! openraft's log, state machine and snapshots on one RocksDB.
//!
//! It keeps what it is given and says so only when it is true: an append is complete when its bytes are synced, a
//! vote is saved when it is synced, applied rows and "last applied" are one batch, a snapshot takes its place in one
//! synced batch. It knows what a row is but not what it means (`minder-state`), and nothing of the network.
//!
//! It trusts no disk: entries carry checksums and a hash chain, a mark beside the log remembers what was promised, the
//! state carries a hash. A folder that has lost something is quarantined by name and never votes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blocking;
mod codec;
mod error;
mod fail_point;
mod identity;
mod leader_id;
mod log;
mod machine;
mod mark;
mod options;
mod planted;
mod rebuild;
mod size;
mod snapshot;
mod store;
mod stored;
mod sync;
mod tail;
mod types;
mod version;

pub use blocking::{blocking, in_place};
pub use codec::{decode_entry, decode_snapshot_meta, encode_entry, encode_snapshot_meta};
pub use error::{CodecError, ExitReason, OpenError};
pub use identity::Identity;
pub use leader_id::{CommittedLeaderId, LeaderId};
pub use log::LogStore;
pub use machine::{Hooks, Machine, Published};
pub use planted::Planted;
pub use rebuild::{RebuildError, Rebuilt, Survivor, finish_interrupted, restore, set_aside};
pub use snapshot::{SnapshotFile, SnapshotReceiver, read_snapshot, write_snapshot};
pub use store::{Opened, Sizes, Store, StoreOptions, Verified, verify};
pub use stored::{Again, STORED_FORMS};
pub use sync::{SyncExecutor, SyncStats, Waiting};
pub use types::{
    Entry, EntryPayload, LogId, ManagerNode, Membership, Raft, SharedProposal, SnapshotMeta, StoredMembership,
    TypeConfig, Vote,
};
