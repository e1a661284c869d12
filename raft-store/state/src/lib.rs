//! The replicated table as a pure function: [`State::apply`] takes a log index and a proposal and gives the next
//! state, the reply and the rows that changed. No clock, no chance, no hash order: every manager at the same index
//! has the same state, byte for byte, and [`State::hash`] shows it.
//!
//! State is shared by structure: a clone costs a few pointers, and one write touches the path to what it changes.
//! This crate does not know Raft, RocksDB or the wire.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

mod apply;
mod backup;
mod by_hash;
mod hash;
mod outline;
mod proposal;
mod reach;
mod rebuild;
mod record;
mod reply;
mod requests;
mod row;
mod run_specs;
mod state;
mod writer;

pub use backup::{BackupError, BackupHeader, BackupReader, backup_pieces};
pub use hash::StateHash;
pub use outline::Outline;
pub use proposal::{Command, DecodeError, Expect, Order, OrderKind, Proposal};
pub use rebuild::{RebuildError, TERM_JUMP};
pub use record::{ClusterRecord, HostRecord, ProcessRecord, Rebuilt, SharedSpec};
pub use reply::{Outcome, ProcessChange, ProcessChangeKind, ProcessCounts, Refusal, Reply};
pub use row::{RowChange, RowError};
pub use state::State;
pub use writer::{Applied, Change};
