//! New folders from old state: a backup is put into an empty one, the only survivor of a cluster begins another one, a
//! damaged folder is emptied. None of it forgets anything: what was there is set aside, in the same folder.
//!
//! A rebuilt folder is the beginning of a cluster and nobody's yet: it holds a state and has no identity, no peers and
//! no log. `init` gives it those.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use minder_model::{ClusterId, Revision};
use minder_state::{BackupError, BackupHeader, BackupReader, State, TERM_JUMP};
use openraft::{EntryPayload, RaftLogReader, storage::RaftLogStorage};

use crate::{
    codec::LogIdForm,
    error::OpenError,
    identity::Identity,
    log::walk,
    machine::Hooks,
    store::{Store, StoreOptions},
    types::{LogId, ManagerNode, SnapshotMeta, StoredMembership, Vote},
};

/// A folder in the making, inside the data folder: it becomes the data folder's content in a few renames.
pub(crate) const REBUILDING: &str = "rebuilding";
/// Says that the folder in the making is whole.
const WHOLE: &str = "whole";
/// What a store keeps in its folder.
const CONTENT: [&str; 3] = ["db", "mark", "snapshots"];
/// Bytes of a backup read at once.
const READ_BYTES: usize = 256 * 1024;
/// In a rebuilt folder nobody has written the last entry.
const NOBODY: u64 = 0;

/// Why a folder was not rebuilt. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Something is there already.
    #[error("{} holds a manager's data already; restore into an empty folder", folder.display())]
    NotEmpty {
        /// The data folder.
        folder: PathBuf,
    },
    /// Nothing is there.
    #[error("{} holds no manager's data", folder.display())]
    Empty {
        /// The data folder.
        folder: PathBuf,
    },
    /// The folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup is none.
    #[error("cannot restore from {}", file.display())]
    Backup {
        /// The backup.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BackupError,
    },
    /// The state is of no cluster.
    #[error("{} belongs to no cluster yet, so there is nothing to rebuild; say `init`", path.display())]
    NoCluster {
        /// The folder or file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A new cluster's beginning.
#[derive(Debug, Clone)]
pub struct Rebuilt {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The cluster whose state this was.
    pub predecessor: ClusterId,
    /// The predecessor's last write in it.
    pub revision: Revision,
    /// Where what was in the folder before has gone.
    pub set_aside: Option<PathBuf>,
}

/// What the only survivor of a cluster knows.
#[derive(Debug)]
pub struct Survivor {
    /// Who it was.
    pub identity: Identity,
    /// Managers of its cluster, by id.
    pub managers: BTreeMap<u64, ManagerNode>,
    /// Entries up to this one are known to be committed.
    pub applied: Revision,
    /// The last entry of its log.
    pub last: Revision,
    state: State,
    term: u64,
}

impl Survivor {
    /// Reads a folder that no manager uses and changes nothing in it. Every entry of its log counts: those after
    /// [`Self::applied`] may have been acknowledged, and nobody is left who could say that they were not.
    pub async fn read(folder: &Path) -> Result<Self, RebuildError> {
        if !has_content(folder) {
            return Err(RebuildError::Empty { folder: folder.into() });
        }
        let mut opened = Store::open(&StoreOptions { folder: folder.into() }, |_| Hooks::default())?;
        let failed = |source| RebuildError::Open(OpenError::from_io(folder, source));
        let no_cluster = || RebuildError::NoCluster { path: folder.into() };
        let identity = opened.store.identity().map_err(failed)?.ok_or_else(no_cluster)?;
        let published = opened.store.published();
        let (mut state, mut membership, applied) = (published.state, published.membership, published.applied);
        let begin = applied.as_ref().map_or(0, |applied| applied.index + 1);
        let mut last = applied;
        for found in walk(opened.store.database(), begin, None) {
            let (entry, _, _) = found.map_err(failed)?;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(changed) => membership = StoredMembership::new(Some(entry.log_id), changed),
                EntryPayload::Normal(proposal) => {
                    state.apply(Revision(entry.log_id.index), proposal.proposal());
                }
            }
            last = Some(entry.log_id);
        }
        let index = |log_id: Option<LogId>| Revision(log_id.map_or(0, |log_id| log_id.index));
        let vote = opened.log.read_vote().await.map_err(failed)?.map_or(0, |vote| vote.leader_id.term);
        Ok(Self {
            identity,
            managers: membership.membership().nodes().map(|(id, node)| (*id, node.clone())).collect(),
            applied: index(applied),
            last: index(last),
            state,
            term: vote.max(last.map_or(0, |last| last.leader_id.term)),
        })
    }

    /// Makes the folder the beginning of the cluster `id`. What was in it is set aside.
    pub async fn recover(self, folder: &Path, id: ClusterId) -> Result<Rebuilt, RebuildError> {
        let rebuilt = build(folder, self.state, id, self.last, self.term).await?;
        Ok(Rebuilt { set_aside: swap(folder, "before-recovery")?, ..rebuilt })
    }
}

/// Makes an empty folder the beginning of the cluster `id`, with the state of a backup.
pub async fn restore(file: &Path, folder: &Path, id: ClusterId) -> Result<(BackupHeader, Rebuilt), RebuildError> {
    if has_content(folder) {
        return Err(RebuildError::NotEmpty { folder: folder.into() });
    }
    let (header, state) = read_backup(file)?;
    let rebuilt = build(folder, state, id, header.revision, header.term).await?;
    Ok((header, Rebuilt { set_aside: swap(folder, "before-restore")?, ..rebuilt }))
}

/// Empties a folder for a manager that will be a new one. Gives where everything has gone.
pub fn set_aside(folder: &Path) -> Result<PathBuf, RebuildError> {
    if !has_content(folder) {
        return Err(RebuildError::Empty { folder: folder.into() });
    }
    // Whoever has the database open holds a lock on this file; a damaged database can still be locked.
    let lock = File::options().write(true).open(folder.join("db").join("LOCK"));
    if let Ok(lock) = &lock
        && rustix::fs::fcntl_lock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
    {
        return Err(OpenError::InUse { folder: folder.into() }.into());
    }
    move_aside(folder, "quarantine")
}

/// Ends a recovery or a restore that was cut short while it moved things to their places. `None` when there is none.
pub fn finish_interrupted(folder: &Path) -> Result<Option<Rebuilt>, RebuildError> {
    if !is_unfinished(folder) {
        return Ok(None);
    }
    let set_aside = swap(folder, "before-recovery")?;
    let opened = Store::open(&StoreOptions { folder: folder.into() }, |_| Hooks::default())?;
    let no_cluster = || RebuildError::NoCluster { path: folder.into() };
    let cluster = opened.store.published().state.cluster().cloned().ok_or_else(no_cluster)?;
    let from = cluster.rebuilt.ok_or_else(no_cluster)?;
    Ok(Some(Rebuilt { cluster: cluster.id, predecessor: from.predecessor, revision: from.revision, set_aside }))
}

/// Whether a recovery or a restore stands between the old content and the new one.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    folder.join(REBUILDING).join(WHOLE).exists()
}

/// Reads and checks a whole backup.
fn read_backup(file: &Path) -> Result<(BackupHeader, State), RebuildError> {
    let io = |source| RebuildError::Io { path: file.into(), source };
    let wrong = |source| RebuildError::Backup { file: file.into(), source };
    let mut input = File::open(file).map_err(io)?;
    let mut piece = vec![0; READ_BYTES];
    let mut reader = BackupReader::default();
    let mut state = State::default();
    loop {
        match input.read(&mut piece).map_err(io)? {
            0 => break,
            read => reader.push(&piece[..read], |key, value| state.load_row(key, value)).map_err(wrong)?,
        }
    }
    let (header, _) = reader.finish().map_err(wrong)?;
    state.complete().map_err(BackupError::Row).map_err(wrong)?;
    Ok((header, state))
}

/// Builds the new content beside the old one, whole and synced.
async fn build(
    folder: &Path,
    mut state: State,
    id: ClusterId,
    revision: Revision,
    term: u64,
) -> Result<Rebuilt, RebuildError> {
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let no_cluster = || RebuildError::NoCluster { path: folder.into() };
    let predecessor = state.cluster().ok_or_else(no_cluster)?.id.clone();
    let since = state.rebuild(id.clone(), revision, at_ms).map_err(|_| no_cluster())?;
    let path = folder.join(REBUILDING);
    let failed = |source| RebuildError::Io { path: path.clone(), source };
    // One that was not finished is of no use.
    remove_folder(&path).map_err(failed)?;
    let last: LogId = LogIdForm { term: term + TERM_JUMP, node: NOBODY, index: since.0 }.into();
    let mut opened = Store::open(&StoreOptions { folder: path.clone() }, |_| Hooks::default())?;
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::default() };
    opened.machine.become_state(state, meta).await.map_err(failed)?;
    opened.log.save_vote(&Vote::new(term + TERM_JUMP, NOBODY)).await.map_err(failed)?;
    opened.log.purge(last).await.map_err(failed)?;
    drop(opened);
    File::create(path.join(WHOLE)).and_then(|whole| whole.sync_all()).map_err(failed)?;
    sync_folder(&path).map_err(failed)?;
    Ok(Rebuilt { cluster: id, predecessor, revision, set_aside: None })
}

/// Puts what was built in the place of what was there. Cut short at any step, it is simply done again.
fn swap(folder: &Path, aside: &str) -> Result<Option<PathBuf>, RebuildError> {
    let path = folder.join(REBUILDING);
    let failed = |source| RebuildError::Io { path: folder.into(), source };
    // The first of the new content moves only when all of the old one has gone.
    let old_is_there = CONTENT.iter().all(|name| path.join(name).exists()) && has_content(folder);
    let set_aside = old_is_there.then(|| move_aside(folder, aside)).transpose()?;
    for name in CONTENT {
        rename_if_there(&path.join(name), &folder.join(name)).map_err(failed)?;
    }
    sync_folder(folder).map_err(failed)?;
    remove_folder(&path).map_err(failed)?;
    sync_folder(folder).map_err(failed)?;
    Ok(set_aside)
}

fn move_aside(folder: &Path, name: &str) -> Result<PathBuf, RebuildError> {
    let failed = |source| RebuildError::Io { path: folder.into(), source };
    let free = (1_u32..).map(|number| folder.join(format!("{name}-{number}"))).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| folder.join(name));
    fs::create_dir(&aside).map_err(failed)?;
    for name in CONTENT {
        rename_if_there(&folder.join(name), &aside.join(name)).map_err(failed)?;
    }
    sync_folder(&aside).and_then(|()| sync_folder(folder)).map_err(failed)?;
    Ok(aside)
}

fn has_content(folder: &Path) -> bool {
    CONTENT.iter().any(|name| folder.join(name).exists())
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
