//! A snapshot that comes in pieces from another manager.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use super::{file::SnapshotFile, folder::SnapshotFolder};
use crate::fail_point::fail_point;

/// Spools pieces to a file. What is not finished is removed when dropped.
#[derive(Debug)]
pub struct SnapshotReceiver {
    folder: Arc<SnapshotFolder>,
    spool: PathBuf,
    file: File,
}

impl SnapshotReceiver {
    pub(crate) fn new(folder: Arc<SnapshotFolder>) -> io::Result<Self> {
        let spool = folder.spool();
        fail_point!("receive-create");
        let file = File::create(&spool)?;
        Ok(Self { folder, spool, file })
    }

    /// Adds the next piece.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        fail_point!("receive-write");
        self.file.write_all(piece)
    }

    /// Checks the whole and makes it a snapshot of this store. It is not installed yet.
    pub fn finish(self) -> io::Result<SnapshotFile> {
        self.folder.finish(&self.spool)
    }
}

impl Drop for SnapshotReceiver {
    fn drop(&mut self) {
        // Gone already when it was finished; what cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.spool);
    }
}
