//! Known bugs that a test of the tests puts in: a simulation that does not find them would not find others. They are there
//! in builds with debug assertions, and in no other.

use std::sync::atomic::{AtomicU8, Ordering};

/// A known bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Planted {
    /// A request that is said again is not known any more when it is applied.
    RequestsForgotten = 1,
    /// A leader answers reads without asking anybody whether it still leads.
    ReadsUnconfirmed,
    /// A snapshot is installed without saying up to where it reaches.
    SnapshotWithoutApplied,
    /// Removing the end of the log removes one entry too many.
    TruncatesTooMuch,
    /// What was applied is noted before its rows are written, and a crash comes between.
    AppliedWithoutRows,
    /// Votes are answered before they are synced.
    VoteBeforeSync,
    /// Appends are acknowledged before they are synced.
    AppendBeforeSync,
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

impl Planted {
    /// Puts it into this process, in the place of any other.
    pub fn plant(self) {
        PLANTED.store(self as u8, Ordering::Relaxed);
    }

    /// Whether it is in.
    pub fn is_in(self) -> bool {
        cfg!(debug_assertions) && PLANTED.load(Ordering::Relaxed) == self as u8
    }
}
