//! The state machine: entries applied to [`State`], which readers share, and rows and "last applied" stored in one
//! batch.

mod beginning;

use std::{
    io,
    iter::Peekable,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use futures::StreamExt;
use minder_model::{RequestId, Revision};
use minder_state::{Applied, Outline, Proposal, Reply, RowChange, State};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine, Snapshot},
};
use rocksdb::{DB, WriteBatch};

use crate::{
    blocking::{self, blocking},
    codec::{self, LogIdForm},
    error::rocks,
    fail_point::fail_point,
    options::{self, META, ROWS},
    planted::Planted,
    snapshot::{SnapshotFile, SnapshotFolder, install},
    store::column,
    types::{LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

pub(crate) const APPLIED_KEY: &[u8] = b"applied";
pub(crate) const MEMBERSHIP_KEY: &[u8] = b"membership";
pub(crate) const GENERATION_KEY: &[u8] = b"generation";
pub(crate) const STATE_HASH_KEY: &[u8] = b"state-hash";

/// Entries applied in one batch: replies of a long backlog are not held back for its end, and a reader who comes in
/// meanwhile waits for about a millisecond.
const BATCH_ENTRIES_MAX: usize = 128;
/// An entry of so many bytes takes longer to apply than a reader should wait: some thousand specs. Below it the copy, which
/// is one of every node on the way to what changes, costs more than the wait.
const LARGE_BYTES: usize = 1024 * 1024;
/// Rows of so many bytes are written at once, for one entry can change many of them.
const ROWS_BYTES: usize = 1024 * 1024;

/// Rows gather for this long, or up to the bytes above, before they are written: the log has them all, and a write for
/// every batch of replies costs more than its rows. This bounds what a start applies again.
const ROWS_INTERVAL: Duration = Duration::from_millis(50);

/// What a reader gets: a state and where it stands, by structural sharing.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The table.
    pub state: State,
    /// The last entry in it.
    pub applied: Option<LogId>,
    /// Who took part then.
    pub membership: StoredMembership,
}

impl Published {
    /// Log index of the last entry in the state.
    pub fn revision(&self) -> Revision {
        Revision(self.applied.as_ref().map_or(0, |applied| applied.index))
    }
}

/// Is told which proposals were applied together: the index of each and what it did but for its rows, in order, never none.
pub type OnApplied = Box<dyn Fn(Vec<(Revision, Applied)>) + Send + Sync>;
/// Is told that a snapshot took the state to an index in one step.
pub type OnJump = Box<dyn Fn(Revision) + Send + Sync>;

/// Whoever wants to know what is applied, in order, after it is published. Called on the apply path: must not block.
pub struct Hooks {
    /// After each batch of proposals.
    pub on_applied: OnApplied,
    /// After each installed snapshot.
    pub on_jump: OnJump,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { on_applied: Box::new(|_| ()), on_jump: Box::new(|_| ()) }
    }
}

/// The state as the machine and its readers share it. It is changed in place while nobody reads; a reader takes a copy,
/// which costs a few pointers, and from then on what changes is copied as it changes.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    published: RwLock<Published>,
    /// Its outline as of the last step; locked for no longer than a copy takes.
    outline: RwLock<Outline>,
}

impl Shared {
    pub(crate) fn new(published: Published) -> Self {
        let outline = RwLock::new(published.state.outline());
        Self(Arc::new(Inner { published: RwLock::new(published), outline }))
    }

    /// For a look that is over at once. Waits while entries are applied.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.0.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what every write asks. Waits for nothing.
    pub(crate) fn outline(&self) -> RwLockReadGuard<'_, Outline> {
        self.0.outline.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.0.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a step that changed the state.
    fn outlined(&self, outline: Outline) {
        *self.0.outline.write().unwrap_or_else(PoisonError::into_inner) = outline;
    }
}

/// The state machine of one manager. Nobody else changes what is shared.
pub struct Machine {
    db: Arc<DB>,
    shared: Shared,
    generation: u32,
    unwritten: Unwritten,
    hooks: Hooks,
    snapshots: Arc<SnapshotFolder>,
}

/// Rows up to the current entry that RocksDB does not have yet.
#[derive(Default)]
struct Unwritten {
    rows: Vec<RowChange>,
    bytes: usize,
    /// The membership changed, too.
    membership: bool,
    since: Option<Instant>,
}

impl Unwritten {
    fn extend(&mut self, rows: Vec<RowChange>) {
        self.bytes += rows.iter().map(|row| row.key.len() + row.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        self.rows.extend(rows);
    }

    fn is_due(&self) -> bool {
        self.bytes >= ROWS_BYTES || self.since.is_some_and(|since| since.elapsed() >= ROWS_INTERVAL)
    }
}

impl Machine {
    pub(crate) fn new(
        db: Arc<DB>,
        shared: Shared,
        generation: u32,
        hooks: Hooks,
        snapshots: Arc<SnapshotFolder>,
    ) -> Self {
        Self { db, shared, generation, unwritten: Unwritten::default(), hooks, snapshots }
    }

    /// Stores the rows that are not stored yet, with the entry that they go up to, in one batch.
    fn write_rows(&mut self) -> io::Result<()> {
        if self.unwritten.since.is_none() {
            return Ok(());
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        let (meta, rows) = (column(&self.db, META)?, column(&self.db, ROWS)?);
        let mut batch = WriteBatch::default();
        let rows_written = if Planted::AppliedWithoutRows.is_in() { Vec::new() } else { unwritten.rows };
        for row in rows_written {
            let key = row_key(self.generation, &row.key);
            match row.value {
                Some(value) => batch.put_cf(rows, key, value),
                None => batch.delete_cf(rows, key),
            }
        }
        {
            let current = self.shared.read();
            if unwritten.membership {
                batch.put_cf(meta, MEMBERSHIP_KEY, codec::encode_membership(&current.membership));
            }
            if let Some(last) = &current.applied {
                batch.put_cf(meta, APPLIED_KEY, codec::seal(&LogIdForm::from(last)));
            }
            if !Planted::AppliedWithoutRows.is_in() {
                batch.put_cf(meta, STATE_HASH_KEY, current.state.hash().to_bytes());
            }
        }
        fail_point!("apply-write");
        self.db.write_opt(batch, &options::unsynced()).map_err(rocks)?;
        fail_point!("apply-written");
        Ok(())
    }

    /// Applies entries in one go, as long as their rows do not become too many: a large one alone and on a copy, so that
    /// nobody who reads meanwhile waits for it, and small ones together in their place.
    fn take(&mut self, entries: &mut Peekable<impl Iterator<Item = Committed>>) -> io::Result<Pending> {
        let mut pending = Pending::default();
        let shared = self.shared.clone();
        if let Some(large) = entries.next_if(is_large) {
            let mut copy = shared.read().clone();
            blocking::in_place(|| self.take_one(large, &mut copy, &mut pending))?;
            let outline = copy.state.outline();
            // What only the state before had is freed when nobody waits for the lock any more.
            let before = std::mem::replace(&mut *shared.write(), copy);
            drop(before);
            shared.outlined(outline);
            return Ok(pending);
        }
        let mut current = shared.write();
        while self.unwritten.bytes < ROWS_BYTES
            && let Some(next) = entries.next_if(|next| !is_large(next))
        {
            self.take_one(next, &mut current, &mut pending)?;
        }
        let outline = current.state.outline();
        drop(current);
        shared.outlined(outline);
        Ok(pending)
    }

    fn take_one(&mut self, next: Committed, current: &mut Published, pending: &mut Pending) -> io::Result<()> {
        let (entry, responder) = next?;
        let revision = Revision(entry.log_id.index);
        let mut reply = None;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                current.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.unwritten.membership = true;
            }
            EntryPayload::Normal(proposal) => {
                let mut applied = match Planted::RequestsForgotten.is_in() {
                    true => current.state.apply(revision, &forgotten(revision, proposal.proposal())),
                    false => current.state.apply(revision, proposal.proposal()),
                };
                self.unwritten.extend(std::mem::take(&mut applied.rows));
                reply = responder.as_ref().map(|_| applied.reply.clone());
                pending.applied.push((revision, applied));
            }
        }
        current.applied = Some(entry.log_id);
        pending.answers.extend(responder.map(|responder| (responder, reply)));
        Ok(())
    }

    /// Tells everybody what was applied, and writes rows when it is time. Nobody waits for those: the log has them.
    fn commit(&mut self, pending: Pending) -> io::Result<()> {
        let Pending { applied, answers } = pending;
        if !applied.is_empty() {
            (self.hooks.on_applied)(applied);
        }
        for (responder, reply) in answers {
            responder.send(reply);
        }
        self.unwritten.since.get_or_insert_with(Instant::now);
        if !self.unwritten.is_due() {
            return Ok(());
        }
        match self.unwritten.bytes {
            many if many >= ROWS_BYTES => blocking::in_place(|| self.write_rows()),
            _ => self.write_rows(),
        }
    }
}

/// A committed entry and whoever waits for its answer.
type Committed = io::Result<EntryResponder<TypeConfig>>;

fn is_large(next: &Committed) -> bool {
    let Ok((entry, _)) = next else { return false };
    matches!(&entry.payload, EntryPayload::Normal(proposal) if proposal.bytes().len() > LARGE_BYTES)
}

impl Drop for Machine {
    /// A stop in order leaves nothing to be applied again.
    fn drop(&mut self) {
        if let Err(error) = self.write_rows() {
            tracing::warn!(%error, "the last rows are not stored; the next start applies them again from the log");
        }
    }
}

/// The proposal as one that nobody has made before.
fn forgotten(revision: Revision, proposal: &Proposal) -> Proposal {
    let request = RequestId::new(format!("forgotten-{revision}")).unwrap_or_else(|_| proposal.request.clone());
    Proposal { request, ..proposal.clone() }
}

/// What one batch did and whom it will answer.
#[derive(Default)]
struct Pending {
    applied: Vec<(Revision, Applied)>,
    answers: Vec<(ApplyResponder<TypeConfig>, Option<Reply>)>,
}

/// A row's key in the rows column: the generation it belongs to, then its own key.
pub(crate) fn row_key(generation: u32, key: &[u8]) -> Vec<u8> {
    let mut full = generation.to_be_bytes().to_vec();
    full.extend_from_slice(key);
    full
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let current = self.shared.read();
        Ok((current.applied, current.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: futures::Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(entries) = batches.next().await {
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let pending = self.take(&mut entries)?;
                self.commit(pending)?;
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    /// Captures the state between two applies, so that data and coverage cannot disagree. What a snapshot covers may be
    /// purged from the log, so its rows are written first.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let captured = self.write_rows().map(|()| self.shared.read().clone());
        Builder { captured: Some(captured), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        self.unwritten = Unwritten::default();
        let (db, generation, meta) = (self.db.clone(), self.generation, meta.clone());
        let file = snapshot.clone();
        let installed = blocking(move || install(&db, generation, &meta, &file)).await?;
        let revision = installed.revision();
        let outline = installed.state.outline();
        *self.shared.write() = installed;
        self.shared.outlined(outline);
        self.generation += 1;
        self.snapshots.keep(snapshot);
        (self.hooks.on_jump)(revision);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        Ok(self.snapshots.latest().map(|snapshot| Snapshot { meta: snapshot.meta().clone(), snapshot }))
    }
}

/// Writes one captured state to a file while the machine goes on.
pub struct Builder {
    /// The state, or why its rows could not be written; until it is built.
    captured: Option<io::Result<Published>>,
    snapshots: Arc<SnapshotFolder>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        let nothing = || io::Error::other("a snapshot is built once");
        let captured = self.captured.take().ok_or_else(nothing)??;
        let snapshots = self.snapshots.clone();
        let built = blocking(move || {
            let meta = SnapshotMeta { last_log_id: captured.applied, last_membership: captured.membership };
            snapshots.write(&captured.state, meta)
        });
        let snapshot = built.await?;
        Ok(Snapshot { meta: snapshot.meta().clone(), snapshot })
    }
}
