//! One manager: the real one, on a simulated host, over a folder that outlives it.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use minder_fleet::SilenceLimits;
use minder_manager::{Listening, RaftSettings, Running, Settings};
use minder_raft_store::{SyncExecutor, Waiting};
use minder_sim::Chance;
use tokio::sync::Notify;
use turmoil::net::TcpListener;

use crate::{
    disk::{self, Word},
    net,
    planted::Planted,
};

/// Managers there can be, spare ones included.
pub const MANAGERS_MAX: usize = 7;
const CLIENT_PORT: u16 = 7701;
const PEER_PORT: u16 = 7702;

/// A manager's place: its host, its folder and how it stands.
#[derive(Debug)]
pub struct Place {
    /// Name of its host.
    pub name: String,
    index: usize,
    root: PathBuf,
    raft: RaftSettings,
    /// Starts so far.
    starts: AtomicU64,
    /// Folders so far; each crash leaves a new one.
    folders: AtomicU64,
    /// It serves.
    serves: AtomicBool,
    stop: Notify,
    ended: Mutex<Option<Ended>>,
}

/// Why a manager's program has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it would exit with.
    pub code: u8,
    /// What it says.
    pub message: String,
}

impl Place {
    /// The manager of this number, from 0, with its folders under `root`.
    pub fn new(index: usize, root: &Path, raft: RaftSettings) -> Arc<Self> {
        let name = format!("m{}", index + 1);
        Arc::new(Self {
            root: root.join(&name),
            name,
            index,
            raft,
            starts: AtomicU64::new(0),
            folders: AtomicU64::new(0),
            serves: AtomicBool::new(false),
            stop: Notify::new(),
            ended: Mutex::default(),
        })
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> String {
        format!("{}:{CLIENT_PORT}", self.name)
    }

    /// Where the other managers reach it.
    pub fn peer_address(&self) -> String {
        format!("{}:{PEER_PORT}", self.name)
    }

    /// Which start this is.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Whether it serves.
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Its folder now.
    pub fn folder(&self) -> PathBuf {
        self.root.join(self.folders.load(Ordering::Relaxed).to_string())
    }

    /// A new, empty folder in the place of its own.
    pub fn next_folder(&self) -> PathBuf {
        self.folders.fetch_add(1, Ordering::Relaxed);
        self.folder()
    }

    /// Tells it to stop in order.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Nothing of it runs any more.
    pub fn is_down(&self) {
        self.serves.store(false, Ordering::Relaxed);
        self.lock_ended().take();
    }

    /// Why its program has ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.lock_ended().clone()
    }

    fn lock_ended(&self) -> MutexGuard<'_, Option<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Settings {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Settings {
            data: self.folder(),
            listen: nowhere,
            peer_listen: nowhere,
            advertise: None,
            peer_advertise: None,
            metrics_listen: None,
            log: String::new(),
            disk_floor_bytes: 0,
            streams_max: 1_000,
            drills: false,
            silence: SilenceLimits::default(),
            raft: self.raft.clone(),
            sync: SyncExecutor::Task(TAKES[self.index]),
        }
    }

    /// Runs the manager. The host stays when it ends, as a machine does: whoever looks after it sees why.
    pub async fn run(self: Arc<Self>) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let ended = match self.serve().await {
            Ok(()) => Ended { code: 0, message: "it was told to stop".into() },
            Err(ended) => ended,
        };
        tracing::info!(code = ended.code, "has ended: {}", ended.message);
        *self.lock_ended() = Some(ended);
        std::future::pending::<()>().await;
    }

    async fn serve(&self) -> Result<(), Ended> {
        let harness = |error: std::io::Error| Ended { code: 1, message: format!("it cannot listen: {error}") };
        let clients = TcpListener::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).await.map_err(harness)?;
        let peers = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PEER_PORT)).await.map_err(harness)?;
        let clients = Listening { incoming: net::incoming(clients), address: self.client_address() };
        let peers = Listening { incoming: net::incoming(peers), address: self.peer_address() };
        let ended = |end: minder_manager::End| Ended { code: end.exit_code, message: end.message };
        let running = Running::start(&self.settings(), clients, peers).await.map_err(ended)?;
        self.serves.store(true, Ordering::Relaxed);
        running.until(self.stop.notified()).await.map_err(ended)
    }
}

thread_local! {
    static DISKS: RefCell<Disks> = RefCell::new(Disks::default());
}

/// How fast disks are, and what came of it.
#[derive(Debug, Default)]
struct Disks {
    chance: Option<Chance>,
    planted: Option<Planted>,
    /// What a sync takes at most, in milliseconds, beside the usual.
    slow_ms: [u64; MANAGERS_MAX],
    /// Syncs that were slow.
    slowed: [u64; MANAGERS_MAX],
    /// Syncs since the simulation began.
    syncs: [u64; MANAGERS_MAX],
}

/// Draws what disks take from this row.
pub fn begin_disks(chance: Chance, planted: Option<Planted>) {
    DISKS.with_borrow_mut(|disks| (disks.chance, disks.planted) = (Some(chance), planted));
}

/// Makes a manager's disk slow: a sync takes at most this, in milliseconds.
pub fn slow_down(index: usize, at_most_ms: u64) {
    DISKS.with_borrow_mut(|disks| (disks.slow_ms[index], disks.slowed[index]) = (at_most_ms, 0));
}

/// Makes it as fast as ever; gives the syncs that were slow.
pub fn speed_up(index: usize) -> u64 {
    DISKS.with_borrow_mut(|disks| {
        disks.slow_ms[index] = 0;
        disks.slowed[index]
    })
}

/// Syncs of a manager so far.
pub fn syncs(index: usize) -> u64 {
    DISKS.with_borrow(|disks| disks.syncs[index])
}

fn takes<const INDEX: usize>(waiting: Waiting) -> Duration {
    DISKS.with_borrow_mut(|disks| {
        disks.syncs[INDEX] += 1;
        disk::word(INDEX, disks.planted.map_or(Word::Kept, |planted| planted.word(waiting)));
        let Some(chance) = &mut disks.chance else { return Duration::ZERO };
        let usual_us = 200 + chance.of(0..1_500);
        let slow_ms = match disks.slow_ms[INDEX] {
            0 => 0,
            at_most => {
                disks.slowed[INDEX] += 1;
                chance.of(at_most / 4..at_most)
            }
        };
        Duration::from_micros(usual_us) + Duration::from_millis(slow_ms)
    })
}

/// The store asks by a plain function, so there is one for each manager.
const TAKES: [fn(Waiting) -> Duration; MANAGERS_MAX] =
    [takes::<0>, takes::<1>, takes::<2>, takes::<3>, takes::<4>, takes::<5>, takes::<6>];
