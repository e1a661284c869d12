//! The moment at which a crash hurts most: it is waited for, and comes by what anybody can see from outside.

use minder_sim::Chance;

use crate::{disk, manager, shared::Shared};

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub enum Awaited {
    /// More syncs of this manager than so many.
    Sync(usize, u64),
    /// More acknowledged writes than so many.
    Answer(u64),
    /// More snapshots made in the folder of this manager than so many: its own, or one that was sent to it.
    Snapshot(usize, u64),
    /// Only time.
    Nothing,
}

impl Awaited {
    /// It happens again at this manager.
    pub fn sync(at: usize) -> Self {
        Self::Sync(at, manager::syncs(at))
    }

    /// It happens again at this manager.
    pub fn snapshot(at: usize) -> Self {
        Self::Snapshot(at, disk::snapshots(at))
    }

    fn has_happened(self, shared: &Shared) -> bool {
        match self {
            Self::Sync(at, before) => manager::syncs(at) > before,
            Self::Answer(before) => shared.acknowledgements() > before,
            Self::Snapshot(at, before) => disk::snapshots(at) > before,
            Self::Nothing => false,
        }
    }

    /// The crash comes while what follows is under way, or just after it: within so many milliseconds.
    fn follows_within_ms(self) -> u64 {
        match self {
            Self::Sync(..) | Self::Answer(_) | Self::Nothing => 5,
            Self::Snapshot(..) => 60,
        }
    }
}

/// A crash that waits.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    awaited: Awaited,
    latest_ms: u64,
    due_ms: Option<u64>,
    happened: bool,
}

impl Moment {
    /// Just after this, or then at the latest.
    pub fn after(awaited: Awaited, latest_ms: u64) -> Self {
        Self { awaited, latest_ms, due_ms: None, happened: false }
    }

    /// Whether what was waited for has happened.
    pub fn has_happened(&self) -> bool {
        self.happened
    }

    /// Whether the crash is due.
    pub fn is_due(&mut self, now: u64, shared: &Shared, chance: &mut Chance) -> bool {
        if self.due_ms.is_none() && self.awaited.has_happened(shared) {
            self.happened = true;
            self.due_ms = Some(now + chance.of(0..self.awaited.follows_within_ms()));
        }
        now >= self.due_ms.unwrap_or(self.latest_ms)
    }
}
