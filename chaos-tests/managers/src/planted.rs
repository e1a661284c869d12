//! Known bugs, put in to see that a seed finds them: in the managers themselves, or in the disks under them.

use std::fmt;

use minder_raft_store::{Planted as InStore, Waiting};

use crate::disk::Word;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// One of the managers' own.
    Manager(InStore),
    /// A disk says that entries are safe and they are not.
    LogNotSynced,
    /// A disk says that votes are safe and they are not.
    VotesNotSynced,
    /// A disk says that anything is safe and nothing is, the mark of what was promised included.
    NothingSynced,
    /// A manager comes back from power lost with all of its folder as it was some time before.
    FolderGoesBack,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Manager(InStore::RequestsForgotten),
        Self::Manager(InStore::ReadsUnconfirmed),
        Self::Manager(InStore::SnapshotWithoutApplied),
        Self::Manager(InStore::TruncatesTooMuch),
        Self::Manager(InStore::AppliedWithoutRows),
        Self::Manager(InStore::VoteBeforeSync),
        Self::Manager(InStore::AppendBeforeSync),
        Self::LogNotSynced,
        Self::VotesNotSynced,
        Self::NothingSynced,
        Self::FolderGoesBack,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manager(InStore::RequestsForgotten) => "requests-forgotten",
            Self::Manager(InStore::ReadsUnconfirmed) => "reads-unconfirmed",
            Self::Manager(InStore::SnapshotWithoutApplied) => "snapshot-without-applied",
            Self::Manager(InStore::TruncatesTooMuch) => "truncates-too-much",
            Self::Manager(InStore::AppliedWithoutRows) => "applied-without-rows",
            Self::Manager(InStore::VoteBeforeSync) => "vote-before-sync",
            Self::Manager(InStore::AppendBeforeSync) => "append-before-sync",
            Self::LogNotSynced => "log-not-synced",
            Self::VotesNotSynced => "votes-not-synced",
            Self::NothingSynced => "nothing-synced",
            Self::FolderGoesBack => "folder-goes-back",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|planted| planted.name() == name)
    }

    /// Puts it into this process.
    pub fn plant(self) {
        if let Self::Manager(planted) = self {
            planted.plant();
        }
    }

    /// How a disk keeps its word in a sync for this.
    pub fn word(self, waiting: Waiting) -> Word {
        match self {
            Self::LogNotSynced => Word::BrokenForTheLog,
            Self::VotesNotSynced if waiting.votes > 0 => Word::BrokenForTheLog,
            Self::NothingSynced => Word::Broken,
            _ => Word::Kept,
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
