//! The folder of snapshots: files appear by rename, the latest few stay.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use minder_state::State;

use super::file::{self, SnapshotFile};
use crate::{fail_point::fail_point, types::SnapshotMeta};

/// The latest one, and one before it in case the latest turns out damaged.
const KEPT: usize = 2;

/// The snapshots of one store.
#[derive(Debug)]
pub(crate) struct SnapshotFolder {
    path: PathBuf,
    latest: Mutex<Option<SnapshotFile>>,
    spools: AtomicU64,
}

impl SnapshotFolder {
    /// Opens the folder: removes what was never finished, takes the newest file that is whole. A damaged one is kept
    /// aside by name.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        for left in list(&path, "tmp")? {
            fs::remove_file(left)?;
        }
        let mut latest = None;
        for candidate in list(&path, "snapshot")?.into_iter().rev() {
            match SnapshotFile::open(&candidate) {
                Ok(whole) => {
                    latest = Some(whole);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let aside = candidate.with_extension("damaged");
                    tracing::error!(file = %candidate.display(), %error, aside = %aside.display(), "damaged snapshot set aside");
                    fs::rename(&candidate, aside)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path, latest: Mutex::new(latest), spools: AtomicU64::new(0) })
    }

    /// The newest snapshot.
    pub(crate) fn latest(&self) -> Option<SnapshotFile> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A name for a file in the making.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join(format!("spool-{}.tmp", self.spools.fetch_add(1, Ordering::Relaxed)))
    }

    /// Writes a state as the newest snapshot.
    pub(crate) fn write(&self, state: &State, meta: SnapshotMeta) -> io::Result<SnapshotFile> {
        let spool = self.spool();
        file::write(&spool, state, &meta)?;
        fail_point!("snapshot-written");
        let snapshot = self.finish(&spool)?;
        self.keep(snapshot.clone());
        Ok(snapshot)
    }

    /// Checks a spooled file and gives it its name, durably.
    pub(crate) fn finish(&self, spool: &Path) -> io::Result<SnapshotFile> {
        let whole = SnapshotFile::open(spool)?;
        let name = match &whole.meta().last_log_id {
            Some(last) => format!("{:020}-{:020}-{}.snapshot", last.index, last.leader_id.term, last.leader_id.node_id),
            None => "00000000000000000000-empty.snapshot".to_owned(),
        };
        let path = self.path.join(name);
        fail_point!("snapshot-finish");
        fs::File::open(spool)?.sync_all()?;
        fail_point!("snapshot-rename");
        fs::rename(spool, &path)?;
        fail_point!("snapshot-folder-sync");
        fs::File::open(&self.path)?.sync_all()?;
        fail_point!("snapshot-renamed");
        whole.moved_to(path)
    }

    /// Checks every file.
    pub(crate) fn verify(&self) -> io::Result<()> {
        list(&self.path, "snapshot")?.iter().try_for_each(|path| SnapshotFile::open(path).map(drop))
    }

    /// Makes this the newest snapshot, unless a newer one is there, and removes old ones.
    pub(crate) fn keep(&self, snapshot: SnapshotFile) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|latest| latest.meta().last_log_id <= snapshot.meta().last_log_id) {
            *latest = Some(snapshot);
        }
        drop(latest);
        if let Err(error) = self.prune() {
            // Old snapshots only cost room; the next snapshot tries again.
            tracing::warn!(folder = %self.path.display(), %error, "old snapshots not removed");
        }
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = list(&self.path, "snapshot")?;
        files.truncate(files.len().saturating_sub(KEPT));
        if !files.is_empty() {
            fail_point!("snapshot-prune");
        }
        files.into_iter().try_for_each(fs::remove_file)
    }
}

/// Files with this extension, oldest first: names begin with the index.
fn list(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
