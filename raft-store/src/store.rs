//! Opening a data folder: everything is read back, compared with what was promised, and only then handed out.

mod finish;
mod sizes;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use minder_model::CommandVersion;
use minder_state::{Outline, State, StateHash};
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, WriteBatch};

use crate::{
    codec::{self, Chain, LogIdForm, VoteForm},
    error::{OpenError, rocks},
    fail_point::fail_point,
    identity::Identity,
    log::{LogStore, PURGED_KEY, Position, Purged, VOTE_KEY, sizes, walk},
    machine::{
        APPLIED_KEY, GENERATION_KEY, Hooks, MEMBERSHIP_KEY, Machine, Published, STATE_HASH_KEY, Shared, row_key,
    },
    mark::{Mark, MarkFile},
    options::{self, LOG, META, ROWS},
    rebuild,
    snapshot::{SnapshotFolder, SnapshotReceiver, remove_other_generations},
    sync::{LogSync, SyncExecutor, SyncStats},
    tail::Tail,
    types::{LogId, SnapshotMeta, StoredMembership, Vote},
    version,
};

pub use sizes::Sizes;

const IDENTITY_KEY: &[u8] = b"identity";
/// Entries whose checksums and chain are checked at every start; [`verify`] checks all.
const CHECKED_AT_START: u64 = 1_000;

/// Every write asks for the room that is left, which is a system call. A disk takes well below the floor for writes in
/// this time.
const DISK_FREE_AGE_MAX: Duration = Duration::from_millis(50);

/// How a folder is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data folder; made if it is not there.
    pub folder: PathBuf,
}

/// An opened folder, in the parts that openraft takes and the handle that stays.
pub struct Opened {
    /// For everybody else.
    pub store: Store,
    /// For openraft.
    pub log: LogStore,
    /// For openraft.
    pub machine: Machine,
}

/// The handle of an opened folder. Clones share it; the folder is released with the last of them and of openraft's
/// parts.
#[derive(Clone)]
pub struct Store {
    db: Arc<DB>,
    folder: Arc<Path>,
    log: LogStore,
    shared: Shared,
    snapshots: Arc<SnapshotFolder>,
    disk_free: Arc<Mutex<Option<(Instant, u64)>>>,
}

impl Store {
    /// Opens a folder. `hooks` gets the revision that the state stands at and gives whom to tell from then on.
    pub fn open(options: &StoreOptions, hooks: impl FnOnce(&Published) -> Hooks) -> Result<Opened, OpenError> {
        Self::open_with(options, SyncExecutor::Thread, hooks)
    }

    /// Opens a folder whose log is synced by this executor.
    pub fn open_with(
        options: &StoreOptions,
        executor: SyncExecutor,
        hooks: impl FnOnce(&Published) -> Hooks,
    ) -> Result<Opened, OpenError> {
        let folder = &options.folder;
        let storage = |source: io::Error| OpenError::from_io(folder, source);
        if rebuild::is_unfinished(folder) {
            return Err(OpenError::Unfinished { folder: folder.clone() });
        }
        std::fs::create_dir_all(folder).map_err(storage)?;
        let db = Arc::new(open_database(folder)?);
        check_format(&db, folder)?;
        let mut recovered = recover(&db).map_err(storage)?;
        let mut mark = open_mark(folder, &recovered.position)?;
        compare(folder, mark.mark(), &recovered.position)?;
        let snapshots = Arc::new(SnapshotFolder::open(folder.join("snapshots")).map_err(storage)?);
        check_covered(folder, &recovered, &snapshots)?;
        if finish::installation(&db, &recovered, &snapshots, &mut mark).map_err(storage)? {
            recovered = recover(&db).map_err(storage)?;
        }
        reach_the_log(&recovered, &snapshots).map_err(storage)?;
        let sync = LogSync::start(executor, db.clone(), mark).map_err(storage)?;
        let log = LogStore::new(db.clone(), sync, recovered.position);
        let hooks = hooks(&recovered.published);
        let shared = Shared::new(recovered.published);
        let machine = Machine::new(db.clone(), shared.clone(), recovered.generation, hooks, snapshots.clone());
        let folder = folder.as_path().into();
        let store = Self { db, folder, log: log.clone(), shared, snapshots, disk_free: Arc::default() };
        Ok(Opened { store, log, machine })
    }

    pub(crate) fn database(&self) -> &DB {
        &self.db
    }

    /// The state as of the last applied entry, by structural sharing.
    pub fn published(&self) -> Published {
        self.shared.read().clone()
    }

    /// A look at the state as of the last applied entry, for what is over at once: nothing is applied meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Published) -> T) -> T {
        look(&self.shared.read())
    }

    /// A look at the outline of that state, which waits for nothing that is applied meanwhile.
    pub fn outline<T>(&self, look: impl FnOnce(&Outline) -> T) -> T {
        look(&self.shared.outline())
    }

    /// Who this folder is, once it was told.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        get(&self.db, IDENTITY_KEY)?.map(|bytes| Ok(codec::open("identity", &bytes)?)).transpose()
    }

    /// Tells the folder who it is; once, durably.
    pub fn set_identity(&self, identity: &Identity) -> io::Result<()> {
        if let Some(other) = self.identity()?.filter(|other| other != identity) {
            return Err(io::Error::other(format!(
                "this folder is manager {} of cluster {} already",
                other.manager, other.cluster
            )));
        }
        fail_point!("identity-write");
        self.db
            .put_cf_opt(column(&self.db, META)?, IDENTITY_KEY, codec::seal(identity), &options::synced())
            .map_err(rocks)
    }

    /// Begins to take in a snapshot from another manager.
    pub fn receive_snapshot(&self) -> io::Result<SnapshotReceiver> {
        SnapshotReceiver::new(self.snapshots.clone())
    }

    /// The vote as it is on the disk. Nobody is told of one before it is here.
    pub fn vote(&self) -> Option<Vote> {
        self.log.vote()
    }

    /// How long syncs of the log took lately.
    pub fn sync_stats(&self) -> SyncStats {
        self.log.sync_stats()
    }

    /// Damage that was found while the folder was open; it must not be opened again.
    pub fn damage(&self) -> Option<OpenError> {
        let lost = self.log.damage()?.to_owned();
        Some(OpenError::Quarantine { folder: self.folder.to_path_buf(), lost })
    }

    /// Bytes of the log's entries after `index`, to about a MiB.
    pub fn entry_bytes_after(&self, index: u64) -> u64 {
        self.log.bytes_after(index)
    }

    /// Bytes of the log's entries, to about a MiB.
    pub fn entry_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The last index that may be purged so that at most so many bytes of entries stay, if any must.
    pub fn log_excess(&self, bytes: u64) -> Option<u64> {
        self.log.excess(bytes)
    }

    /// How long the sync of the log that is under way has taken so far; none when there is none.
    pub fn sync_under_way(&self) -> Option<Duration> {
        self.log.sync_under_way()
    }

    /// Bytes that may still be written to the folder's file system, as of at most [`DISK_FREE_AGE_MAX`] ago.
    pub fn disk_free_bytes(&self) -> io::Result<u64> {
        let mut asked = self.disk_free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = *asked
            && at.elapsed() < DISK_FREE_AGE_MAX
        {
            return Ok(bytes);
        }
        let found = rustix::fs::statvfs(&*self.folder)?;
        let bytes = found.f_bavail * found.f_frsize;
        *asked = Some((Instant::now(), bytes));
        Ok(bytes)
    }
}

/// What a full check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries whose checksum and chain fit.
    pub entries: u64,
    /// Hash of the rows.
    pub state_hash: StateHash,
}

/// Checks a whole folder that no manager uses: every entry, every row, every snapshot.
pub fn verify(folder: &Path) -> Result<Verified, OpenError> {
    let opened = Store::open(&StoreOptions { folder: folder.into() }, |_| Hooks::default())?;
    let db = &opened.store.db;
    let checked = || -> io::Result<Verified> {
        opened.store.snapshots.verify()?;
        let (begin, before) =
            purged(db)?.map_or((None, None), |purged| (Some(purged.log_id.index + 1), Some(Chain(*purged.chain))));
        let first = begin.map_or_else(|| first_index(db), |begin| Ok(Some(begin)))?;
        let mut entries = 0;
        if let Some(first) = first {
            for entry in walk(db, first, before) {
                entry?;
                entries += 1;
            }
        }
        Ok(Verified { entries, state_hash: opened.store.published().state.hash() })
    };
    checked().map_err(|source| OpenError::from_io(folder, source))
}

/// The column by name. They are opened with the database, so a missing one is damage.
pub(crate) fn column<'a>(db: &'a DB, name: &str) -> io::Result<&'a ColumnFamily> {
    db.cf_handle(name).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("column {name} is missing")))
}

fn get(db: &DB, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    db.get_cf(column(db, META)?, key).map_err(rocks)
}

fn open_database(folder: &Path) -> Result<DB, OpenError> {
    DB::open_cf_descriptors(&options::database(), folder.join("db"), options::columns()).map_err(|error| {
        let text = error.as_ref();
        if text.contains("lock hold by current process") || text.contains("Resource temporarily unavailable") {
            return OpenError::InUse { folder: folder.into() };
        }
        match error.kind() {
            rocksdb::ErrorKind::Corruption => {
                OpenError::Quarantine { folder: folder.into(), lost: format!("RocksDB finds damage: {text}") }
            }
            // It makes every file that it knows of; one that is not there any more is lost.
            rocksdb::ErrorKind::IOError if text.contains("No such file") => {
                OpenError::Quarantine { folder: folder.into(), lost: format!("RocksDB misses a file: {text}") }
            }
            _ => OpenError::from_io(folder, rocks(error)),
        }
    })
}

fn check_format(db: &DB, folder: &Path) -> Result<(), OpenError> {
    let storage = |source| OpenError::from_io(folder, source);
    match version::read(db).map_err(storage)? {
        Some(known) if known <= CommandVersion::NEWEST => Ok(()),
        Some(newer) => {
            Err(OpenError::NewerFormat { folder: folder.into(), found: newer.0, known: CommandVersion::NEWEST.0 })
        }
        None => {
            let write = || {
                fail_point!("format-write");
                let mut batch = WriteBatch::default();
                version::raise(db, &mut batch, CommandVersion::FIRST)?;
                db.write_opt(batch, &options::synced()).map_err(rocks)
            };
            write().map_err(storage)
        }
    }
}

struct Recovered {
    position: Position,
    published: Published,
    generation: u32,
}

fn recover(db: &DB) -> io::Result<Recovered> {
    let vote: Option<VoteForm> = get(db, VOTE_KEY)?.map(|bytes| codec::open("vote", &bytes)).transpose()?;
    let purged = purged(db)?;
    let purged_chain = purged.as_ref().map_or_else(Chain::default, |purged| Chain(*purged.chain));
    let purged_id: Option<LogId> = purged.as_ref().map(|purged| purged.log_id.into());
    let (last, chain) =
        check_end(db, purged.as_ref())?.map_or((purged_id, purged_chain), |(last, chain)| (Some(last), chain));
    let generation = generation(db)?;
    remove_other_generations(db, generation)?;
    let position = Position {
        vote: vote.map(Into::into),
        purged: purged_id,
        purged_chain,
        last,
        chain,
        tail: Tail::default(),
        sizes: sizes(db)?,
        version: version::read(db)?.unwrap_or_default(),
    };
    Ok(Recovered { position, published: load_state(db, generation)?, generation })
}

fn purged(db: &DB) -> io::Result<Option<Purged>> {
    Ok(get(db, PURGED_KEY)?.map(|bytes| codec::open("purged", &bytes)).transpose()?)
}

fn generation(db: &DB) -> io::Result<u32> {
    match get(db, GENERATION_KEY)? {
        None => Ok(0),
        Some(bytes) => bytes
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the generation of the rows is malformed")),
    }
}

fn first_index(db: &DB) -> io::Result<Option<u64>> {
    index_at(db, IteratorMode::Start)
}

fn index_at(db: &DB, mode: IteratorMode<'_>) -> io::Result<Option<u64>> {
    let found = db.iterator_cf(column(db, LOG)?, mode).next().transpose().map_err(rocks)?;
    let index = |key: Box<[u8]>| {
        let bytes: Result<[u8; 8], _> = key.as_ref().try_into();
        bytes.map(u64::from_be_bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a log key is malformed"))
    };
    found.map(|(key, _)| index(key)).transpose()
}

/// Checks the end of the log; gives its last entry and link, if there is one after the purge.
fn check_end(db: &DB, purged: Option<&Purged>) -> io::Result<Option<(LogId, Chain)>> {
    let Some(last_index) = index_at(db, IteratorMode::End)? else { return Ok(None) };
    let first = purged.map_or(first_index(db)?.unwrap_or_default(), |purged| purged.log_id.index + 1);
    let begin = first.max(last_index.saturating_sub(CHECKED_AT_START));
    let before = purged.filter(|_| begin == first).map(|purged| Chain(*purged.chain));
    let mut last = None;
    for found in walk(db, begin, before) {
        let (entry, _, chain) = found?;
        last = Some((entry.log_id, chain));
    }
    Ok(last)
}

fn load_state(db: &DB, generation: u32) -> io::Result<Published> {
    let mut state = State::default();
    let prefix = row_key(generation, &[]);
    for found in db.iterator_cf(column(db, ROWS)?, IteratorMode::From(&prefix, Direction::Forward)) {
        let (key, value) = found.map_err(rocks)?;
        let Some(key) = key.strip_prefix(prefix.as_slice()) else { break };
        state.load_row(key, &value).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    state.complete().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    state.compact();
    let promised = get(db, STATE_HASH_KEY)?;
    if promised.is_some_and(|hash| hash != state.hash().to_bytes()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the rows of the state do not have the hash they should have",
        ));
    }
    let applied: Option<LogIdForm> = get(db, APPLIED_KEY)?.map(|bytes| codec::open("applied", &bytes)).transpose()?;
    let membership = get(db, MEMBERSHIP_KEY)?.map(|bytes| codec::decode_membership(&bytes)).transpose()?;
    Ok(Published {
        state,
        applied: applied.map(Into::into),
        membership: membership.unwrap_or_else(StoredMembership::default),
    })
}

/// The mark, or a new one where nothing can have been promised yet.
fn open_mark(folder: &Path, position: &Position) -> Result<MarkFile, OpenError> {
    let storage = |source| OpenError::from_io(folder, source);
    let path = folder.join("mark");
    if let Some(mark) = MarkFile::open(&path).map_err(storage)? {
        return Ok(mark);
    }
    if position.last.is_some() || position.vote.is_some() {
        let lost = "its mark file is missing or damaged, so nobody can say whether the log is whole".to_owned();
        return Err(OpenError::Quarantine { folder: folder.into(), lost });
    }
    let mark = MarkFile::create(&path).map_err(storage)?;
    // The names of mark, database and folder themselves must outlive a power cut.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for directory in [folder, parent] {
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(storage)?;
    }
    Ok(mark)
}

/// What was purged must be in the state or in a snapshot.
fn check_covered(folder: &Path, recovered: &Recovered, snapshots: &SnapshotFolder) -> Result<(), OpenError> {
    let snapshot = snapshots.latest().and_then(|latest| latest.meta().last_log_id);
    let covered = recovered.published.applied.max(snapshot);
    if recovered.position.purged <= covered {
        return Ok(());
    }
    let id = |log_id: Option<LogId>| text(log_id.as_ref().map(LogIdForm::from));
    let lost = format!(
        "its log was purged up to {}, but state and snapshots reach only {}",
        id(recovered.position.purged),
        id(covered)
    );
    Err(OpenError::Quarantine { folder: folder.into(), lost })
}

/// Whoever is behind where the log begins is sent a snapshot that leads there. The newest one may have been damaged and set
/// aside; then the state, which is whole, is written as another one.
fn reach_the_log(recovered: &Recovered, snapshots: &SnapshotFolder) -> io::Result<()> {
    let Published { state, applied, membership } = &recovered.published;
    if recovered.position.purged <= snapshots.latest().and_then(|latest| latest.meta().last_log_id) {
        return Ok(());
    }
    let meta = SnapshotMeta { last_log_id: *applied, last_membership: membership.clone() };
    tracing::warn!(
        index = applied.as_ref().map(|applied| applied.index),
        "no snapshot reaches the log; one is written"
    );
    snapshots.write(state, meta).map(drop)
}

/// What was promised must be there.
fn compare(folder: &Path, mark: Mark, position: &Position) -> Result<(), OpenError> {
    let last = position.last.as_ref().map(LogIdForm::from);
    let lost = if mark.last > last {
        Some(format!("its log ends at {}, but entries up to {} were promised", text(last), text(mark.last)))
    } else if mark.vote.map(crate::Vote::from) > position.vote {
        Some("its vote is older than the one it gave".to_owned())
    } else {
        None
    };
    match lost {
        Some(lost) => Err(OpenError::Quarantine { folder: folder.into(), lost }),
        None => Ok(()),
    }
}

fn text(log_id: Option<LogIdForm>) -> String {
    log_id.map_or_else(|| "nothing".to_owned(), |id| format!("index {} of term {}", id.index, id.term))
}
