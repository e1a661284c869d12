//! The slave's host task, after slave/src/host.rs: each turn takes what has come in, steps the real supervisors, makes
//! everything they changed durable in one sync, and only then carries out what they ask for.

mod acting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use minder_model::{
    AssignmentDelta, ClusterId, DeltaError, Digest, Incarnation, InstanceKey, InstanceStatus, Item, Revision, Wanted,
};
use minder_supervisor::{Effect, Event as SupervisorEvent, Gate, LocalOrder, Now, Record, Supervisor, keep_order};

use crate::{
    kernel::{Bundle, Kernel, Leaf, ShimRecord, Stage},
    ledger::{File, Ledger},
    network::Node,
    planted::Planted,
    slave::Stream,
    world::{EPOCH_MS, Event, World, say},
};

/// One machine.
#[derive(Debug)]
pub struct Host {
    /// Its kernel.
    pub kernel: Kernel,
    /// The ledger's file.
    pub file: File,
    /// Its slave, while one runs.
    pub slave: Option<Slave>,
    /// Counts its slaves.
    pub epoch: u64,
    /// When it was switched on.
    pub booted_at: u64,
    /// How far its wall clock is off, in milliseconds.
    pub skew_ms: i64,
    /// Its power is off.
    pub off: bool,
    /// Its slave is to be killed at this step of a turn.
    pub kill_at: Option<Step>,
}

/// Steps of a turn between which a slave may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is written.
    BeforeWriting,
    /// It is written and not synced.
    BeforeSync,
    /// It is synced and not carried out.
    BeforeActing,
    /// It is half carried out.
    WhileActing,
}

/// What a slave hears of an incarnation.
#[derive(Debug, Clone)]
pub enum What {
    /// It runs.
    Running(ShimRecord),
    /// It is over; absent when nobody wrote anything down.
    Over(Option<ShimRecord>),
    /// There is no shim, so there never was a program.
    NoShim,
}

/// What comes to the host task.
#[derive(Debug)]
pub enum Message {
    /// A manager assigns, over this stream.
    Assign(u64, ClusterId, AssignmentDelta, Vec<Vec<u8>>),
    /// Run specs that were asked for.
    RunSpecs(Vec<Vec<u8>>),
    /// Somebody on the machine says so.
    Local(InstanceKey, LocalOrder),
    /// Somebody on the machine asks what runs there.
    Ask,
}

/// What others see of the host.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The cluster.
    pub cluster: Option<ClusterId>,
    /// Revision of the assignment it acts on.
    pub revision: Revision,
    /// Its digest.
    pub digest: Digest,
    /// Every instance.
    pub statuses: BTreeMap<InstanceKey, Arc<InstanceStatus>>,
    /// Run specs that are missing.
    pub missing: BTreeSet<Digest>,
}

/// A running slave.
#[derive(Debug)]
pub struct Slave {
    /// Which of the host's.
    pub epoch: u64,
    /// It gets no time until then.
    pub paused_until: u64,
    /// From when until when it got none so far, for whoever judges.
    pub pauses: Vec<(u64, u64)>,
    /// What it holds.
    pub ledger: Ledger,
    /// Supervised instances.
    pub units: BTreeMap<InstanceKey, Unit>,
    /// What others see.
    pub view: View,
    /// One to each manager.
    pub streams: BTreeMap<usize, Stream>,
    /// The latest term that somebody leads in, and who.
    pub leader: (u64, Option<usize>),
    /// News of shims come in order until then.
    pub news_at: u64,
    /// It has not spoken to anybody yet.
    beginning: bool,
    pub(crate) wakes: BTreeMap<u64, BTreeSet<InstanceKey>>,
    inbox: Vec<Message>,
    news: Vec<(Leaf, What)>,
    next_turn: Option<u64>,
    syncing: Option<Syncing>,
    changed: BTreeSet<InstanceKey>,
    waiting_turns: VecDeque<InstanceKey>,
    report_due: bool,
    /// What is being cleared away: an instance that was forgotten and comes back meanwhile begins after these numbers.
    clearing: BTreeSet<Leaf>,
}

#[derive(Debug, Default)]
pub(crate) struct Syncing {
    owed: VecDeque<(InstanceKey, Effect)>,
    started: Vec<Leaf>,
    released: Vec<Leaf>,
    stopped: Vec<(InstanceKey, u64)>,
    upto: usize,
}

/// One instance.
#[derive(Debug)]
pub struct Unit {
    /// The real one.
    pub supervisor: Supervisor,
    told: Option<(Item, bool)>,
    unclear: bool,
}

/// Restarts under way at a time.
const TURNS_AT_ONCE: usize = 4;

impl Host {
    /// A new machine.
    pub fn new(pids: u32) -> Self {
        Self {
            kernel: Kernel::new(pids),
            file: File::default(),
            slave: None,
            epoch: 0,
            booted_at: 0,
            skew_ms: 0,
            off: false,
            kill_at: None,
        }
    }

    /// The kernel, if it still is the one of this boot.
    pub fn kernel_of(&mut self, boot: u64) -> Option<&mut Kernel> {
        (self.kernel.boot == boot && !self.off).then_some(&mut self.kernel)
    }
}

impl World {
    /// The host's wall clock.
    pub fn wall_ms(&self, host: usize) -> u64 {
        (EPOCH_MS + self.now).saturating_add_signed(self.hosts[host].skew_ms)
    }

    pub(crate) fn clock(&mut self, host: usize) -> Now {
        let mono_ms = self.now - self.hosts[host].booted_at + 1_000;
        Now { mono_ms, wall_ms: self.wall_ms(host), random: self.chance.any() }
    }

    pub(crate) fn slave_mut(&mut self, host: usize, epoch: u64) -> Option<&mut Slave> {
        self.hosts[host].slave.as_mut().filter(|slave| slave.epoch == epoch)
    }

    /// Starts a slave with what the ledger says. First it is found out what became of living incarnations, then the
    /// assignment counts again.
    pub fn start_slave(&mut self, host: usize) {
        if self.hosts[host].slave.is_some() || self.hosts[host].off {
            return;
        }
        let (now, name) = (self.now, crate::ask::host_name(host));
        let machine = &mut self.hosts[host];
        machine.epoch += 1;
        let epoch = machine.epoch;
        let ledger = Ledger::open(name, &mut machine.file);
        say!(self, Node::Host(host), "slave {epoch} starts, at revision {}", ledger.assignment.revision);
        self.hosts[host].slave = Some(Slave {
            epoch,
            paused_until: 0,
            pauses: Vec::new(),
            ledger,
            units: BTreeMap::new(),
            view: View::default(),
            streams: BTreeMap::new(),
            leader: (0, None),
            news_at: now,
            beginning: true,
            wakes: BTreeMap::new(),
            inbox: Vec::new(),
            news: Vec::new(),
            next_turn: None,
            syncing: None,
            changed: BTreeSet::new(),
            waiting_turns: VecDeque::new(),
            report_due: false,
            clearing: BTreeSet::new(),
        });
        self.take_over(host, epoch);
        for manager in 0..self.managers.len() {
            let wait = self.latency();
            self.after(wait, Event::Dial { host, epoch, manager });
        }
    }

    /// Something came in: a turn is due at this time at the latest.
    pub(crate) fn need_turn(&mut self, host: usize, at: u64) {
        let at = at.max(self.now);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        if slave.syncing.is_none() && slave.next_turn.is_none_or(|next| at < next) {
            slave.next_turn = Some(at);
            let epoch = slave.epoch;
            self.after(at - self.now, Event::Turn { host, epoch });
        }
    }

    /// A message for the host task.
    pub fn tell_host(&mut self, host: usize, message: Message) {
        if let Some(slave) = &mut self.hosts[host].slave {
            slave.inbox.push(message);
            self.need_turn(host, self.now);
        }
    }

    /// News of an incarnation.
    pub fn on_news(&mut self, host: usize, epoch: u64, leaf: Leaf, what: What) {
        if let Some(slave) = self.slave_mut(host, epoch) {
            slave.news.push((leaf, what));
            self.need_turn(host, self.now);
        }
    }

    /// One turn, up to the sync.
    pub fn turn(&mut self, host: usize, epoch: u64) {
        let now = self.now;
        let Some(slave) = self.slave_mut(host, epoch) else { return };
        if slave.next_turn.is_none_or(|at| at > now) {
            return;
        }
        slave.next_turn = None;
        if slave.syncing.is_some() {
            return;
        }
        let (inbox, news) = (std::mem::take(&mut slave.inbox), std::mem::take(&mut slave.news));
        let mut turn = Syncing::default();
        let some_messages = !inbox.is_empty();
        inbox.into_iter().for_each(|message| self.on_host_message(host, message, &mut turn));
        if some_messages {
            self.assign_all(host, &mut turn);
        }
        news.into_iter().for_each(|(leaf, what)| self.take_news(host, leaf, what, &mut turn));
        self.wake_due(host, &mut turn);
        self.finish_turn(host, turn);
    }

    fn on_host_message(&mut self, host: usize, message: Message, turn: &mut Syncing) {
        let fence_ignored = self.planted == Some(Planted::FenceIgnored);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        match message {
            Message::Assign(connection, cluster, delta, run_specs) => {
                let revision = delta.revision;
                let other = slave.ledger.cluster.as_ref().is_some_and(|own| *own != cluster);
                let mut taken =
                    if other { Err("other cluster") } else { slave.ledger.change(delta.clone()).map_err(why) };
                if fence_ignored && taken == Err("older") {
                    slave.ledger.change_unchecked(delta);
                    taken = Ok(());
                }
                match taken {
                    Ok(()) => {
                        slave.ledger.join(cluster);
                        run_specs.iter().for_each(|bytes| slave.ledger.add_run_spec(bytes));
                        say!(self, Node::Host(host), "takes revision {revision}");
                    }
                    Err(why) => self.refuse_assignment(host, connection, why),
                }
                self.wait_for_host(host, connection, false);
            }
            Message::Ask => self.assign_before_local(host, turn),
            Message::RunSpecs(run_specs) => run_specs.iter().for_each(|bytes| slave.ledger.add_run_spec(bytes)),
            Message::Local(key, order) => {
                self.assign_before_local(host, turn);
                let Some(slave) = &self.hosts[host].slave else { return };
                let taken = slave.units.get(&key).is_some_and(|unit| unit.supervisor.local_refusal(order).is_none());
                if taken {
                    self.step_unit(host, &key, SupervisorEvent::Local { order, by: "ann".into() }, turn);
                    self.take_local(host, key, order, turn);
                }
            }
        }
    }

    /// What managers said before it in this turn comes before it.
    fn assign_before_local(&mut self, host: usize, turn: &mut Syncing) {
        if self.planted != Some(Planted::LocalBeforeAssigned) {
            self.assign_all(host, turn);
        }
    }

    fn take_local(&mut self, host: usize, key: InstanceKey, order: LocalOrder, turn: &mut Syncing) {
        self.note_local_word((host, key.clone()));
        let Some(slave) = &self.hosts[host].slave else { return };
        match order {
            LocalOrder::Stop => turn.stopped.push((key, slave.ledger.assignment.revision.0)),
            LocalOrder::Start | LocalOrder::Restart => {
                turn.stopped.retain(|(other, _)| *other != key);
                self.forget_local(host, &key);
            }
        }
    }

    /// Tells every instance what is wanted of it now, where that is news.
    pub(crate) fn assign_all(&mut self, host: usize, turn: &mut Syncing) {
        let wall_ms = self.wall_ms(host);
        let timer_survives = self.planted == Some(Planted::TimerSurvivesStop);
        let number_again = self.planted == Some(Planted::NumberUsedAgain);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let mut told = Vec::new();
        for (key, item) in &slave.ledger.assignment.items {
            let run_spec = slave.ledger.run_specs.get(&item.spec).cloned();
            let unit = slave.units.entry(key.clone()).or_insert_with(|| {
                let numbers = (key.clone(), Incarnation::ZERO)..=(key.clone(), Incarnation(u64::MAX));
                let latest = slave.clearing.range(numbers).next_back().filter(|_| !number_again);
                let incarnation = latest.map(|(_, incarnation)| *incarnation).unwrap_or_default();
                let record = Record { incarnation, ..Record::new(key.clone(), wall_ms) };
                Unit::new(Supervisor::new(record).taking_turns(), false)
            });
            if unit.told == Some((*item, run_spec.is_some())) {
                continue;
            }
            let backs_off = matches!(unit.supervisor.record().outcome, minder_supervisor::Outcome::Backoff(_));
            if timer_survives && item.wanted == Wanted::Stopped && backs_off && unit.supervisor.live().is_none() {
                continue;
            }
            unit.told = Some((*item, run_spec.is_some()));
            told.push((key.clone(), SupervisorEvent::Assigned { item: *item, run_spec }));
        }
        if slave.ledger.assignment.revision > Revision::ZERO {
            let items = &slave.ledger.assignment.items;
            for (key, unit) in slave.units.iter_mut().filter(|(key, _)| !items.contains_key(*key)) {
                unit.told = None;
                told.push((key.clone(), SupervisorEvent::Removed));
            }
        }
        told.into_iter().for_each(|(key, event)| self.step_unit(host, &key, event, turn));
    }

    fn take_news(&mut self, host: usize, leaf: Leaf, what: What, turn: &mut Syncing) {
        let (key, incarnation) = leaf.clone();
        let ended = self.ended_event(host, &leaf, &what);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let Some(unit) = slave.units.get_mut(&key) else { return };
        let unclear = std::mem::take(&mut unit.unclear);
        let spec = unit.supervisor.record().live.map(|live| live.spec);
        let event = match what {
            What::Running(record) if unclear => SupervisorEvent::TakenOver {
                incarnation,
                pid: record.main_pid,
                started_at_ms: record.started_ms,
                run_spec: spec.and_then(|spec| slave.ledger.run_specs.get(&spec).cloned()),
            },
            What::Running(record) => {
                SupervisorEvent::Started { incarnation, pid: record.main_pid, started_at_ms: record.started_ms }
            }
            What::Over(_) | What::NoShim => {
                slave.clearing.insert(leaf.clone());
                turn.released.push(leaf);
                ended
            }
        };
        self.step_unit(host, &key, event, turn);
    }

    pub(crate) fn step_unit(&mut self, host: usize, key: &InstanceKey, event: SupervisorEvent, turn: &mut Syncing) {
        let now = self.clock(host);
        let local_stop_lost = self.planted == Some(Planted::LocalStopLost);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let Some(unit) = slave.units.get_mut(key) else { return };
        let before = unit.supervisor.status(now);
        let effects = unit.supervisor.step(event, now);
        if unit.supervisor.asks_for_turn() && !slave.waiting_turns.contains(key) {
            slave.waiting_turns.push_back(key.clone());
        }
        if before != unit.supervisor.status(now) {
            slave.changed.insert(key.clone());
        }
        let (mut wakes, mut starts) = (Vec::new(), Vec::new());
        for effect in effects {
            if let Effect::Spawn { incarnation, .. } = &effect {
                starts.push((key.clone(), *incarnation));
            }
            match effect {
                Effect::Save if local_stop_lost => {
                    slave.ledger.put_record(&Record { local_stop: None, ..unit.supervisor.record().clone() });
                }
                Effect::Save => slave.ledger.put_record(unit.supervisor.record()),
                Effect::WakeAt(at) => wakes.push(at),
                Effect::Tell(_) | Effect::Probe { .. } => {}
                Effect::Forget => {
                    slave.ledger.forget(key);
                    turn.owed.push_back((key.clone(), Effect::Forget));
                }
                Effect::Spawn { .. } | Effect::Signal { .. } | Effect::Reload { .. } | Effect::KillTree { .. } => {
                    turn.owed.push_back((key.clone(), effect));
                }
            }
        }
        for at in wakes {
            slave.wakes.entry(at).or_default().insert(key.clone());
        }
        starts.into_iter().for_each(|leaf| self.note_intent(host, &leaf));
    }

    fn wake_due(&mut self, host: usize, turn: &mut Syncing) {
        let now = self.clock(host).mono_ms;
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let later = slave.wakes.split_off(&(now + 1));
        let due: BTreeSet<InstanceKey> = std::mem::replace(&mut slave.wakes, later).into_values().flatten().collect();
        due.into_iter().for_each(|key| self.step_unit(host, &key, SupervisorEvent::Timer, turn));
    }

    fn keep_order_and_turns(&mut self, host: usize, turn: &mut Syncing) {
        let Some(slave) = &mut self.hosts[host].slave else { return };
        if slave.units.values().any(|unit| unit.supervisor.is_ordered()) {
            let events = keep_order(slave.units.values().map(|unit| unit.supervisor.standing()));
            events.into_iter().for_each(|(key, event)| self.step_unit(host, &key, event, turn));
        }
        for _ in 0..TURNS_AT_ONCE {
            let Some(slave) = &mut self.hosts[host].slave else { return };
            let Some(key) = slave.waiting_turns.pop_front() else { return };
            if slave.units.get(&key).is_some_and(|unit| unit.supervisor.asks_for_turn()) {
                self.step_unit(host, &key, SupervisorEvent::Gate(Gate::Turn), turn);
            }
        }
        self.need_turn(host, self.now + 10);
    }

    pub(crate) fn finish_turn(&mut self, host: usize, mut turn: Syncing) {
        self.keep_order_and_turns(host, &mut turn);
        if self.planted == Some(Planted::IntentAfterFork) {
            self.start_all(host, &mut turn);
            self.let_go(host, &turn.started);
        }
        if self.planted == Some(Planted::SignalBeforeSaved) {
            self.act(host, &mut turn, |effect| matches!(effect, Effect::Signal { then_continue: false, .. }));
        }
        if self.dies_at(host, Step::BeforeWriting) {
            return;
        }
        let machine = &mut self.hosts[host];
        let Some(slave) = &mut machine.slave else { return };
        let some = slave.ledger.hand_over(&mut machine.file);
        turn.upto = machine.file.written();
        // Not beside instances that are forgotten in the same turn, which clears their folders.
        if !turn.owed.iter().any(|(_, effect)| matches!(effect, Effect::Forget)) {
            self.start_all(host, &mut turn);
        }
        if self.planted == Some(Planted::ToldBeforeSaved) {
            self.publish(host);
        }
        if self.dies_at(host, Step::BeforeSync) {
            return;
        }
        let slow = self.options.faults.slow_disks && self.faulty && self.chance.percent(20);
        let begins = self.hosts[host].slave.as_mut().is_some_and(|slave| std::mem::take(&mut slave.beginning));
        let wait = match (some && !begins, slow) {
            (false, _) => 0,
            (true, true) => self.chance.of(50..2_000),
            (true, false) => self.chance.of(1..8),
        };
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let epoch = slave.epoch;
        slave.syncing = Some(turn);
        if wait == 0 { self.synced(host, epoch) } else { self.after(wait, Event::Synced { host, epoch }) }
    }

    fn dies_at(&mut self, host: usize, step: Step) -> bool {
        if self.hosts[host].kill_at != Some(step) {
            return false;
        }
        self.hosts[host].kill_at = None;
        say!(self, Node::Host(host), "its slave dies at {step:?}");
        self.kill_slave(host);
        let wait = self.chance.of(50..3_000);
        self.after(wait, Event::StartSlave { host });
        true
    }

    /// Ends the slave. What it had not let begin goes with it; everything else goes on.
    pub fn kill_slave(&mut self, host: usize) {
        if self.hosts[host].slave.take().is_none() {
            return;
        }
        say!(self, Node::Host(host), "its slave is killed");
        for bundle in self.hosts[host].kernel.bundles.values_mut() {
            bundle.attended = None;
            bundle.held = false;
            bundle.shim &= bundle.let_go;
        }
        for connection in self.network.of(Node::Host(host)) {
            self.end_stream(connection, crate::network::Way::Up);
        }
    }
}

impl Unit {
    pub(crate) fn new(supervisor: Supervisor, unclear: bool) -> Self {
        Self { supervisor, told: None, unclear }
    }
}

fn why(error: DeltaError) -> &'static str {
    match error {
        DeltaError::Older { .. } => "older",
        DeltaError::SameRevisionOtherContent { .. } => "same revision, other content",
        DeltaError::OtherBase => "other base",
        DeltaError::DigestMismatch => "digest mismatch",
    }
}
