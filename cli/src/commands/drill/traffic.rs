//! Who goes on while the cluster is hurt: writers through all managers, linearizable readers, and one who follows what is
//! committed. All of them are about one process, which runs nowhere.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use minder_client::{Client, DesiredWatch, Error, Write, v1};
use minder_model::{ProcessName, Spec};
use tokio::task::JoinHandle;

use super::observed::{ChangeSeen, ReadSeen, Repeat, What, WriteEnd, WriteSeen, Written};
use crate::failure::Failure;

/// Of one call, attempts at other managers included: longer than a manager holds a call that it cannot answer.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Between two calls of one writer or reader: gaps are measured to a few milliseconds, and a cluster at work hardly
/// notices.
const PAUSE: Duration = Duration::from_millis(10);
/// As many as a cluster has managers at least, so that a reader is at another one than the leader.
const READERS: usize = 2;
/// One write in so many is said again.
const REPEAT_EVERY: u64 = 8;
/// The follower looks this often whether it may end.
const FOLLOW_LOOK: Duration = Duration::from_millis(50);
/// The variable that tells one write from another.
const VALUE: &str = "MINDER_DRILL_WRITE";

/// What all of them have seen.
#[derive(Default)]
pub struct Seen {
    pub writes: Vec<WriteSeen>,
    pub repeats: Vec<Repeat>,
    pub reads: Vec<ReadSeen>,
    pub reads_failed: usize,
    pub changes: Vec<ChangeSeen>,
    /// Why nobody can write at all.
    refused: Option<Error>,
}

struct Shared {
    process: ProcessName,
    began: Instant,
    stop: AtomicBool,
    /// Everything committed up to here is in `changes`.
    followed: AtomicU64,
    /// The follower may end there.
    follow_to: AtomicU64,
    seen: Mutex<Seen>,
}

impl Shared {
    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves lists of whole records.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
pub struct Traffic {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
    follower: JoinHandle<()>,
}

/// How much there is so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    pub writes: usize,
    pub reads: usize,
}

impl Traffic {
    /// Begins. Writer and reader number n begin at the n-th manager and stay there as long as it helps. Changes after
    /// `revision` are followed at managers that nothing is done to.
    pub fn begin(
        process: ProcessName,
        managers: &[String],
        unhurt: Vec<String>,
        writers: usize,
        actor: &str,
        revision: u64,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            process,
            began: Instant::now(),
            stop: AtomicBool::new(false),
            followed: AtomicU64::new(revision),
            follow_to: AtomicU64::new(u64::MAX),
            seen: Mutex::default(),
        });
        let client = |first: usize| -> Result<Client, Failure> {
            let mut servers = managers.to_vec();
            servers.rotate_left(first % managers.len().max(1));
            Ok(Client::new(servers)?.in_turn().with_deadline(CALL_LIMIT).with_actor(actor))
        };
        let mut callers = Vec::new();
        for number in 0..writers {
            callers.push(tokio::spawn(write(shared.clone(), number, client(number)?, client(number + 1)?)));
        }
        for number in 0..READERS {
            callers.push(tokio::spawn(read(shared.clone(), client(number + 1)?)));
        }
        let follower = Client::new(unhurt)?.in_turn().with_deadline(CALL_LIMIT);
        let follower = tokio::spawn(follow(shared.clone(), follower, revision));
        Ok(Self { shared, callers, follower })
    }

    /// Microseconds since it began.
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// How much there is so far.
    pub fn count(&self) -> Count {
        let seen = self.shared.seen();
        let writes = seen.writes.iter().filter(|write| matches!(write.end, WriteEnd::Acknowledged { .. })).count();
        Count { writes, reads: seen.reads.len() }
    }

    /// What can be asked while others own it.
    pub fn counter(&self) -> impl Fn() -> Count + Send + 'static + use<> {
        let shared = self.shared.clone();
        move || {
            let seen = shared.seen();
            Count { writes: seen.writes.len(), reads: seen.reads.len() }
        }
    }

    /// Why nobody can write at all, if so.
    pub fn refused(&self) -> Option<Error> {
        self.shared.seen().refused.clone()
    }

    /// Has writers and readers end, and waits until each has its last answer, so that nothing of theirs comes after this.
    pub async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            // One that panicked has written no more either.
            let _ = caller.await;
        }
    }

    /// Waits until everything up to `revision` was followed. `false` when that cannot be had, or not within `limit`.
    pub async fn follow_to(&mut self, revision: u64, limit: Duration) -> bool {
        self.shared.follow_to.store(revision, Ordering::Relaxed);
        // An end in time says nothing yet: the follower also ends when it cannot go on.
        let _ = tokio::time::timeout(limit, &mut self.follower).await;
        self.follower.abort();
        self.shared.followed.load(Ordering::Relaxed) >= revision
    }

    /// What they have seen; nothing is left here.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.callers.iter().for_each(JoinHandle::abort);
        self.follower.abort();
    }
}

async fn write(shared: Arc<Shared>, number: usize, client: Client, other: Client) {
    for at in 0.. {
        if shared.is_over() {
            return;
        }
        let value = format!("{number}-{at}");
        let spec =
            Spec { env: [(VALUE.to_owned(), value.clone())].into(), ..Spec::new(shared.process.clone(), "/bin/true") };
        let specs = [spec];
        let write = Write { request_id: Some(format!("{}-{value}", shared.process)), ..Write::default() };
        let called_us = shared.now_us();
        let answer = client.apply(&specs, &write).await;
        let answered_us = shared.now_us();
        let end = match &answer {
            Ok(reply) => acknowledged(reply),
            Err(Error::Unknown { .. }) => WriteEnd::Unknown,
            Err(_) => WriteEnd::Failed,
        };
        shared.seen().writes.push(WriteSeen { called_us, answered_us, value: value.clone(), end });
        match (answer, end) {
            (Err(error), WriteEnd::Failed) if !matches!(error, Error::Unreachable(_)) => {
                shared.seen().refused = Some(error);
                return;
            }
            (_, WriteEnd::Acknowledged { revision, .. }) if at % REPEAT_EVERY == 0 => {
                // Said again through another manager; without an answer nothing is learnt.
                if let Ok(reply) = other.apply(&specs, &write).await {
                    let again = reply.position.map_or(0, |position| position.revision);
                    shared.seen().repeats.push(Repeat { value, first: revision, again });
                }
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn acknowledged(reply: &v1::WriteReply) -> WriteEnd {
    let generation = reply.processes.first().map_or(0, |change| change.generation);
    let revision = reply.position.as_ref().map_or(0, |position| position.revision);
    WriteEnd::Acknowledged { generation, revision }
}

async fn read(shared: Arc<Shared>, client: Client) {
    while !shared.is_over() {
        let called_us = shared.now_us();
        match look(&client, &shared.process).await {
            Ok(shown) => {
                let generation = shown.map(|shown| shown.generation);
                let answered_us = shared.now_us();
                shared.seen().reads.push(ReadSeen { called_us, answered_us, generation });
            }
            Err(_) => shared.seen().reads_failed += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The process as a linearizable read shows it, if it is there.
pub async fn look(client: &Client, process: &ProcessName) -> Result<Option<Written>, Error> {
    let selection = v1::Selection { terms: vec![process.to_string()], ..Default::default() };
    let reply = client.processes(selection, false).await?;
    Ok(reply.processes.first().map(written))
}

fn written(process: &v1::Process) -> Written {
    let value = process.spec.as_ref().and_then(|spec| spec.env.get(VALUE)).cloned().unwrap_or_default();
    Written { generation: process.generation, revision: process.revision, value }
}

/// Keeps every committed change. Ends where it may, or where the managers do not remember what comes next.
async fn follow(shared: Arc<Shared>, client: Client, revision: u64) {
    let mut watch: DesiredWatch<'_> = client.watch(revision);
    while shared.followed.load(Ordering::Relaxed) < shared.follow_to.load(Ordering::Relaxed) {
        // Where nothing changes nothing comes; dropped, the watch loses nothing.
        let event = match tokio::time::timeout(FOLLOW_LOOK, watch.next()).await {
            Ok(Ok(event)) => event,
            Ok(Err(_)) => return,
            Err(_) => continue,
        };
        let what = match event.change {
            Some(v1::watch_event::Change::ProcessPut(process)) => Some(process_put(&shared, &process)),
            Some(v1::watch_event::Change::ProcessDeleted(name)) => Some(What::Process(name)),
            Some(v1::watch_event::Change::HostPut(host)) => Some(What::Host(host.name)),
            Some(v1::watch_event::Change::HostDeleted(host)) => Some(What::Host(host)),
            Some(v1::watch_event::Change::Progress(_)) | None => None,
        };
        if let Some(what) = what {
            shared.seen().changes.push(ChangeSeen { revision: event.revision, what });
        }
        if !event.more {
            shared.followed.store(event.revision, Ordering::Relaxed);
        }
    }
}

fn process_put(shared: &Shared, process: &v1::Process) -> What {
    let name = process.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
    let written = written(process);
    match name == shared.process.as_str() {
        true => What::Own { generation: written.generation, value: written.value },
        false => What::Process(name),
    }
}
