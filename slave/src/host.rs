//! The host: one task that owns the ledger and every supervisor. Each turn takes what has come in, steps the machines,
//! makes everything they changed durable in one sync, and only then carries out what they ask for.

mod clearing;
mod effects;
mod end;
mod hooks;
mod local;
mod order;
mod probes;
mod stray;
mod takeover;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use minder_model::{
    Assignment, AssignmentDelta, ClusterId, DeltaError, Digest, Hooks, Incarnation, InstanceKey, InstanceStatus, Item,
    Revision, RunSpec,
};
use minder_shim::{fail_point, protocol::Request};
use minder_supervisor::{Effect, Event, ProbeKind, Record, Supervisor};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

pub use self::local::{Listed, Local};
use self::{
    clearing::Clearing,
    effects::Start,
    end::{ended, failed},
    turns::Turns,
};
use crate::{
    clock::{mono_ms, now},
    events::Events,
    ledger::Ledger,
    os::{
        bundle::Folders,
        cgroup::Cgroups,
        incarnation::{Attendant, News, What},
        nursery::Nursery,
        stray::StrayPlace,
    },
    probe::Probes,
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
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Run specs that were asked for, in stored form.
    RunSpecs(Vec<prost::bytes::Bytes>),
    /// Somebody on the machine itself asks or says something.
    Local(Local),
}

/// Why an assignment is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another cluster speaks: one that was rebuilt, or a wrong address.
    #[error("this slave belongs to another cluster")]
    OtherCluster,
    /// The model's fence.
    #[error(transparent)]
    Delta(#[from] DeltaError),
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
    /// Where strays were found.
    pub strays: Arc<[StrayPlace]>,
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
    nursery: Arc<Nursery>,
    ledger: Ledger,
    folders: Folders,
    cgroups: Cgroups,
    units: BTreeMap<InstanceKey, Unit>,
    wakes: BTreeMap<u64, BTreeSet<InstanceKey>>,
    turns: Turns,
    clearing: Clearing,
    inbox: mpsc::Receiver<Message>,
    news: mpsc::Receiver<News>,
    news_sender: mpsc::Sender<News>,
    view: watch::Sender<Arc<View>>,
    changed: BTreeSet<InstanceKey>,
    assignment_digest: Digest,
    events: Arc<Events>,
    probes: Probes,
    /// Where strays were found when this slave began.
    strays: Arc<[StrayPlace]>,
    /// What may happen once this turn's changes are durable.
    after_sync: Vec<Box<dyn FnOnce() + Send>>,
}

/// One instance.
struct Unit {
    supervisor: Supervisor,
    /// What it was last told is wanted, and whether the run spec was there.
    told: Option<(Item, bool)>,
    requests: Option<mpsc::Sender<Request>>,
    /// The incarnation of before this slave's start has not been heard of yet.
    unclear: bool,
    /// Questions under way; they end with what they ask.
    asked: BTreeMap<ProbeKind, AbortOnDropHandle<()>>,
    /// Its hooks, under way or done; they end with it.
    post_start: Option<AbortOnDropHandle<()>>,
    pre_stop: Option<AbortOnDropHandle<()>>,
    /// The latest reload's command, under way or done; ends with it too.
    reload: Option<AbortOnDropHandle<()>>,
}

impl Unit {
    fn new(supervisor: Supervisor, requests: Option<mpsc::Sender<Request>>, unclear: bool) -> Self {
        Self {
            supervisor,
            told: None,
            requests,
            unclear,
            asked: BTreeMap::new(),
            post_start: None,
            pre_stop: None,
            reload: None,
        }
    }
}

/// Effects that wait for the sync.
type Owed = VecDeque<(InstanceKey, Effect)>;

impl Host {
    /// Takes over what the ledger says, and gives the way to reach the host. What is seen through it is never less than
    /// the ledger holds.
    pub fn begin(
        settings: Arc<Settings>,
        ledger: Ledger,
        cgroups: Cgroups,
        events: Arc<Events>,
    ) -> io::Result<(Self, HostHandle)> {
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let (news_sender, news) = mpsc::channel(INBOX);
        let (view, view_receiver) = watch::channel(Arc::default());
        let shim: Arc<Path> = settings.shim.as_path().into();
        let folders = Folders::new(&settings.data);
        let mut host = Self {
            probes: Probes::new(shim.clone(), news_sender.clone()),
            nursery: Arc::new(Nursery::begin(shim.clone(), &folders)),
            shim,
            folders,
            assignment_digest: ledger.assignment().digest(),
            settings,
            ledger,
            cgroups,
            units: BTreeMap::new(),
            wakes: BTreeMap::new(),
            turns: Turns::new(),
            clearing: Clearing::default(),
            inbox,
            news,
            news_sender,
            view,
            changed: BTreeSet::new(),
            events,
            strays: Arc::default(),
            after_sync: Vec::new(),
        };
        let owed = host.take_over();
        host.finish_turn(owed)?;
        Ok((host, HostHandle { inbox: inbox_sender, view: view_receiver }))
    }

    /// Supervises for ever; returns only when the ledger cannot be kept.
    pub async fn run(mut self) -> io::Error {
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

    fn attendant(
        &self,
        key: &InstanceKey,
        incarnation: Incarnation,
        cgroup: PathBuf,
        hooks: Hooks,
    ) -> (mpsc::Sender<Request>, Attendant) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let attendant = Attendant {
            key: key.clone(),
            incarnation,
            bundle: self.folders.bundle(key, incarnation),
            cgroup,
            shim: self.shim.clone(),
            nursery: self.nursery.clone(),
            hooks,
            requests,
            news: self.news_sender.clone(),
        };
        (sender, attendant)
    }

    fn on_messages(&mut self, first: Message) -> Owed {
        let mut owed = Owed::new();
        let mut replies = Vec::new();
        let mut next = Some(first);
        for left in (0..TURN_MAX).rev() {
            match next.take() {
                Some(Message::Assign { cluster, delta, run_specs, reply }) => {
                    replies.push((reply, self.on_assign(cluster, delta, &run_specs)));
                }
                Some(Message::RunSpecs(run_specs)) => self.add_run_specs(&run_specs),
                Some(Message::Local(local)) => self.on_local(local, &mut owed),
                None => break,
            }
            // What is taken out is dealt with: the last turn of this loop leaves the rest where it is.
            next = if left > 0 { self.inbox.try_recv().ok() } else { None };
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
    ) -> Result<(), Refusal> {
        if self.ledger.cluster().is_some_and(|own| *own != cluster) {
            return Err(Refusal::OtherCluster);
        }
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

    /// Tells every instance what is wanted of it now. Saying what was said before would change nothing, so it is left
    /// out: one change among a thousand instances is one step.
    fn assign_all(&mut self, owed: &mut Owed) {
        let news = |(key, item): &(&InstanceKey, &Item)| {
            let told = self.units.get(*key).and_then(|unit| unit.told);
            told != Some((**item, self.ledger.run_spec(&item.spec).is_some()))
        };
        let wanted: Vec<(InstanceKey, Item)> =
            self.ledger.items().filter(news).map(|(key, item)| (key.clone(), *item)).collect();
        for (key, item) in wanted {
            if !self.units.contains_key(&key) {
                let incarnation = self.clearing.latest(&key);
                let record = Record { incarnation, ..Record::new(key.clone(), now().wall_ms) };
                let supervisor = Supervisor::new(record).taking_turns();
                self.units.insert(key.clone(), Unit::new(supervisor, None, false));
            }
            let run_spec = self.ledger.run_spec(&item.spec).cloned();
            if let Some(unit) = self.units.get_mut(&key) {
                unit.told = Some((item, run_spec.is_some()));
            }
            self.step(&key, Event::Assigned { item, run_spec }, owed);
        }
        let Assignment { items, revision, .. } = self.ledger.assignment();
        // Before the first assignment nobody has said that anything is not wanted.
        if *revision == Revision::ZERO {
            return;
        }
        let gone = self.units.keys().filter(|key| !items.contains_key(*key) && !self.is_left_alone(key));
        let gone: Vec<InstanceKey> = gone.cloned().collect();
        for key in gone {
            if let Some(unit) = self.units.get_mut(&key) {
                unit.told = None;
            }
            self.step(&key, Event::Removed, owed);
        }
    }

    fn on_news_batch(&mut self, first: News) -> Owed {
        let mut owed = Owed::new();
        let mut next = Some(first);
        for left in (0..TURN_MAX).rev() {
            let Some(news) = next.take() else { break };
            self.on_news(news, &mut owed);
            next = if left > 0 { self.news.try_recv().ok() } else { None };
        }
        owed
    }

    fn on_news(&mut self, news: News, owed: &mut Owed) {
        let News { key, incarnation, what } = news;
        let Some(unit) = self.units.get_mut(&key) else { return };
        // Only a record says what became of an unclear one.
        let unclear = match &what {
            What::Probed { .. } | What::Leaving | What::HookFailed(_) => false,
            What::Running(_) | What::Over(_) | What::NoShim(_) => std::mem::take(&mut unit.unclear),
        };
        let runs = matches!(what, What::Running(_));
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
            What::Over(over) => Event::Ended(ended(incarnation, &over, self.run_spec_of(&key).as_ref())),
            What::NoShim(failure) => Event::Ended(failed(incarnation, failure)),
            What::Probed { kind, number, answer } => Event::Probed { incarnation, kind, number, answer },
            What::Leaving => Event::Leaving { incarnation },
            What::HookFailed(message) => return self.events.tell(&key, message),
        };
        let over = matches!(event, Event::Ended(_));
        if over || runs {
            self.turns.done(&key);
        }
        self.step(&key, event, owed);
        if over {
            self.release(&key, incarnation);
        }
        if runs {
            self.post_start(&key, incarnation);
        }
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
        if unit.supervisor.asks_for_turn() {
            self.turns.ask(key);
        }
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
                Effect::Tell(text) => self.events.tell(&after.key, text),
                Effect::Forget => {
                    self.ledger.forget(key);
                    owed.push_back((key.clone(), Effect::Forget));
                }
                Effect::Probe { incarnation, kind, number, probe, timeout_ms } => {
                    self.ask(key, incarnation, (kind, number), &probe, timeout_ms);
                }
                Effect::Spawn { .. } | Effect::Signal { .. } | Effect::Reload { .. } | Effect::KillTree { .. } => {
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

    /// One sync for everything, then everything that waited for it. Meanwhile what is to start gets ready: whoever comes
    /// after this slave knows of it already, and its shim starts nothing before it is let go.
    fn finish_turn(&mut self, mut owed: Owed) -> io::Result<()> {
        self.keep_what_came_back(&mut owed);
        self.keep_order(&mut owed);
        self.give_turns(&mut owed);
        self.ledger.hand_over()?;
        fail_point!("turn-before-sync");
        if owed.iter().any(|(_, effect)| matches!(effect, Effect::Spawn { .. })) {
            // Bundle, cgroup and the word to the shim take as long as the sync.
            self.ledger.begin_sync();
        }
        let starts = self.prepare_starts(&mut owed);
        tokio::task::block_in_place(|| self.ledger.save())?;
        fail_point!("turn-after-sync");
        let some_start = !starts.is_empty();
        starts.into_iter().for_each(Start::begin);
        if some_start {
            self.nursery.think_ahead();
        }
        // What is to run comes first, clearing away after it: somebody waits for the one and nobody for the other.
        for (key, effect) in owed {
            self.carry_out(&key, effect);
        }
        for done in std::mem::take(&mut self.after_sync) {
            done();
        }
        fail_point!("turn-carried-out");
        self.events.show();
        self.publish();
        Ok(())
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
            strays: self.strays.clone(),
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
