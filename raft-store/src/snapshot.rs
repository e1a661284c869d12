//! Snapshots as files: written whole, synced, renamed; read only when every checksum fits.

mod file;
mod folder;
mod install;
mod receive;

pub use file::{SnapshotFile, read_snapshot, write_snapshot};
pub(crate) use folder::SnapshotFolder;
pub(crate) use install::{install, remove_other_generations};
pub use receive::SnapshotReceiver;
