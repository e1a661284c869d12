//! What a crash cut short while a snapshot was taken in is finished when the folder is opened next, before anybody looks.

use std::io;

use rocksdb::DB;

use super::Recovered;
use crate::{
    codec::LogIdForm,
    log::begin_after,
    mark::{Mark, MarkFile},
    snapshot::{SnapshotFolder, install},
};

/// Installs a snapshot that came in and goes further than the state. Then the log, if it ends before the state or
/// contradicts it, begins after it: entries of an older term that nobody else has may stand at the same indexes, and
/// openraft takes such a folder for a corrupted one. `true` when something was changed.
///
/// What is removed here was promised by this manager, but the snapshot holds all of it that was ever committed.
pub(super) fn installation(
    db: &DB,
    recovered: &Recovered,
    snapshots: &SnapshotFolder,
    mark: &mut MarkFile,
) -> io::Result<bool> {
    let mut applied = recovered.published.applied;
    let newer = snapshots.latest().filter(|latest| latest.meta().last_log_id > applied);
    if let Some(snapshot) = &newer {
        tracing::warn!(file = %snapshot.path().display(), "a snapshot that came in before the last stop is installed");
        applied = install(db, recovered.generation, snapshot.meta(), snapshot)?.applied;
    }
    // Terms count before indexes here, as always.
    let covered = applied.filter(|_| recovered.position.last < applied);
    if let Some(applied) = covered {
        begin_after(db, applied)?;
        let last = mark.mark().last.max(Some(LogIdForm::from(&applied)));
        mark.set(Mark { last, ..mark.mark() })?;
    }
    Ok(newer.is_some() || covered.is_some())
}
