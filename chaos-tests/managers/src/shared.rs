//! What all clients share: what they saw, and how far the run is.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use minder_chaos_tests::{
    history::{Record, save},
    oracle::{managers::Look, watch::Watched},
};
use minder_proto::{
    dial,
    v1::{self, control_client::ControlClient},
};
use tonic::transport::Channel;

use crate::{manager::Place, seam};

/// Names of the processes that clients write.
pub const PREFIX: &str = "reg-";

/// A client of one manager.
pub type Control = ControlClient<Channel>;

/// Everything clients saw.
pub struct Shared {
    /// The managers, spare ones included.
    pub places: Vec<Arc<Place>>,
    records: Mutex<Vec<Record>>,
    watched: Mutex<Vec<Watched>>,
    looks: Mutex<Vec<Look>>,
    leaders: Mutex<BTreeMap<u64, u64>>,
    complaints: Mutex<Vec<String>>,
    /// How managers stood when they were looked at last.
    statuses: Mutex<BTreeMap<usize, (u64, v1::ManagerStatus)>>,
    formed: AtomicBool,
    over: AtomicBool,
    changes_end: AtomicBool,
    last: AtomicU64,
    acknowledged: AtomicU64,
    changes: AtomicU64,
    transfers: AtomicU64,
    removed: Mutex<Vec<usize>>,
    callers: AtomicU64,
    watchers: AtomicU64,
    audit: AtomicBool,
    audited: AtomicBool,
    rests: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64, more: bool) {
    match more {
        true => counter.fetch_add(1, Ordering::Relaxed),
        false => counter.fetch_sub(1, Ordering::Relaxed),
    };
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new(places: Vec<Arc<Place>>) -> Arc<Self> {
        Arc::new(Self {
            places,
            records: Mutex::default(),
            watched: Mutex::default(),
            looks: Mutex::default(),
            leaders: Mutex::default(),
            complaints: Mutex::default(),
            statuses: Mutex::default(),
            formed: AtomicBool::default(),
            over: AtomicBool::default(),
            changes_end: AtomicBool::default(),
            last: AtomicU64::new(u64::MAX),
            acknowledged: AtomicU64::default(),
            changes: AtomicU64::default(),
            transfers: AtomicU64::default(),
            removed: Mutex::default(),
            callers: AtomicU64::default(),
            watchers: AtomicU64::default(),
            audit: AtomicBool::default(),
            audited: AtomicBool::default(),
            rests: AtomicBool::default(),
        })
    }

    /// A client of the manager at this place. It connects when it is first used.
    pub fn control(&self, at: usize) -> Result<Control, tonic::transport::Error> {
        let endpoint = dial::endpoint(&self.places[at % self.places.len()].client_address())?;
        Ok(ControlClient::new(dial::lazy(&endpoint)))
    }

    /// There is a cluster.
    pub fn formed(&self) {
        self.formed.store(true, Ordering::Relaxed);
    }

    /// Whether there is a cluster.
    pub fn is_formed(&self) -> bool {
        self.formed.load(Ordering::Relaxed)
    }

    /// Waits until there is a cluster.
    pub async fn until_formed(&self) {
        while !self.is_formed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nobody begins to change managers any more.
    pub fn end_changes(&self) {
        self.changes_end.store(true, Ordering::Relaxed);
    }

    /// Whether nobody may begin to change managers any more.
    pub fn changes_are_over(&self) -> bool {
        self.changes_end.load(Ordering::Relaxed)
    }

    /// Nobody writes or reads any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether nobody writes any more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Watchers may go once they have seen all that was answered so far.
    pub fn end_watches(&self) {
        let last = lock(&self.records).iter().map(|record| record.revision).max().unwrap_or(0);
        self.last.store(last, Ordering::Relaxed);
    }

    /// Whether whoever has seen everything up to here has seen all of it.
    pub fn has_seen_all(&self, revision: u64) -> bool {
        revision >= self.last.load(Ordering::Relaxed)
    }

    /// A caller begins, or has ended.
    pub fn callers(&self, begins: bool) {
        count(&self.callers, begins);
    }

    /// Callers that have not ended.
    pub fn callers_left(&self) -> u64 {
        self.callers.load(Ordering::Relaxed)
    }

    /// A watcher begins, or has ended.
    pub fn watchers(&self, begins: bool) {
        count(&self.watchers, begins);
    }

    /// Watchers that have not ended.
    pub fn watchers_left(&self) -> u64 {
        self.watchers.load(Ordering::Relaxed)
    }

    /// The operator does nothing any more.
    pub fn operator_rests(&self) {
        self.rests.store(true, Ordering::Relaxed);
    }

    /// Whether the operator does nothing any more.
    pub fn operator_is_at_rest(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// Somebody is to read everything everywhere.
    pub fn audit(&self) {
        self.audit.store(true, Ordering::Relaxed);
    }

    /// Whether somebody is to.
    pub fn is_to_audit(&self) -> bool {
        self.audit.load(Ordering::Relaxed)
    }

    /// Somebody has.
    pub fn audited(&self) {
        self.audited.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has.
    pub fn is_audited(&self) -> bool {
        self.audited.load(Ordering::Relaxed)
    }

    /// Something that must not be.
    pub fn complain(&self, what: String) {
        tracing::error!("{what}");
        lock(&self.complaints).push(what);
    }

    /// What must not be, so far.
    pub fn complaint(&self) -> Option<String> {
        lock(&self.complaints).first().cloned()
    }

    /// A call has ended.
    pub fn keep(&self, record: Record) {
        lock(&self.records).push(record);
    }

    /// A write was acknowledged.
    pub fn acknowledged(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Acknowledged writes so far.
    pub fn acknowledgements(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// A change of managers was carried out.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes of managers that were carried out.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Somebody else leads because somebody wanted it.
    pub fn transferred(&self) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaderships handed over by order.
    pub fn transfers(&self) -> u64 {
        self.transfers.load(Ordering::Relaxed)
    }

    /// This manager may have been removed.
    pub fn remove(&self, at: usize) {
        lock(&self.removed).push(at);
    }

    /// Whether somebody has ever asked to remove this manager.
    pub fn may_be_removed(&self, at: usize) -> bool {
        lock(&self.removed).contains(&at)
    }

    /// A watch has ended.
    pub fn keep_watch(&self, watched: Watched) {
        lock(&self.watched).push(watched);
    }

    /// How a manager stands, which start of it that is, and when it was asked.
    pub fn look(&self, at: usize, (run, call_us): (u64, u64), status: &v1::ManagerStatus) {
        lock(&self.statuses).insert(at, (run, status.clone()));
        let Some(member) = status.member.as_ref().filter(|member| member.id > 0) else { return };
        if status.role == "leader" {
            let first = *lock(&self.leaders).entry(status.term).or_insert(member.id);
            if first != member.id {
                self.complain(format!("managers {first} and {} both lead in term {}", member.id, status.term));
            }
        }
        if !status.state_hash.is_empty() {
            lock(&self.looks).push(Look {
                call_us,
                return_us: seam::now_us(),
                manager: member.id,
                run: run * 100 + at as u64,
                term: status.term,
                committed: status.committed_index,
                applied: status.applied_index,
                state_hash: status.state_hash.clone(),
            });
        }
    }

    /// How managers stood when they were looked at last, by place, with the start that was.
    pub fn statuses(&self) -> BTreeMap<usize, (u64, v1::ManagerStatus)> {
        lock(&self.statuses).clone()
    }

    /// Terms somebody led in.
    pub fn terms(&self) -> usize {
        lock(&self.leaders).len()
    }

    /// What clients saw.
    pub fn seen(&self) -> (Vec<Record>, Vec<Watched>, Vec<Look>) {
        (lock(&self.records).clone(), lock(&self.watched).clone(), lock(&self.looks).clone())
    }

    /// Keeps it for people and other judges.
    pub fn save(&self, folder: &Path) -> std::io::Result<()> {
        let (records, watched, looks) = self.seen();
        save(&folder.join("history.jsonl"), &records)?;
        save(&folder.join("watched.jsonl"), &watched)?;
        save(&folder.join("looks.jsonl"), &looks)
    }
}
