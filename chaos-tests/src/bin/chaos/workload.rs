//! Everybody who goes on while the world is hurt.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use minder_chaos_tests::{Chance, Gaps, World};
use tokio::{
    sync::{RwLock, RwLockWriteGuard},
    task::JoinHandle,
};

use crate::{fleet, operator, registers, sampler};

/// Writers and readers; each begins with another manager.
const WRITERS: usize = 6;
const WATCHERS: usize = 2;
/// What a watch of a healthy manager is behind by takes milliseconds; one that has to be opened elsewhere first, seconds.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// All of them, and what they share.
pub struct Workload {
    pub shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    watchers: Mutex<Vec<JoinHandle<()>>>,
    seed: u64,
}

/// What they share.
pub struct Shared {
    pub world: Arc<World>,
    pub gaps: Gaps,
    pub registers: registers::Registers,
    /// Held while somebody does something; whoever has all of it is alone.
    pub quiet: RwLock<()>,
    stop: AtomicBool,
    /// The last revision that anybody was answered, once all is over.
    last: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    /// Whether all is over.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether all is over and whoever has seen everything up to here has seen all of it.
    pub fn has_seen_all(&self, revision: u64) -> bool {
        revision >= self.last.load(Ordering::Relaxed)
    }

    /// Something that must not be.
    pub fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }

    /// What must not be, so far.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }
}

impl Workload {
    pub fn new(world: Arc<World>, seed: u64) -> Self {
        let registers = registers::Registers::new(world.path().to_owned());
        let shared = Shared {
            world,
            gaps: Gaps::default(),
            registers,
            quiet: RwLock::default(),
            stop: AtomicBool::default(),
            last: AtomicU64::new(u64::MAX),
            complaints: Mutex::default(),
        };
        Self { shared: Arc::new(shared), tasks: Mutex::default(), watchers: Mutex::default(), seed }
    }

    /// From now on they go on.
    pub fn begin(&self) {
        let mut tasks = self.tasks.lock().unwrap();
        let chance = |place: usize| Chance::new(self.seed.wrapping_mul(1_000) + place as u64);
        for number in 0..WRITERS {
            tasks.push(tokio::spawn(registers::write(self.shared.clone(), number, chance(number))));
        }
        for number in 0..WATCHERS {
            self.watchers.lock().unwrap().push(tokio::spawn(registers::watch(self.shared.clone(), number)));
        }
        for (number, toy) in fleet::toys(&self.shared.world).into_iter().enumerate() {
            tasks.push(tokio::spawn(operator::operate(self.shared.clone(), toy, chance(100 + number))));
        }
        tasks.push(tokio::spawn(sampler::sample(self.shared.clone(), chance(200))));
    }

    /// Waits until everybody has done what he is at, and lets nobody begin anything.
    pub async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.quiet.write().await
    }

    /// Ends them, watchers last: they are to see what the others were answered.
    pub async fn end(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        self.join(tasks).await;
        self.shared.last.store(self.shared.registers.last_answered(), Ordering::Relaxed);
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap());
        // Without an end of their watch the judge of histories says that it cannot tell.
        let _ = tokio::time::timeout(LAST_WORDS, self.join(watchers)).await;
    }

    /// One that panicked is something that must not be.
    async fn join(&self, tasks: Vec<JoinHandle<()>>) {
        for task in tasks {
            if let Err(error) = task.await {
                self.shared.complain(format!("the harness itself: {error}"));
            }
        }
    }
}
