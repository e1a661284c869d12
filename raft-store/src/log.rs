//! The log: entries by index, the vote beside them, all in one WAL.
//!
//! An append is one un-synced write, readable at once, and complete when the sync thread says so. Nothing here awaits a
//! disk but the vote and the rare truncation.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use minder_model::CommandVersion;
use minicbor::{CborLen, Decode, Encode, bytes::ByteArray};
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use crate::{
    codec::{self, Chain, LogIdForm, VoteForm, frame_entry, unframe_entry},
    error::{CodecError, chain_text, rocks},
    fail_point::fail_point,
    options::{self, LOG, META},
    planted::Planted,
    size::LogSizes,
    store::column,
    sync::{Job, LogSync, SyncStats},
    tail::Tail,
    types::{Entry, LogId, TypeConfig, Vote},
    version,
};

/// Bytes of entries in one replication message: well below the 4 MiB that gRPC allows by default, large enough that
/// the message's own cost disappears.
const REPLICATE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) const VOTE_KEY: &[u8] = b"vote";
pub(crate) const PURGED_KEY: &[u8] = b"purged";

/// The log of one manager. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    db: Arc<DB>,
    sync: LogSync,
    position: Mutex<Position>,
    /// The first stored entry that was found to be damaged while this store was open.
    damage: OnceLock<String>,
    /// The first write that failed. What is in memory may be ahead of the disk since, so it was the last one.
    failed: OnceLock<String>,
}

/// Where the log begins and ends, and its decoded tail.
pub(crate) struct Position {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) purged_chain: Chain,
    pub(crate) last: Option<LogId>,
    pub(crate) chain: Chain,
    pub(crate) tail: Tail,
    pub(crate) sizes: LogSizes,
    /// What the folder says that a program must know.
    pub(crate) version: CommandVersion,
}

/// Up to where the log was purged, and the chain link there, so that the chain goes on.
#[derive(Debug, Clone, Encode, Decode, CborLen)]
#[cbor(map)]
pub(crate) struct Purged {
    #[n(0)]
    pub(crate) log_id: LogIdForm,
    #[n(1)]
    pub(crate) chain: ByteArray<16>,
}

impl LogStore {
    pub(crate) fn new(db: Arc<DB>, sync: LogSync, position: Position) -> Self {
        Self {
            inner: Arc::new(Inner {
                db,
                sync,
                position: Mutex::new(position),
                damage: OnceLock::new(),
                failed: OnceLock::new(),
            }),
        }
    }

    /// The vote as it is on the disk. Nobody is told of one before it is here.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.position().vote
    }

    /// How long the sync that is under way has taken so far; none when there is none.
    pub fn sync_under_way(&self) -> Option<Duration> {
        self.inner.sync.under_way()
    }

    /// How long syncs took lately.
    pub fn sync_stats(&self) -> SyncStats {
        self.inner.sync.stats()
    }

    fn note_damage(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            // The first one is the one that ends this node.
            let _ = self.inner.damage.set(chain_text(error));
        }
    }

    fn takes_more(&self) -> io::Result<()> {
        match self.inner.failed.get() {
            None => Ok(()),
            Some(why) => Err(io::Error::other(format!("an earlier write failed: {why}"))),
        }
    }

    fn unless_failed(&self, done: io::Result<()>) -> io::Result<()> {
        done.inspect_err(|error| drop(self.inner.failed.set(error.to_string())))
    }

    /// What was found to be damaged.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.inner.damage.get().map(String::as_str)
    }

    /// Bytes of the entries after `index`, to about a MiB.
    pub(crate) fn bytes_after(&self, index: u64) -> u64 {
        self.position().sizes.after(index)
    }

    /// Bytes of the whole log, to about a MiB.
    pub(crate) fn bytes(&self) -> u64 {
        self.position().sizes.total()
    }

    /// The last index that may go so that at most so many bytes stay, if any must.
    pub(crate) fn excess(&self, bytes: u64) -> Option<u64> {
        self.position().sizes.excess(bytes)
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.inner.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries from `begin`, or from where the log begins, to before `end`: at least one if there is one, ending before
    /// `bytes_max` is passed.
    fn read(&self, begin: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let position = self.position();
        let first = position.purged.as_ref().map_or(0, |purged| purged.index + 1);
        let after_last = position.last.as_ref().map_or(0, |last| last.index + 1);
        let (begin, end) = (begin.max(first), end.min(after_last));
        if begin >= end {
            return Ok(Vec::new());
        }
        let mut bytes = 0;
        if let Some(entries) = position.tail.range(begin, end) {
            let within = |(entry, size): &(Entry, usize)| {
                let fits = bytes == 0 || bytes + size <= bytes_max;
                bytes += size;
                fits.then(|| entry.clone())
            };
            return Ok(entries.map_while(within).collect());
        }
        // The iterator sees the log as it is now, so a purge or truncation that comes after the lock makes no gap in it.
        let stored = walk(&self.inner.db, begin, None);
        drop(position);
        let mut entries = Vec::new();
        for found in stored {
            let (entry, size, _) = found.inspect_err(|error| self.note_damage(error))?;
            if entry.log_id.index >= end || (bytes > 0 && bytes + size > bytes_max) {
                break;
            }
            bytes += size;
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let begin = match range.start_bound() {
            Bound::Included(begin) => *begin,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(begin, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(start, end, REPLICATE_BYTES_MAX)?;
        // A stream that was given up, whose follower has had a snapshot since, may ask once more for what is purged now.
        // With a gap before them the entries are nothing to send.
        Ok(if entries.first().is_some_and(|entry| entry.log_id.index == start) { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.position().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let position = self.position();
        Ok(LogState { last_purged_log_id: position.purged, last_log_id: position.last.or(position.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.takes_more()?;
        let saved = self.write_vote(vote).await;
        self.unless_failed(saved)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.takes_more()?;
        self.unless_failed(self.write_entries(entries, callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.takes_more()?;
        let truncated = self.remove_after(last_log_id).await;
        self.unless_failed(truncated)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.takes_more()?;
        let purged = self.purge_up_to(log_id).await;
        self.unless_failed(purged)
    }
}

impl LogStore {
    async fn write_vote(&self, vote: &Vote) -> io::Result<()> {
        let form = VoteForm::from(vote);
        fail_point!("vote-write");
        self.inner
            .db
            .put_cf_opt(column(&self.inner.db, META)?, VOTE_KEY, codec::seal(&form), &options::unsynced())
            .map_err(rocks)?;
        fail_point!("vote-written");
        let (done, saved) = tokio::sync::oneshot::channel();
        self.inner.sync.submit(Job::Vote(form, done));
        saved.await.map_err(io::Error::other)??;
        self.position().vote = Some(*vote);
        Ok(())
    }

    fn write_entries(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        callback: IOFlushed<TypeConfig>,
    ) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        let mut position = self.position();
        let log = column(&self.inner.db, LOG)?;
        for entry in entries {
            let needed = version::needed(&entry);
            if needed > position.version {
                version::raise(&self.inner.db, &mut batch, needed)?;
                position.version = needed;
            }
            let form = codec::encode_entry(&entry);
            position.chain = position.chain.next(&form);
            let framed = frame_entry(&form, position.chain);
            batch.put_cf(log, entry.log_id.index.to_be_bytes(), &framed);
            position.last = Some(entry.log_id);
            position.sizes.push(entry.log_id.index, framed.len());
            position.tail.push(entry, framed.len());
        }
        fail_point!("append-write");
        self.inner.db.write_opt(batch, &options::unsynced()).map_err(rocks)?;
        fail_point!("append-written");
        match &position.last {
            // Submitted under the lock, so that jobs stand in the order of the writes.
            Some(last) => self.inner.sync.submit(Job::Append(last.into(), callback)),
            None => callback.io_completed(Ok(())),
        }
        Ok(())
    }

    async fn remove_after(&self, last_log_id: Option<LogId>) -> io::Result<()> {
        if last_log_id >= self.position().last {
            return Ok(());
        }
        let (done, lowered) = tokio::sync::oneshot::channel();
        self.inner.sync.submit(Job::Truncate(last_log_id.as_ref().map(Into::into), done));
        lowered.await.map_err(io::Error::other)??;
        fail_point!("truncate-mark-lowered");
        let log = column(&self.inner.db, LOG)?;
        let begin =
            last_log_id.as_ref().map_or(0, |last| last.index + 1 - u64::from(Planted::TruncatesTooMuch.is_in()));
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(log, begin.to_be_bytes(), u64::MAX.to_be_bytes());
        let mut position = self.position();
        self.inner.db.write_opt(batch, &options::unsynced()).map_err(rocks)?;
        fail_point!("truncate-written");
        position.tail.truncate_after(last_log_id.as_ref().map(|last| last.index));
        position.sizes.truncate_after(last_log_id.as_ref().map(|last| last.index));
        position.chain = match &last_log_id {
            Some(last) if position.purged != Some(*last) => chain_at(&self.inner.db, last.index)?
                .ok_or_else(|| io::Error::from(CodecError::Missing { index: last.index }))?,
            Some(_) | None => position.purged_chain,
        };
        position.last = last_log_id.or(position.purged);
        Ok(())
    }

    async fn purge_up_to(&self, log_id: LogId) -> io::Result<()> {
        if !self.remove_up_to(log_id)? {
            return Ok(());
        }
        let (done, raised) = tokio::sync::oneshot::channel();
        self.inner.sync.submit(Job::Jump((&log_id).into(), done));
        raised.await.map_err(io::Error::other)?
    }

    /// Removes entries up to this one. `true` when it lies beyond the log's end: a snapshot took its place.
    fn remove_up_to(&self, log_id: LogId) -> io::Result<bool> {
        let mut position = self.position();
        // Beyond the end there is no link; the chain begins anew.
        let chain = chain_at(&self.inner.db, log_id.index)?.unwrap_or_default();
        let begin = position.purged.as_ref().map_or(0, |purged| purged.index + 1);
        let batch = purge_batch(&self.inner.db, begin..log_id.index + 1, log_id, chain)?;
        fail_point!("purge-write");
        self.inner.db.write_opt(batch, &options::unsynced()).map_err(rocks)?;
        fail_point!("purge-written");
        position.tail.purge(log_id.index);
        position.sizes.purge(log_id.index);
        position.purged_chain = chain;
        let jumps = position.last.as_ref().is_none_or(|last| last.index < log_id.index);
        if position.last.as_ref().is_none_or(|last| last.index <= log_id.index) {
            position.last = Some(log_id);
            position.chain = chain;
        }
        position.purged = Some(log_id);
        Ok(jumps)
    }
}

/// The write that removes these entries, which end with this one or are covered by it.
fn purge_batch(db: &DB, entries: Range<u64>, log_id: LogId, chain: Chain) -> io::Result<WriteBatch> {
    let mut batch = WriteBatch::default();
    let purged = Purged { log_id: (&log_id).into(), chain: chain.0.into() };
    batch.put_cf(column(db, META)?, PURGED_KEY, codec::seal(&purged));
    batch.delete_range_cf(column(db, LOG)?, entries.start.to_be_bytes(), entries.end.to_be_bytes());
    Ok(batch)
}

/// Empties the log of a folder that is being opened, durably: it goes on after this entry.
pub(crate) fn begin_after(db: &DB, log_id: LogId) -> io::Result<()> {
    let batch = purge_batch(db, 0..u64::MAX, log_id, Chain::default())?;
    db.write_opt(batch, &options::synced()).map_err(rocks)
}

/// The chain link of the entry at `index`, if it is there.
fn chain_at(db: &DB, index: u64) -> io::Result<Option<Chain>> {
    let framed = db.get_cf(column(db, LOG)?, index.to_be_bytes()).map_err(rocks)?;
    Ok(framed.map(|framed| unframe_entry(&framed).map(|(chain, _)| chain)).transpose()?)
}

/// The sizes of all stored entries. Values are looked at and not copied; the checksum of every block is looked at, too.
pub(crate) fn sizes(db: &DB) -> io::Result<LogSizes> {
    let mut sizes = LogSizes::default();
    let mut reading = rocksdb::ReadOptions::default();
    reading.fill_cache(false);
    let mut stored = db.raw_iterator_cf_opt(column(db, LOG)?, reading);
    stored.seek_to_first();
    while let Some((key, value)) = stored.item() {
        let key = key.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a log key is malformed"))?;
        sizes.push(u64::from_be_bytes(key), value.len());
        stored.next();
    }
    stored.status().map_err(rocks)?;
    Ok(sizes)
}

/// Walks the stored entries from `begin`, checking checksum, index and chain; `before` is the link before the first
/// one, when it is known. Gives each entry with its stored size and its link.
pub(crate) fn walk(
    db: &DB,
    begin: u64,
    before: Option<Chain>,
) -> impl Iterator<Item = io::Result<(Entry, usize, Chain)>> + '_ {
    let mut previous = before;
    // A log that was never purged begins where it begins, usually at 0.
    let mut expected = (begin > 0).then_some(begin);
    let begin_key = begin.to_be_bytes();
    let stored = column(db, LOG).map(|log| db.iterator_cf(log, IteratorMode::From(&begin_key, Direction::Forward)));
    let (iterator, failed) = match stored {
        Ok(iterator) => (Some(iterator), None),
        Err(error) => (None, Some(Err(error))),
    };
    failed.into_iter().chain(iterator.into_iter().flatten().map(move |found| {
        let (_, framed) = found.map_err(rocks)?;
        let (chain, form) = unframe_entry(&framed)?;
        let entry = codec::decode_entry(form)?;
        let index = entry.log_id.index;
        if expected.is_some_and(|expected| index != expected)
            || previous.is_some_and(|previous| previous.next(form) != chain)
        {
            return Err(CodecError::Chain { index }.into());
        }
        (previous, expected) = (Some(chain), Some(index + 1));
        Ok((entry, framed.len(), chain))
    }))
}
