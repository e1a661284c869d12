//! The one thread that syncs the log. Whatever waits when it comes round shares one sync (group commit), and is told in
//! the order it came. The first failed sync is the last: after it the page cache cannot be trusted (fsyncgate), so
//! everything from then on fails and the node stops.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rocksdb::DB;

use crate::{
    codec::{LogIdForm, VoteForm},
    error::rocks,
    fail_point::fail_point,
    mark::MarkFile,
    types::TypeConfig,
};

/// Durations kept for [`SyncStats`].
const DURATIONS_KEPT: usize = 512;

/// What waits for a sync.
pub(crate) enum Job {
    /// Entries up to this one were written.
    Append(LogIdForm, openraft::storage::IOFlushed<TypeConfig>),
    /// This vote was written.
    Vote(VoteForm, tokio::sync::oneshot::Sender<io::Result<()>>),
    /// Entries after this one are about to be removed: the mark must go back first.
    Truncate(Option<LogIdForm>, tokio::sync::oneshot::Sender<io::Result<()>>),
}

/// How long syncs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Half of the latest syncs took at most this long.
    pub p50: Duration,
    /// All but one in a hundred of the latest syncs took at most this long.
    pub p99: Duration,
    /// Syncs since the store was opened.
    pub count: u64,
}

/// The thread and the way to it. Dropping it ends the thread after what waits is done.
pub(crate) struct SyncThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    durations: Arc<Mutex<Durations>>,
}

#[derive(Default)]
struct Durations {
    latest: VecDeque<Duration>,
    count: u64,
}

impl SyncThread {
    /// Starts the thread for this database and mark.
    pub(crate) fn start(db: Arc<DB>, mark: MarkFile) -> io::Result<Self> {
        // Unbounded by type, bounded by use: openraft keeps at most `max_append_entries` appends in flight.
        let (sender, receiver) = mpsc::channel();
        let durations = Arc::new(Mutex::new(Durations::default()));
        let worker = Worker { db, mark, durations: durations.clone(), failed: None };
        let thread = std::thread::Builder::new().name("log-sync".into()).spawn(move || worker.run(&receiver))?;
        Ok(Self { jobs: Some(sender), thread: Some(thread), durations })
    }

    /// Hands over a job. An ended thread answers by dropping it, which its waiter sees.
    pub(crate) fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && let Err(mpsc::SendError(job)) = jobs.send(job)
        {
            complete(job, Some("the sync thread has ended"));
        }
    }

    /// How long syncs took lately.
    pub(crate) fn stats(&self) -> SyncStats {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = durations.latest.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
        SyncStats { p50: at(50), p99: at(99), count: durations.count }
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

struct Worker {
    db: Arc<DB>,
    mark: MarkFile,
    durations: Arc<Mutex<Durations>>,
    failed: Option<String>,
}

impl Worker {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter()).collect();
            if self.failed.is_none()
                && let Err(error) = self.sync(&batch)
            {
                tracing::error!(%error, "the log cannot be synced; this node stops");
                self.failed = Some(error.to_string());
            }
            for job in batch {
                complete(job, self.failed.as_deref());
            }
        }
    }

    /// One sync for the whole batch, then the mark.
    fn sync(&mut self, batch: &[Job]) -> io::Result<()> {
        let begin = Instant::now();
        fail_point!("log-sync-before");
        self.db.flush_wal(true).map_err(rocks)?;
        fail_point!("log-sync-after");
        self.note(begin.elapsed());
        let mut mark = self.mark.mark();
        for job in batch {
            match job {
                Job::Append(last, _) => mark.last = Some(*last),
                Job::Vote(vote, _) => mark.vote = Some(*vote),
                Job::Truncate(last, _) => mark.last = *last,
            }
        }
        self.mark.set(mark)
    }

    fn note(&self, took: Duration) {
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.count += 1;
        durations.latest.push_back(took);
        if durations.latest.len() > DURATIONS_KEPT {
            durations.latest.pop_front();
        }
    }
}

fn complete(job: Job, failed: Option<&str>) {
    let result = || match failed {
        None => Ok(()),
        Some(why) => Err(io::Error::other(why.to_owned())),
    };
    match job {
        Job::Append(_, flushed) => flushed.io_completed(result()),
        // A waiter that is gone needs no word.
        Job::Vote(_, done) | Job::Truncate(_, done) => drop(done.send(result())),
    }
}
