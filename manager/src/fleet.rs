//! What this leader knows of its fleet: sessions, last signs of life, reports, machine information. In memory only;
//! it begins empty with each leadership and ends with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use minder_fleet::{Condition, Observed, PhaseChange, SilenceLimits};
use minder_model::{BootId, HostName, MachineFacts, MachineUsage};
use minder_proto::v1;
use tokio::sync::{Notify, mpsc, watch};

use crate::events::EventLog;

/// Everything observed.
pub struct Fleet {
    inner: Mutex<Inner>,
    silence: SilenceLimits,
    version: watch::Sender<u64>,
    sessions_opened: AtomicU64,
    /// What happened.
    pub events: EventLog,
}

#[derive(Default)]
struct Inner {
    led_since: Option<Instant>,
    hosts: BTreeMap<HostName, HostEntry>,
}

#[derive(Default)]
struct HostEntry {
    session: Option<SessionHandle>,
    heard: Option<Instant>,
    boot_id: Option<BootId>,
    facts: MachineFacts,
    usage: Option<(MachineUsage, Instant)>,
    observed: Observed,
    last_event_sequence: u64,
}

/// How others reach the task of a session.
#[derive(Clone)]
pub struct SessionHandle {
    /// Tells this session from a later one of the same host.
    pub number: u64,
    /// Drawn by the slave at its start.
    pub slave_id: String,
    /// Wakes the session: its host's slice may have changed.
    pub changed: Arc<Notify>,
    /// Messages for the slave that belong to nobody's state: log orders.
    pub orders: mpsc::Sender<v1::ToSlave>,
}

/// One host as it is known now.
#[derive(Clone)]
pub struct HostView {
    /// How it is spoken of.
    pub condition: Condition,
    /// Since its last sign of life; `None` when this leader never had one.
    pub silent_ms: Option<u64>,
    /// Its latest boot.
    pub boot_id: Option<BootId>,
    /// What rarely changes.
    pub facts: MachineFacts,
    /// The latest sample and its age in milliseconds.
    pub usage: Option<(MachineUsage, u64)>,
    /// Its report.
    pub observed: Observed,
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[error("host {host} has a session already, from another slave process; two slaves must not share a name")]
pub struct DuplicateHost {
    host: HostName,
}

impl Fleet {
    /// Nothing observed, nothing led.
    pub fn new(silence: SilenceLimits) -> Self {
        Self {
            inner: Mutex::default(),
            silence,
            version: watch::channel(0).0,
            sessions_opened: AtomicU64::new(0),
            events: EventLog::new(),
        }
    }

    /// Leadership began: from now on silence counts.
    pub fn lead(&self) {
        crate::lock(&self.inner).led_since = Some(Instant::now());
        self.bump();
    }

    /// Leadership ended: what was observed counts no more.
    pub fn follow(&self) {
        *crate::lock(&self.inner) = Inner::default();
        self.bump();
    }

    /// Counts up with each change, so that a watcher knows when to look again.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Wakes everybody who watches instances.
    pub fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Draws the number of a new session.
    pub fn next_session(&self) -> u64 {
        self.sessions_opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Opens a session. Another slave process under the same name is refused while the first one is alive.
    pub fn open(
        &self,
        host: &HostName,
        handle: SessionHandle,
        boot_id: Option<BootId>,
        facts: MachineFacts,
    ) -> Result<(), DuplicateHost> {
        let mut inner = crate::lock(&self.inner);
        let suspect_ms = self.silence.suspect_ms;
        let entry = inner.hosts.entry(host.clone()).or_default();
        let alive = entry.heard.is_some_and(|heard| (heard.elapsed().as_millis() as u64) < suspect_ms);
        if entry.session.as_ref().is_some_and(|other| other.slave_id != handle.slave_id && alive) {
            return Err(DuplicateHost { host: host.clone() });
        }
        entry.session = Some(handle);
        entry.heard = Some(Instant::now());
        entry.boot_id = boot_id;
        entry.facts = facts;
        entry.observed = Observed::default();
        drop(inner);
        self.bump();
        Ok(())
    }

    /// Closes a session, unless another one has taken its place.
    pub fn close(&self, host: &HostName, number: u64) {
        let mut inner = crate::lock(&self.inner);
        if let Some(entry) = inner.hosts.get_mut(host)
            && entry.session.as_ref().is_some_and(|session| session.number == number)
        {
            entry.session = None;
        }
        drop(inner);
        self.bump();
    }

    /// Whether this session is still the host's.
    pub fn is_current(&self, host: &HostName, number: u64) -> bool {
        let inner = crate::lock(&self.inner);
        inner.hosts.get(host).and_then(|entry| entry.session.as_ref()).is_some_and(|session| session.number == number)
    }

    /// Notes a sign of life.
    pub fn heard(&self, host: &HostName) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            entry.heard = Some(Instant::now());
        }
    }

    /// Takes in what the slave reports; gives the instances whose phase changed.
    pub fn report(&self, host: &HostName, take: impl FnOnce(&mut Observed) -> Vec<PhaseChange>) -> Vec<PhaseChange> {
        let mut inner = crate::lock(&self.inner);
        let changes = inner.hosts.get_mut(host).map(|entry| take(&mut entry.observed)).unwrap_or_default();
        drop(inner);
        self.bump();
        changes
    }

    /// Takes in a sample of the machine. Watchers are not woken for it.
    pub fn machine(&self, host: &HostName, usage: MachineUsage) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            entry.usage = Some((usage, Instant::now()));
        }
    }

    /// Of events that a slave sends (again), those that this leader has not had.
    pub fn new_events(&self, host: &HostName, events: Vec<v1::SlaveEvent>) -> Vec<v1::SlaveEvent> {
        let mut inner = crate::lock(&self.inner);
        let Some(entry) = inner.hosts.get_mut(host) else { return Vec::new() };
        let known = entry.last_event_sequence;
        let new: Vec<_> = events.into_iter().filter(|event| event.sequence > known).collect();
        entry.last_event_sequence = new.iter().map(|event| event.sequence).max().unwrap_or(known);
        new
    }

    /// Wakes the sessions of these hosts.
    pub fn touch(&self, hosts: &BTreeSet<HostName>) {
        if hosts.is_empty() {
            return;
        }
        let inner = crate::lock(&self.inner);
        for host in hosts {
            if let Some(session) = inner.hosts.get(host).and_then(|entry| entry.session.as_ref()) {
                session.changed.notify_one();
            }
        }
        drop(inner);
        self.bump();
    }

    /// The session of a host, if it has one.
    pub fn session(&self, host: &HostName) -> Option<SessionHandle> {
        crate::lock(&self.inner).hosts.get(host).and_then(|entry| entry.session.clone())
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        crate::lock(&self.inner).hosts.values().filter(|entry| entry.session.is_some()).count()
    }

    /// One host as it is known now.
    pub fn view(&self, host: &HostName) -> HostView {
        let inner = crate::lock(&self.inner);
        let led_ms = inner.led_since.map_or(0, |since| since.elapsed().as_millis() as u64);
        match inner.hosts.get(host) {
            Some(entry) => view_of(entry, led_ms, self.silence),
            None => view_of(&HostEntry::default(), led_ms, self.silence),
        }
    }
}

fn view_of(entry: &HostEntry, led_ms: u64, limits: SilenceLimits) -> HostView {
    let silent_ms = entry.heard.map(|heard| heard.elapsed().as_millis() as u64);
    HostView {
        condition: Condition::of(silent_ms, led_ms, limits),
        silent_ms,
        boot_id: entry.boot_id.clone(),
        facts: entry.facts.clone(),
        usage: entry.usage.as_ref().map(|(usage, at)| (usage.clone(), at.elapsed().as_millis() as u64)),
        observed: entry.observed.clone(),
    }
}
