//! What can go wrong here, and what the process exits with when it does.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Exit codes of a node that stops itself, one for each reason, so that an operator's tools can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// A write, sync or read failed. Retrying a failed sync may lie, so nothing is retried.
    Storage,
    /// The folder has lost something it had promised to keep.
    Quarantine,
    /// The folder is empty although its cluster knows this manager.
    Emptied,
    /// The folder was written by a newer version.
    NewerFormat,
    /// Another process uses the folder.
    InUse,
    /// The disk is full.
    DiskFull,
    /// The cluster has removed this manager.
    Removed,
    /// Another process is this manager already.
    Duplicate,
}

impl ExitReason {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Storage => 10,
            Self::Quarantine => 11,
            Self::Emptied => 12,
            Self::NewerFormat => 13,
            Self::InUse => 14,
            Self::DiskFull => 15,
            Self::Removed => 20,
            Self::Duplicate => 21,
        }
    }
}

/// Why a folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is used by another process; one manager needs one folder of its own", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "{} holds commands of version {found}, this program knows those up to {known}; run the newer program again, there \
         is no way back to this one",
        folder.display()
    )]
    NewerFormat {
        /// The data folder.
        folder: PathBuf,
        /// The version that a program must know to open it.
        found: u8,
        /// The newest one known here.
        known: u8,
    },
    /// It lost something it had promised to keep.
    #[error(
        "{} is in quarantine: {lost}. It must not vote again. `minder-manager reseed --data {}` keeps what is in it aside \
         and says how this manager joins its cluster again, as a new one",
        folder.display(),
        folder.display()
    )]
    Quarantine {
        /// The data folder.
        folder: PathBuf,
        /// What is missing or damaged.
        lost: String,
    },
    /// A restore or a recovery was cut short.
    #[error(
        "{} stands between its old content and a restored or recovered one; say the same `minder-manager restore` or \
         `recover` again, which ends what was begun",
        folder.display()
    )]
    Unfinished {
        /// The data folder.
        folder: PathBuf,
    },
    /// No room is left on its file system.
    #[error(
        "no room is left for {}; free some on its file system and start again, nothing that was promised is lost",
        folder.display()
    )]
    DiskFull {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system or RocksDB refused.
    #[error("cannot open {}", folder.display())]
    Storage {
        /// The data folder.
        folder: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What this cause means for the folder: bytes that are not what they should be are damage, a full disk is said.
    pub(crate) fn from_io(folder: &Path, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::InvalidData => Self::Quarantine { folder, lost: chain_text(&source) },
            io::ErrorKind::StorageFull => Self::DiskFull { folder, source },
            _ => Self::Storage { folder, source },
        }
    }

    /// What the process should exit with.
    pub fn exit_reason(&self) -> ExitReason {
        match self {
            Self::InUse { .. } => ExitReason::InUse,
            Self::NewerFormat { .. } => ExitReason::NewerFormat,
            Self::Quarantine { .. } => ExitReason::Quarantine,
            Self::DiskFull { .. } => ExitReason::DiskFull,
            Self::Unfinished { .. } | Self::Storage { .. } => ExitReason::Storage,
        }
    }
}

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than the frame needs.
    #[error("{what}: cut short")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// Written by a newer version.
    #[error("{what}: format {format} is newer than this program")]
    NewerFormat {
        /// What was being read.
        what: &'static str,
        /// The format found.
        format: u8,
    },
    /// The checksum does not fit.
    #[error("{what}: checksum does not fit")]
    Checksum {
        /// What was being read.
        what: &'static str,
    },
    /// The hash chain is broken: something before this entry is not what it was.
    #[error("entry {index}: does not follow its predecessor (hash chain broken)")]
    Chain {
        /// Log index.
        index: u64,
    },
    /// An entry that must be there is not.
    #[error("entry {index}: missing")]
    Missing {
        /// Log index.
        index: u64,
    },
    /// Not what this format looks like.
    #[error("{what}: malformed")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// The decoder's word.
        #[source]
        source: minicbor::decode::Error,
    },
    /// A proposal that cannot be read.
    #[error("entry {index}: proposal")]
    Proposal {
        /// Log index.
        index: u64,
        /// The decoder's word.
        #[source]
        source: minder_state::DecodeError,
    },
    /// A membership that openraft refuses.
    #[error("membership: {0}")]
    Membership(String),
}

impl CodecError {
    /// Nothing is wrong with the bytes: this program is too old for them.
    pub fn is_newer(&self) -> bool {
        matches!(
            self,
            Self::NewerFormat { .. } | Self::Proposal { source: minder_state::DecodeError::NewerFormat(_), .. }
        )
    }
}

impl From<CodecError> for io::Error {
    fn from(error: CodecError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// RocksDB's errors as the operating system's where that is what they are.
pub(crate) fn rocks(error: rocksdb::Error) -> io::Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        rocksdb::ErrorKind::IOError if error.as_ref().contains("No space left") => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// An error with all its causes, for a message that must stand alone.
pub(crate) fn chain_text(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.get_ref().and_then(|inner| inner.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
