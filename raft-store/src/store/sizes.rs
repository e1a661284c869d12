//! What the store takes of its disk, for people who look after it.

use std::{fs, io, path::Path, time::Duration};

use super::{Store, column};
use crate::{error::rocks, options::LOG};

/// Bytes and ages of what lies in the data folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The log: RocksDB's journal, which has the latest writes of every column, and the tables of the log's own.
    pub log_bytes: u64,
    /// The latest snapshot; 0 without one.
    pub snapshot_bytes: u64,
    /// Since the latest snapshot was written here.
    pub snapshot_age: Option<Duration>,
    /// Size of the file system that the data folder lies on.
    pub disk_total_bytes: u64,
}

impl Store {
    /// Looks at the files. A few system calls: for questions of people, not for every write.
    pub fn sizes(&self) -> io::Result<Sizes> {
        let tables = self
            .db
            .property_int_value_cf(column(&self.db, LOG)?, "rocksdb.total-sst-files-size")
            .map_err(rocks)?
            .unwrap_or_default();
        let snapshot = self.snapshots.latest();
        let written = snapshot.as_ref().and_then(|snapshot| fs::metadata(snapshot.path()).ok()?.modified().ok());
        let disk = rustix::fs::statvfs(&*self.folder)?;
        Ok(Sizes {
            log_bytes: tables + journal_bytes(&self.folder.join("db"))?,
            snapshot_bytes: snapshot.map_or(0, |snapshot| snapshot.bytes()),
            // A clock that was set back makes it new.
            snapshot_age: written.map(|written| written.elapsed().unwrap_or_default()),
            disk_total_bytes: disk.f_blocks * disk.f_frsize,
        })
    }
}

fn journal_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            // One that was removed meanwhile takes nothing.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(bytes)
}
