//! What syncs the log: one thread. Whatever waits when it comes round shares one sync (group commit), and is told in
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
    planted::Planted,
    types::TypeConfig,
};

/// Durations kept for [`SyncStats`].
const DURATIONS_KEPT: usize = 512;
/// Jobs that may wait for the thread. A disk that hangs for so many appends must stop the node's lead rather than fill
/// its memory: the next append blocks, heartbeats cease, and the others elect.
const JOBS_MAX: usize = 4_096;

/// Who syncs the log.
#[derive(Debug, Clone, Copy, Default)]
pub enum SyncExecutor {
    /// A thread of its own, so that nobody who appends waits for the disk.
    #[default]
    Thread,
    /// Whoever appends, before the append returns: the same order on every run, for simulation.
    Inline,
    /// A task of the runtime, which sleeps as long as a disk would take, as this function says, before it syncs: what a
    /// simulation has in the place of the thread.
    Task(fn(Waiting) -> Duration),
}

/// What one sync is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Votes that wait for it.
    pub votes: usize,
    /// Appends that wait for it.
    pub appends: usize,
}

impl Waiting {
    fn of(batch: &[Job]) -> Self {
        let count = |wanted: fn(&Job) -> bool| batch.iter().filter(|job| wanted(job)).count();
        Self { votes: count(|job| matches!(job, Job::Vote(..))), appends: count(|job| matches!(job, Job::Append(..))) }
    }
}

/// What waits for a sync.
pub(crate) enum Job {
    /// Entries up to this one were written.
    Append(LogIdForm, openraft::storage::IOFlushed<TypeConfig>),
    /// This vote was written.
    Vote(VoteForm, tokio::sync::oneshot::Sender<io::Result<()>>),
    /// Entries after this one are about to be removed: the mark must go back first.
    Truncate(Option<LogIdForm>, tokio::sync::oneshot::Sender<io::Result<()>>),
    /// The log now begins after this one, which it never held: a snapshot covers it.
    Jump(LogIdForm, tokio::sync::oneshot::Sender<io::Result<()>>),
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

/// The way to whoever syncs. Dropping it ends the thread after what waits is done.
pub(crate) struct LogSync {
    way: Way,
    durations: Arc<Mutex<Durations>>,
}

enum Way {
    Thread { jobs: Option<mpsc::SyncSender<Job>>, thread: Option<JoinHandle<()>> },
    Inline(Mutex<Worker>),
    Task(tokio::sync::mpsc::Sender<Job>),
}

#[derive(Default)]
struct Durations {
    /// When the sync that is under way began.
    begun: Option<Instant>,
    latest: VecDeque<Duration>,
    count: u64,
}

impl LogSync {
    /// Begins to sync this database and to keep this mark.
    pub(crate) fn start(executor: SyncExecutor, db: Arc<DB>, mark: MarkFile) -> io::Result<Self> {
        let durations = Arc::new(Mutex::new(Durations::default()));
        let flush = Box::new(move || db.flush_wal(true).map_err(rocks));
        let worker = Worker { flush, mark, durations: durations.clone(), failed: None };
        let way = match executor {
            SyncExecutor::Inline => Way::Inline(Mutex::new(worker)),
            SyncExecutor::Task(takes) => {
                let (sender, receiver) = tokio::sync::mpsc::channel(JOBS_MAX);
                tokio::spawn(worker.run_as_task(receiver, takes));
                Way::Task(sender)
            }
            SyncExecutor::Thread => {
                let (sender, receiver) = mpsc::sync_channel(JOBS_MAX);
                let thread =
                    std::thread::Builder::new().name("log-sync".into()).spawn(move || worker.run(&receiver))?;
                Way::Thread { jobs: Some(sender), thread: Some(thread) }
            }
        };
        Ok(Self { way, durations })
    }

    /// Hands over a job.
    pub(crate) fn submit(&self, job: Job) {
        match &self.way {
            Way::Inline(worker) => worker.lock().unwrap_or_else(PoisonError::into_inner).handle(vec![job]),
            Way::Task(jobs) => {
                if let Err(refused) = jobs.try_send(job) {
                    complete(refused.into_inner(), Some("the simulated disk has too much to do"));
                }
            }
            Way::Thread { jobs: Some(jobs), .. } => {
                if let Err(mpsc::SendError(job)) = jobs.send(job) {
                    complete(job, Some(THREAD_ENDED));
                }
            }
            Way::Thread { jobs: None, .. } => complete(job, Some(THREAD_ENDED)),
        }
    }

    /// How long the sync that is under way has taken so far; none when there is none.
    pub(crate) fn under_way(&self) -> Option<Duration> {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.begun.map(|begun| begun.elapsed())
    }

    /// How long syncs took lately.
    pub(crate) fn stats(&self) -> SyncStats {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = durations.latest.iter().copied().collect();
        sorted.sort_unstable();
        let at =
            |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
        SyncStats { p50: at(50), p99: at(99), count: durations.count }
    }
}

const THREAD_ENDED: &str = "the sync thread has ended";

impl Drop for LogSync {
    fn drop(&mut self) {
        if let Way::Thread { jobs, thread } = &mut self.way {
            drop(jobs.take());
            // A panic there has been reported by the panic itself.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

struct Worker {
    flush: Box<dyn FnMut() -> io::Result<()> + Send>,
    mark: MarkFile,
    durations: Arc<Mutex<Durations>>,
    failed: Option<String>,
}

impl Worker {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            self.handle(std::iter::once(first).chain(jobs.try_iter().take(JOBS_MAX)).collect());
        }
    }

    async fn run_as_task(mut self, mut jobs: tokio::sync::mpsc::Receiver<Job>, takes: fn(Waiting) -> Duration) {
        let mut batch = Vec::new();
        while jobs.recv_many(&mut batch, JOBS_MAX).await > 0 {
            self.begin(Some(Instant::now()));
            let takes = takes(Waiting::of(&batch));
            let batch = answered_early(std::mem::take(&mut batch));
            tokio::time::sleep(takes).await;
            self.handle(batch);
        }
    }

    fn handle(&mut self, batch: Vec<Job>) {
        if self.failed.is_none() {
            self.begin(Some(Instant::now()));
            if let Err(error) = self.sync(&batch) {
                tracing::error!(%error, "the log cannot be synced; this node stops");
                self.failed = Some(error.to_string());
            }
            self.begin(None);
        }
        for job in batch {
            complete(job, self.failed.as_deref());
        }
    }

    /// One sync for the whole batch, then the mark.
    fn sync(&mut self, batch: &[Job]) -> io::Result<()> {
        let begin = Instant::now();
        fail_point!("log-sync");
        (self.flush)()?;
        fail_point!("log-synced");
        self.note(begin.elapsed());
        let mut mark = self.mark.mark();
        for job in batch {
            match job {
                Job::Append(last, _) => mark.last = Some(*last),
                Job::Vote(vote, _) => mark.vote = Some(*vote),
                Job::Truncate(last, _) => mark.last = *last,
                Job::Jump(to, _) => mark.last = mark.last.max(Some(*to)),
            }
        }
        self.mark.set(mark)
    }

    fn begin(&self, begun: Option<Instant>) {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).begun = begun;
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

/// Answers before the sync whom a planted bug answers so; gives what is left.
fn answered_early(batch: Vec<Job>) -> Vec<Job> {
    let is_early = |job: &Job| match job {
        Job::Append(..) => Planted::AppendBeforeSync.is_in(),
        Job::Vote(..) => Planted::VoteBeforeSync.is_in(),
        Job::Truncate(..) | Job::Jump(..) => false,
    };
    let (early, rest): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(is_early);
    early.into_iter().for_each(|job| complete(job, None));
    rest
}

fn complete(job: Job, failed: Option<&str>) {
    let result = || match failed {
        None => Ok(()),
        Some(why) => Err(io::Error::other(why.to_owned())),
    };
    match job {
        Job::Append(_, flushed) => flushed.io_completed(result()),
        // A waiter that is gone needs no word.
        Job::Vote(_, done) | Job::Truncate(_, done) | Job::Jump(_, done) => drop(done.send(result())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_first_failed_sync_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let flushes = Arc::new(AtomicU32::new(0));
        let counted = flushes.clone();
        // The second sync fails; a third would succeed, as a disk's does after it has dropped the dirty pages.
        let flush = Box::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
            1 => Err(io::Error::other("the disk says no")),
            _ => Ok(()),
        });
        let mark = MarkFile::create(&folder.path().join("mark")).unwrap();
        let mut worker = Worker { flush, mark, durations: Arc::default(), failed: None };
        let mut vote = |term| {
            let (done, mut saved) = tokio::sync::oneshot::channel();
            worker.handle(vec![Job::Vote(VoteForm { term, node: 1, committed: true }, done)]);
            let saved = saved.try_recv().unwrap().map_err(|error| error.to_string());
            (saved, worker.mark.mark().vote.map(|vote| vote.term))
        };
        assert_eq!(vote(1), (Ok(()), Some(1)));
        assert_eq!(vote(2), (Err("the disk says no".into()), Some(1)));
        assert_eq!(vote(3), (Err("the disk says no".into()), Some(1)));
        assert_eq!(flushes.load(Ordering::Relaxed), 2);
    }
}
