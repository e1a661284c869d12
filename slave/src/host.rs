//! The host: one task that owns the ledger and every supervisor. Each turn takes what has come in, steps the machines,
//! makes everything they changed durable in one sync, and only then carries out what they ask for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use minder_model::{
    AssignmentDelta, ClusterId, DeltaError, Digest, ExitStatus, Incarnation, InstanceKey, InstanceStatus, Item,
    Revision, RunSpec, Signal, StartFailure, StopScope,
};
use minder_shim::{
    identity,
    protocol::{Request, Scope},
    record::{End, Record as ShimRecord, Stage, Step},
};
use minder_supervisor::{Effect, Ended, Event, Record, Supervisor};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::{mono_ms, now},
    events::Events,
    ledger::Ledger,
    os::{
        bundle::Folders,
        cgroup::Cgroups,
        incarnation::{Attendant, News, What},
        launch::{Place, launch},
    },
    settings::Settings,
};

/// News of incarnations and orders of managers that wait for the next turn. A thousand processes that end together
/// fit; their attendants wait beyond that.
const INBOX: usize = 1_024;
/// Messages taken in one turn, so that one sync serves them all and the first does not wait for ever.
const TURN_MAX: usize = 512;
/// Requests that wait for one shim: it takes them within microseconds.
const REQUESTS: usize = 16;

/// What comes to the host.
pub enum Message {
    /// A manager assigns.
    Assign {
        /// The cluster that speaks.
        cluster: ClusterId,
        /// What changes.
        delta: AssignmentDelta,
        /// Run specs in stored form.
        run_specs: Vec<prost::bytes::Bytes>,
        /// Whether it was taken.
        reply: oneshot::Sender<Result<(), DeltaError>>,
    },
    /// Run specs that were asked for, in stored form.
    RunSpecs(Vec<prost::bytes::Bytes>),
}

/// What others may see of the host, by structural sharing.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The cluster this slave belongs to.
    pub cluster: Option<ClusterId>,
    /// Revision of the assignment it acts on.
    pub revision: Revision,
    /// Digest of it.
    pub digest: Digest,
    /// Every instance.
    pub statuses: BTreeMap<InstanceKey, Arc<InstanceStatus>>,
    /// Run specs that are missing.
    pub missing: BTreeSet<Digest>,
}

/// How others reach the host.
#[derive(Clone)]
pub struct HostHandle {
    /// Orders.
    pub inbox: mpsc::Sender<Message>,
    /// What is seen.
    pub view: watch::Receiver<Arc<View>>,
}

/// The host.
pub struct Host {
    settings: Arc<Settings>,
    shim: Arc<Path>,
    ledger: Ledger,
    folders: Folders,
    cgroups: Cgroups,
    units: BTreeMap<InstanceKey, Unit>,
    wakes: BTreeMap<u64, BTreeSet<InstanceKey>>,
    inbox: mpsc::Receiver<Message>,
    news: mpsc::Receiver<News>,
    news_sender: mpsc::Sender<News>,
    view: watch::Sender<Arc<View>>,
    changed: BTreeSet<InstanceKey>,
    assignment_digest: Digest,
    events: Arc<Events>,
    /// What may happen once this turn's changes are durable.
    after_sync: Vec<Box<dyn FnOnce() + Send>>,
}

/// One instance.
struct Unit {
    supervisor: Supervisor,
    requests: Option<mpsc::Sender<Request>>,
    /// The incarnation of before this slave's start has not been heard of yet.
    unclear: bool,
}

/// Effects that wait for the sync.
type Owed = VecDeque<(InstanceKey, Effect)>;

impl Host {
    /// Takes over what the ledger says, and gives the way to reach the host.
    pub fn new(settings: Arc<Settings>, ledger: Ledger, cgroups: Cgroups, events: Arc<Events>) -> (Self, HostHandle) {
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let (news_sender, news) = mpsc::channel(INBOX);
        let (view, view_receiver) = watch::channel(Arc::default());
        let host = Self {
            shim: settings.shim.as_path().into(),
            folders: Folders::new(&settings.data),
            assignment_digest: ledger.assignment().digest(),
            settings,
            ledger,
            cgroups,
            units: BTreeMap::new(),
            wakes: BTreeMap::new(),
            inbox,
            news,
            news_sender,
            view,
            changed: BTreeSet::new(),
            events,
            after_sync: Vec::new(),
        };
        (host, HostHandle { inbox: inbox_sender, view: view_receiver })
    }

    /// Supervises for ever; returns only when the ledger cannot be kept.
    pub async fn run(mut self) -> io::Error {
        let owed = self.take_over();
        if let Err(error) = self.finish_turn(owed) {
            return error;
        }
        loop {
            let wake = self.until_next_wake();
            // All may be dropped at their await: both queues keep what they hold.
            let owed = tokio::select! {
                Some(message) = self.inbox.recv() => self.on_messages(message),
                Some(news) = self.news.recv() => self.on_news_batch(news),
                () = tokio::time::sleep(wake) => Owed::new(),
            };
            let mut owed = owed;
            self.wake_due(&mut owed);
            if let Err(error) = self.finish_turn(owed) {
                return error;
            }
        }
    }

    /// What was supervised before goes on: first it is found out what became of living incarnations, then the
    /// assignment counts again.
    fn take_over(&mut self) -> Owed {
        let records: Vec<Record> = self.ledger.records().cloned().collect();
        for record in records {
            let key = record.key.clone();
            let live = record.live.map(|live| live.incarnation);
            let supervisor = Supervisor::restore(record, now());
            let requests = live.map(|incarnation| self.attend_again(&key, incarnation));
            self.changed.insert(key.clone());
            self.units.insert(key, Unit { supervisor, requests, unclear: live.is_some() });
        }
        let mut owed = Owed::new();
        self.assign_all(&mut owed);
        owed
    }

    fn attend_again(&mut self, key: &InstanceKey, incarnation: Incarnation) -> mpsc::Sender<Request> {
        let (sender, attendant) = self.attendant(key, incarnation);
        tokio::spawn(attendant.attend(None));
        sender
    }

    fn attendant(&self, key: &InstanceKey, incarnation: Incarnation) -> (mpsc::Sender<Request>, Attendant) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let attendant = Attendant {
            key: key.clone(),
            incarnation,
            bundle: self.folders.bundle(key, incarnation),
            cgroup: self.cgroups.leaf(key, incarnation),
            requests,
            news: self.news_sender.clone(),
        };
        (sender, attendant)
    }

    fn on_messages(&mut self, first: Message) -> Owed {
        let mut owed = Owed::new();
        let mut replies = Vec::new();
        let mut next = Some(first);
        for _ in 0..TURN_MAX {
            match next.take() {
                Some(Message::Assign { cluster, delta, run_specs, reply }) => {
                    replies.push((reply, self.on_assign(cluster, delta, &run_specs)));
                }
                Some(Message::RunSpecs(run_specs)) => self.add_run_specs(&run_specs),
                None => break,
            }
            next = self.inbox.try_recv().ok();
        }
        self.assign_all(&mut owed);
        for (reply, result) in replies {
            // A session that is gone needs no answer.
            let _ = reply.send(result);
        }
        owed
    }

    fn on_assign(
        &mut self,
        cluster: ClusterId,
        delta: AssignmentDelta,
        run_specs: &[prost::bytes::Bytes],
    ) -> Result<(), DeltaError> {
        self.ledger.change(delta)?;
        self.ledger.join(cluster);
        self.assignment_digest = self.ledger.assignment().digest();
        self.add_run_specs(run_specs);
        Ok(())
    }

    fn add_run_specs(&mut self, run_specs: &[prost::bytes::Bytes]) {
        for bytes in run_specs {
            if !self.ledger.add_run_spec(bytes) {
                tracing::error!(
                    "a run spec that cannot be read was passed over; is this slave older than its managers?"
                );
            }
        }
    }

    /// Tells every instance what is wanted of it now. Saying what was said before changes nothing.
    fn assign_all(&mut self, owed: &mut Owed) {
        let wanted: Vec<(InstanceKey, Item)> = self.ledger.items().map(|(key, item)| (key.clone(), *item)).collect();
        let keys: BTreeSet<InstanceKey> = wanted.iter().map(|(key, _)| key.clone()).collect();
        for (key, item) in wanted {
            if !self.units.contains_key(&key) {
                let supervisor = Supervisor::new(Record::new(key.clone(), now().wall_ms));
                self.units.insert(key.clone(), Unit { supervisor, requests: None, unclear: false });
            }
            let run_spec = self.ledger.run_spec(&item.spec).cloned();
            self.step(&key, Event::Assigned { item, run_spec }, owed);
        }
        let gone: Vec<InstanceKey> = self.units.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        for key in gone {
            self.step(&key, Event::Removed, owed);
        }
    }

    fn on_news_batch(&mut self, first: News) -> Owed {
        let mut owed = Owed::new();
        let mut next = Some(first);
        for _ in 0..TURN_MAX {
            let Some(news) = next.take() else { break };
            self.on_news(news, &mut owed);
            next = self.news.try_recv().ok();
        }
        owed
    }

    fn on_news(&mut self, news: News, owed: &mut Owed) {
        let News { key, incarnation, what } = news;
        let Some(unit) = self.units.get_mut(&key) else { return };
        let unclear = std::mem::take(&mut unit.unclear);
        let event = match what {
            What::Running(record) if unclear => Event::TakenOver {
                incarnation,
                pid: record.main_pid,
                started_at_ms: record.started_at_ms,
                run_spec: self.run_spec_of(&key),
            },
            What::Running(record) => {
                Event::Started { incarnation, pid: record.main_pid, started_at_ms: record.started_at_ms }
            }
            What::Over(record) => Event::Ended(ended(incarnation, record.as_ref(), self.run_spec_of(&key).as_ref())),
            What::NoShim(failure) => Event::Ended(failed(incarnation, failure)),
        };
        let over = matches!(event, Event::Ended(_));
        self.step(&key, event, owed);
        if over {
            self.release(&key, incarnation);
        }
    }

    /// After the sync the shim may go and its bundle with it.
    fn release(&mut self, key: &InstanceKey, incarnation: Incarnation) {
        let requests = self.units.get_mut(key).and_then(|unit| unit.requests.take());
        let bundle = self.folders.bundle(key, incarnation);
        let leaf = self.cgroups.leaf(key, incarnation);
        let cgroups = self.cgroups.clone();
        // A spawn that the same step asked for has not happened yet, so `requests` is the old incarnation's.
        self.after_sync.push(Box::new(move || {
            if let Some(requests) = requests {
                // A full or closed queue belongs to a shim that is gone.
                let _ = requests.try_send(Request::Release);
            }
            bundle.remove();
            cgroups.remove(&leaf);
        }));
    }

    fn run_spec_of(&self, key: &InstanceKey) -> Option<RunSpec> {
        let live = self.units.get(key)?.supervisor.record().live?;
        self.ledger.run_spec(&live.spec).cloned()
    }

    fn step(&mut self, key: &InstanceKey, event: Event, owed: &mut Owed) {
        let Some(unit) = self.units.get_mut(key) else { return };
        let before = unit.supervisor.status(now());
        let effects = unit.supervisor.step(event, now());
        let after = unit.supervisor.status(now());
        if before != after {
            self.changed.insert(key.clone());
            self.events.phase_changed(&before, &after);
        }
        for effect in effects {
            match effect {
                Effect::Save => {
                    if let Some(unit) = self.units.get(key) {
                        self.ledger.put_record(unit.supervisor.record());
                    }
                }
                Effect::WakeAt(at) => {
                    self.wakes.entry(at).or_default().insert(key.clone());
                }
                Effect::Forget => {
                    self.ledger.forget(key);
                    owed.push_back((key.clone(), Effect::Forget));
                }
                Effect::Spawn { .. } | Effect::Signal { .. } | Effect::KillTree { .. } => {
                    owed.push_back((key.clone(), effect));
                }
            }
        }
    }

    fn until_next_wake(&self) -> Duration {
        let next = self.wakes.keys().next().copied();
        next.map_or(Duration::from_secs(3_600), |at| Duration::from_millis(at.saturating_sub(mono_ms())))
    }

    fn wake_due(&mut self, owed: &mut Owed) {
        let later = self.wakes.split_off(&(mono_ms() + 1));
        let due = std::mem::replace(&mut self.wakes, later);
        for key in due.into_values().flatten().collect::<BTreeSet<_>>() {
            self.step(&key, Event::Timer, owed);
        }
    }

    /// One sync for everything, then everything that waited for it.
    fn finish_turn(&mut self, owed: Owed) -> io::Result<()> {
        tokio::task::block_in_place(|| self.ledger.save())?;
        for done in std::mem::take(&mut self.after_sync) {
            done();
        }
        for (key, effect) in owed {
            self.carry_out(&key, effect);
        }
        self.publish();
        Ok(())
    }

    fn carry_out(&mut self, key: &InstanceKey, effect: Effect) {
        match effect {
            Effect::Spawn { incarnation, generation, run_spec } => {
                let place = Place {
                    host: &self.settings.name,
                    key,
                    generation,
                    incarnation,
                    revision: self.ledger.assignment().revision,
                };
                let leaf = self.cgroups.leaf(key, incarnation);
                let launch = launch(&run_spec, &place, &self.folders.logs(key), &leaf);
                self.spawn(key, incarnation, &launch.encode(), &leaf);
            }
            Effect::Signal { incarnation, signal, scope, then_continue } => {
                self.request(key, incarnation, signal_request(signal, scope));
                if then_continue {
                    self.request(key, incarnation, signal_request(Signal::CONT, scope));
                }
            }
            Effect::KillTree { incarnation } => self.request(key, incarnation, Request::KillTree),
            Effect::Forget => {
                self.units.remove(key);
                self.changed.insert(key.clone());
                self.folders.forget(key);
            }
            // Done when the step gave them.
            Effect::Save | Effect::WakeAt(_) => {}
        }
    }

    fn spawn(&mut self, key: &InstanceKey, incarnation: Incarnation, launch: &[u8], leaf: &Path) {
        let (sender, attendant) = self.attendant(key, incarnation);
        let prepared = attendant.bundle.create(launch).and_then(|()| self.cgroups.create(leaf));
        if let Some(unit) = self.units.get_mut(key) {
            unit.requests = Some(sender);
        }
        match prepared {
            Ok(()) => drop(tokio::spawn(attendant.start(self.shim.clone()))),
            Err(error) => {
                let failure = StartFailure {
                    step: "bundle".into(),
                    errno: error.raw_os_error().unwrap_or_default(),
                    message: format!("cannot prepare {}: {error}", attendant.bundle.path().display()),
                };
                let news = News { key: key.clone(), incarnation, what: What::NoShim(failure) };
                let sender = self.news_sender.clone();
                // Sent from a task of its own: this one empties the queue.
                tokio::spawn(async move { sender.send(news).await });
            }
        }
    }

    fn request(&self, key: &InstanceKey, incarnation: Incarnation, request: Request) {
        let Some(unit) = self.units.get(key) else { return };
        let same = unit.supervisor.live() == Some(incarnation);
        if let Some(requests) = unit.requests.as_ref().filter(|_| same)
            && requests.try_send(request).is_err()
        {
            tracing::warn!(instance = %key, "its shim takes no requests");
        }
    }

    fn publish(&mut self) {
        let before = self.view.borrow().clone();
        let moved = before.digest != self.assignment_digest
            || before.revision != self.ledger.assignment().revision
            || before.cluster.as_ref() != self.ledger.cluster();
        let missing = self.ledger.missing_run_specs();
        if self.changed.is_empty() && !moved && before.missing == missing {
            return;
        }
        let mut next = View {
            cluster: self.ledger.cluster().cloned(),
            revision: self.ledger.assignment().revision,
            digest: self.assignment_digest,
            statuses: before.statuses.clone(),
            missing,
        };
        for key in std::mem::take(&mut self.changed) {
            match self.units.get(&key) {
                Some(unit) => next.statuses.insert(key, Arc::new(unit.supervisor.status(now()))),
                None => next.statuses.remove(&key),
            };
        }
        self.view.send_replace(Arc::new(next));
    }
}

fn signal_request(signal: Signal, scope: StopScope) -> Request {
    let scope = match scope {
        StopScope::Main => Scope::Main,
        StopScope::Group => Scope::Group,
        StopScope::All => Scope::All,
    };
    Request::Signal { signal: signal.number(), scope }
}

/// What a shim's last record says; without one, or with one of before a reboot, what can honestly be said.
fn ended(incarnation: Incarnation, record: Option<&ShimRecord>, run_spec: Option<&RunSpec>) -> Ended {
    let now_ms = now().wall_ms;
    let Some(record) = record else {
        return Ended {
            incarnation,
            status: ExitStatus::Unknown,
            start_failure: None,
            started_at_ms: now_ms,
            ended_at_ms: now_ms,
            cpu_ms: 0,
            memory_peak_bytes: 0,
        };
    };
    let rebooted = record.boot_id != identity::boot_id();
    let status = match record.end {
        End::Code(code) => ExitStatus::Code(code),
        End::Signal(number, core) => Signal::from_number(i64::from(number))
            .map_or(ExitStatus::Unknown, |signal| ExitStatus::Signal(signal, core)),
        End::None if rebooted => ExitStatus::Reboot,
        End::None => ExitStatus::Unknown,
    };
    let start_failure = (record.stage == Stage::StartFailed || record.failed_step != Step::None)
        .then(|| start_failure(record.failed_step, record.failed_errno, run_spec));
    Ended {
        incarnation,
        status,
        start_failure,
        started_at_ms: record.started_at_ms,
        ended_at_ms: if record.ended_at_ms > 0 { record.ended_at_ms } else { now_ms },
        cpu_ms: record.cpu_ms,
        memory_peak_bytes: record.memory_peak_bytes,
    }
}

/// Says which step failed on what, and the kernel's reason.
fn start_failure(step: Step, errno: i32, run_spec: Option<&RunSpec>) -> StartFailure {
    let reason = io::Error::from_raw_os_error(errno);
    let spec = run_spec.map(RunSpec::spec);
    let named = |field: Option<&String>| field.cloned().unwrap_or_default();
    let message = match step {
        Step::Exec => format!("{}: {reason}", named(spec.map(|spec| &spec.command))),
        Step::User if errno == libc::ENOENT => {
            format!("no such user: {}", named(spec.and_then(|spec| spec.user.as_ref())))
        }
        Step::Group if errno == libc::ENOENT => {
            format!("no such group: {}", named(spec.and_then(|spec| spec.group.as_ref())))
        }
        Step::WorkingDirectory => {
            format!("working_directory {}: {reason}", named(spec.and_then(|spec| spec.working_directory.as_ref())))
        }
        Step::Daemon if errno == libc::ETIMEDOUT => "the launcher did not end in time".into(),
        Step::Daemon => "the launcher ended and left no process behind".into(),
        _ => format!("{}: {reason}", step.word()),
    };
    StartFailure { step: step.word().into(), errno, message }
}

fn failed(incarnation: Incarnation, failure: StartFailure) -> Ended {
    Ended { start_failure: Some(failure), ..ended(incarnation, None, None) }
}
