//! What this leader knows of its fleet: sessions, last signs of life, reports, machine information. In memory only;
//! it begins empty with each leadership and ends with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use minder_fleet::{Acquaintance, Change, Condition, Observed, Silence, SilenceLimits, Standing, returned};
use minder_model::{BootId, HostName, MachineFacts, MachineHistory, MachineSample, MachineUsage, Phase};
use minder_proto::v1;
use tokio::sync::{Notify, mpsc, watch};

use crate::events::EventLog;

/// Everything observed.
pub struct Fleet {
    inner: Mutex<Inner>,
    limits: SilenceLimits,
    began: Instant,
    version: watch::Sender<u64>,
    sessions_opened: AtomicU64,
    /// What happened.
    pub events: EventLog,
}

#[derive(Default)]
struct Inner {
    /// While this manager leads.
    silence: Option<Silence>,
    hosts: BTreeMap<HostName, HostEntry>,
}

#[derive(Default)]
struct HostEntry {
    session: Option<SessionHandle>,
    known: Option<Acquaintance>,
    facts: MachineFacts,
    usage: Option<(MachineUsage, Instant)>,
    observed: Observed,
    last_event_sequence: u64,
    clock_offset_ms: Option<i64>,
    history: MachineHistory,
}

/// Instances of the fleet by phase, in the order of [`Phase::ALL`].
type PhaseCounts = [u64; Phase::ALL.len()];

/// The fleet in figures.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Open sessions.
    pub sessions: usize,
    /// Hosts by condition.
    pub conditions: [(Condition, usize); 4],
    /// Instances by phase; those of lost hosts are lost.
    pub phases: PhaseCounts,
    /// So many hosts are silent at once that the leader suspects itself.
    pub self_doubt: bool,
}

impl Default for Tally {
    /// What a manager sees that does not lead: nothing.
    fn default() -> Self {
        let conditions = Condition::ALL.map(|condition| (condition, 0));
        Self { sessions: 0, conditions, phases: PhaseCounts::default(), self_doubt: false }
    }
}

/// How others reach the task of a session.
#[derive(Clone)]
pub struct SessionHandle {
    /// Tells this session from a later one of the same host.
    pub number: u64,
    /// Drawn by the slave at its start.
    pub slave_id: String,
    /// The slave lets itself be killed for a drill.
    pub drills: bool,
    /// Wakes the session: its host's slice may have changed.
    pub changed: Arc<Notify>,
    /// Messages for the slave that belong to nobody's state: log orders.
    pub orders: mpsc::Sender<Box<v1::ToSlave>>,
}

/// One host as it is known now.
#[derive(Clone)]
pub struct HostView {
    /// How it is spoken of, and why.
    pub standing: Standing,
    /// How far its wall clock is ahead of this manager's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Its latest boot.
    pub boot_id: Option<BootId>,
    /// Drawn by its latest slave at its start; empty when there was none.
    pub slave_id: String,
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
    pub fn new(limits: SilenceLimits) -> Self {
        Self {
            inner: Mutex::default(),
            limits,
            began: Instant::now(),
            version: watch::channel(0).0,
            sessions_opened: AtomicU64::new(0),
            events: EventLog::new(),
        }
    }

    /// Leadership began: from now on silence counts, also that of the hosts in the table.
    pub fn lead<'a>(&self, registered: impl Iterator<Item = &'a HostName>) {
        let mut silence = Silence::new(self.limits, self.now_ms());
        registered.for_each(|host| silence.expect(host));
        crate::lock(&self.inner).silence = Some(silence);
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

    /// Opens a session and says what its coming means. Another slave process under the same name is refused while the
    /// first one is alive.
    pub fn open(
        &self,
        host: &HostName,
        handle: SessionHandle,
        boot_id: Option<BootId>,
        facts: MachineFacts,
    ) -> Result<String, DuplicateHost> {
        let now_ms = self.now_ms();
        let mut inner = crate::lock(&self.inner);
        let Inner { silence, hosts } = &mut *inner;
        let entry = hosts.entry(host.clone()).or_default();
        let alive = silence.as_ref().is_some_and(|silence| silence.is_connected(host));
        if entry.session.as_ref().is_some_and(|other| other.slave_id != handle.slave_id && alive) {
            return Err(DuplicateHost { host: host.clone() });
        }
        let boot_id = boot_id.map(|boot_id| boot_id.to_string()).unwrap_or_default();
        let now = Acquaintance { boot_id, slave_id: handle.slave_id.clone() };
        let silent_ms = silence.as_ref().and_then(|silence| silence.standing(host, now_ms).silent_ms);
        let meaning = returned(entry.known.as_ref(), &now, silent_ms);
        entry.session = Some(handle);
        entry.known = Some(now);
        entry.facts = facts;
        entry.observed = Observed::default();
        drop(inner);
        self.bump();
        Ok(meaning)
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

    /// Notes a sign of life that was so long on its way. Says so when the host was silent before.
    pub fn heard(&self, host: &HostName, lag_ms: u64) -> Option<Change> {
        let now_ms = self.now_ms();
        let at_ms = now_ms.saturating_sub(lag_ms);
        let change = crate::lock(&self.inner).silence.as_mut().and_then(|silence| silence.heard(host, at_ms, now_ms));
        if change.is_some() {
            self.bump();
        }
        change
    }

    /// A host that is not in the table any more: nothing of it stays, but for its session while it has one.
    pub fn forget(&self, host: &HostName) {
        let mut inner = crate::lock(&self.inner);
        if inner.hosts.get(host).is_some_and(|entry| entry.session.is_some()) {
            return;
        }
        inner.hosts.remove(host);
        if let Some(silence) = &mut inner.silence {
            silence.forget(host);
        }
    }

    /// How often silence is to be looked at. It does not depend on leadership: whoever looks may notice its beginning
    /// before the fleet does.
    pub fn look_every(&self) -> Duration {
        Duration::from_millis(self.limits.look_every_ms())
    }

    /// Puts a question to what is known of silence, with the time; nothing while this manager does not lead. Watchers
    /// are woken when something came of it.
    pub fn silence<T: Default>(&self, ask: impl FnOnce(&mut Silence, u64) -> T, changed: impl FnOnce(&T) -> bool) -> T {
        let now_ms = self.now_ms();
        let answer = crate::lock(&self.inner).silence.as_mut().map(|silence| ask(silence, now_ms)).unwrap_or_default();
        if changed(&answer) {
            self.bump();
        }
        answer
    }

    /// Milliseconds of this process' monotonic clock.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Takes in what the slave reports.
    pub fn report(&self, host: &HostName, take: impl FnOnce(&mut Observed)) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            take(&mut entry.observed);
        }
        self.bump();
    }

    /// Notes how far a host's wall clock is off, in milliseconds.
    pub fn clock(&self, host: &HostName, offset_ms: i64) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            entry.clock_offset_ms = Some(offset_ms);
        }
    }

    /// Takes in a sample of the machine. Watchers are not woken for it.
    pub fn machine(&self, host: &HostName, usage: MachineUsage) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            entry.usage = Some((usage, Instant::now()));
        }
    }

    /// Takes in steps of a machine's history.
    pub fn remember(&self, host: &HostName, samples: &[MachineSample]) {
        if let Some(entry) = crate::lock(&self.inner).hosts.get_mut(host) {
            samples.iter().for_each(|sample| entry.history.push(*sample));
        }
    }

    /// The last hour of a machine.
    pub fn history(&self, host: &HostName) -> Vec<MachineSample> {
        let inner = crate::lock(&self.inner);
        inner.hosts.get(host).map(|entry| entry.history.after(0).copied().collect()).unwrap_or_default()
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

    /// Counts what there is.
    pub fn tally(&self) -> Tally {
        let inner = crate::lock(&self.inner);
        let Inner { silence: Some(silence), hosts } = &*inner else { return Tally::default() };
        let mut phases = PhaseCounts::default();
        for (host, entry) in hosts {
            let is_lost = silence.condition(host) == Condition::Lost;
            let counts = entry.observed.phases().map(u64::from);
            for (phase, (sum, count)) in Phase::ALL.iter().zip(phases.iter_mut().zip(counts)) {
                *sum += if !is_lost || *phase == Phase::Lost { count } else { 0 };
            }
            if is_lost {
                phases[Phase::Lost as usize] += counts.iter().sum::<u64>();
            }
        }
        Tally {
            sessions: hosts.values().filter(|entry| entry.session.is_some()).count(),
            conditions: silence.conditions(),
            phases,
            self_doubt: silence.self_doubt().is_some(),
        }
    }

    /// One host as it is known now.
    pub fn view(&self, host: &HostName) -> HostView {
        let now_ms = self.now_ms();
        let inner = crate::lock(&self.inner);
        let standing = inner.silence.as_ref().map(|silence| silence.standing(host, now_ms)).unwrap_or_default();
        match inner.hosts.get(host) {
            Some(entry) => view_of(entry, standing),
            None => view_of(&HostEntry::default(), standing),
        }
    }
}

fn view_of(entry: &HostEntry, standing: Standing) -> HostView {
    let boot_id = entry.known.as_ref().and_then(|known| BootId::new(known.boot_id.clone()).ok());
    HostView {
        standing,
        clock_offset_ms: entry.clock_offset_ms,
        boot_id,
        slave_id: entry.known.as_ref().map(|known| known.slave_id.clone()).unwrap_or_default(),
        facts: entry.facts.clone(),
        usage: entry.usage.as_ref().map(|(usage, at)| (usage.clone(), at.elapsed().as_millis() as u64)),
        observed: entry.observed.clone(),
    }
}
