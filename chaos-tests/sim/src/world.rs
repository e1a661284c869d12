//! The world: its clock, its queue of events, and everybody in it. One event after the other, in the order of their
//! times; nothing happens beside it.

use std::collections::BTreeMap;

use crate::{
    agreement::{Agreement, ELECTION_LOOK_MS},
    chance::Chance,
    host::{Host, What},
    kernel::{End, Leaf},
    manager::Manager,
    message::Message,
    network::{Network, Way},
    operators::{Answer, Operator},
    options::Options,
    oracles::Oracles,
    planted::Planted,
    queue::Queue,
    trace::Trace,
    watcher::Watcher,
};

/// The world begins at this wall clock, milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_795_000_000_000;
/// A slave's sign of life comes this often, in milliseconds.
pub const HEARTBEAT_MS: u64 = 1_000;
/// A stream on a link that is cut is given up after this, as by keepalive.
const STREAM_GIVEN_UP_MS: u64 = 8_000;

/// Takes note of a line for people, where they are wanted.
macro_rules! say {
    ($world:expr, $node:expr, $($arguments:tt)*) => {
        $world.trace.say($world.now, $node, format_args!($($arguments)*))
    };
}
pub(crate) use say;

/// Something that happens at its time.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Event {
    LookAtLeader,
    Decide { manager: usize, term: u64, count: usize },
    RoundAgain { manager: usize, term: u64 },
    Learn { manager: usize, upto: usize },
    LeaderBeat { manager: usize, term: u64 },
    Hear { manager: usize, epoch: u64, from: usize, term: u64, upto: usize },
    CatchUp { manager: usize, epoch: u64, upto: usize },
    StartManager { manager: usize },
    Admitted { manager: usize, epoch: u64, connection: u64 },
    Confirm { manager: usize, epoch: u64, term: u64, connection: u64, number: u64, nonce: u64 },
    Confirmed { manager: usize, epoch: u64, connection: u64, number: u64, nonce: u64, index: Option<usize> },
    LookAtFleet { manager: usize, epoch: u64, term: u64 },
    Deliver { connection: u64, way: Way },
    StartSlave { host: usize },
    SwitchOn { host: usize },
    Dial { host: usize, epoch: u64, manager: usize },
    Beat { host: usize, epoch: u64, connection: u64, nonce: u64 },
    LeaderHeard { host: usize, epoch: u64 },
    Turn { host: usize, epoch: u64 },
    Synced { host: usize, epoch: u64 },
    ReportDue { host: usize, epoch: u64 },
    News { host: usize, epoch: u64, leaf: Leaf, what: What },
    AttendAgain { host: usize, epoch: u64, leaf: Leaf, newborn: bool },
    Release { host: usize, boot: u64, leaf: Leaf },
    ShimStarts { host: usize, boot: u64, leaf: Leaf },
    ShimKills { host: usize, boot: u64, leaf: Leaf },
    ProgramEnds { host: usize, boot: u64, pid: u32, ticks: u64, end: End },
    Operate { operator: usize },
    CallArrives { operator: usize, call: u64, attempt: u32, manager: usize, over: usize },
    CallAnswered { operator: usize, call: u64, attempt: u32, answer: Answer },
    CallTimesOut { operator: usize, call: u64, attempt: u32 },
    ReadDecided { manager: usize, epoch: u64, term: u64, operator: usize, call: u64, attempt: u32, over: usize },
    ReadServed { manager: usize, epoch: u64, index: usize, operator: usize, call: u64, attempt: u32, over: usize },
    Watch { watcher: usize },
    SpeakLocally,
    AskLocally { host: usize },
    HandOver,
    Fault,
    HealLinks,
    Look,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// What the seed stands for.
    pub options: Options,
    /// The bug that was put in.
    pub planted: Option<Planted>,
    /// Milliseconds since the world's beginning.
    pub now: u64,
    /// Operators still think of something to do.
    pub operating: bool,
    /// Things still go wrong.
    pub faulty: bool,
    /// How many times as long as by day everybody waits from one deed to the next: operators, watchers, who logs in to
    /// machines, faults, and programs with their ends. What Minder does by itself keeps its own time.
    pub pace: u64,
    /// What everybody draws from.
    pub chance: Chance,
    /// What happened.
    pub trace: Trace,
    /// Links and streams.
    pub network: Network,
    /// What managers agree on.
    pub agreement: Agreement,
    /// Managers.
    pub managers: Vec<Manager>,
    /// Machines.
    pub hosts: Vec<Host>,
    /// Operators.
    pub operators: Vec<Operator>,
    /// Watchers.
    pub watchers: Vec<Watcher>,
    /// Judges.
    pub oracles: Oracles,
    /// The first promise that was broken.
    pub failure: Option<String>,
    /// Faults so far, by name.
    pub faults: BTreeMap<&'static str, u64>,
    queue: Queue,
}

impl World {
    /// The world of a seed, at its beginning.
    pub fn new(options: Options, planted: Option<Planted>, with_lines: bool) -> Self {
        let chance = Chance::new(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51a7);
        let managers = (0..options.managers).map(|_| Manager::running()).collect();
        let hosts = (0..options.hosts).map(|_| Host::new(options.pids)).collect();
        let operators = (0..options.operators).map(|_| Operator::default()).collect();
        let mut world = Self {
            planted,
            now: 0,
            operating: true,
            faulty: true,
            pace: 1,
            chance,
            trace: Trace::new(with_lines),
            network: Network::default(),
            agreement: Agreement::default(),
            managers,
            hosts,
            operators,
            watchers: vec![Watcher::default(), Watcher::default()],
            oracles: Oracles::default(),
            failure: None,
            faults: BTreeMap::new(),
            queue: Queue::default(),
            options,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.network.latency_ms_max = self.latency_ms_max();
        self.elect();
        let leader = self.agreement.leader.unwrap_or_default();
        let create = self.new_proposal(leader, crate::ask::Ask::Create, None);
        self.propose(leader, create, crate::agreement::Waiter::Nobody);
        self.after(ELECTION_LOOK_MS, Event::LookAtLeader);
        for host in 0..self.hosts.len() {
            let wait = self.chance.of(0..1_000);
            self.after(wait, Event::StartSlave { host });
        }
        self.after(1_000, Event::Look);
        self.rouse();
    }

    /// Everybody outside Minder begins to do things.
    fn rouse(&mut self) {
        for operator in 0..self.operators.len() {
            let wait = self.chance.of(0..2_000);
            self.after(wait, Event::Operate { operator });
        }
        for watcher in 0..self.watchers.len() {
            self.after(500, Event::Watch { watcher });
        }
        self.after(self.options.fault_every_ms, Event::Fault);
        if self.options.work.local_orders || self.options.work.onlookers {
            self.after(5_000, Event::SpeakLocally);
        }
    }

    /// After a time in which nothing went wrong things do again, at another pace.
    pub fn begin_again(&mut self, pace: u64) {
        let outside = |event: &Event| {
            matches!(event, Event::Operate { .. } | Event::Watch { .. } | Event::Fault | Event::SpeakLocally)
        };
        self.queue.retain(|event| !outside(event));
        (self.pace, self.faulty, self.operating) = (pace, true, true);
        self.network.latency_ms_max = self.latency_ms_max();
        self.rouse();
    }

    fn latency_ms_max(&self) -> u64 {
        if self.options.faults.slow_links { 300 } else { 8 }
    }

    /// By day what was drawn, by night longer.
    pub fn paced(&self, wait_ms: u64) -> u64 {
        wait_ms * self.pace
    }

    /// Has an event happen later.
    pub fn after(&mut self, wait_ms: u64, event: Event) {
        self.queue.put(self.now + wait_ms, event);
    }

    /// How long a message takes.
    pub fn latency(&mut self) -> u64 {
        let slow = self.faulty && self.chance.percent(20);
        let most = if slow { self.network.latency_ms_max } else { 8 };
        self.chance.of(1..most.max(2))
    }

    /// Goes on until this time or the first broken promise.
    pub fn run_until(&mut self, end: u64) {
        while self.failure.is_none() {
            let Some((at, event)) = self.queue.next_until(end) else { break };
            self.now = at;
            match self.sleeps_until(&event) {
                Some(until) if until > self.now => self.after(until - at, event),
                Some(_) | None => {
                    self.note(&event);
                    self.dispatch(event);
                }
            }
        }
        self.now = self.now.max(end);
    }

    /// Who is paused does nothing; what was meant for it waits.
    fn sleeps_until(&self, event: &Event) -> Option<u64> {
        let manager = |at: usize| Some(self.managers[at].paused_until);
        let slave = |at: usize| self.hosts[at].slave.as_ref().map(|slave| slave.paused_until);
        match event {
            Event::Decide { manager: at, .. }
            | Event::RoundAgain { manager: at, .. }
            | Event::Learn { manager: at, .. }
            | Event::LeaderBeat { manager: at, .. }
            | Event::Hear { manager: at, .. }
            | Event::CatchUp { manager: at, .. }
            | Event::Admitted { manager: at, .. }
            | Event::Confirmed { manager: at, .. }
            | Event::LookAtFleet { manager: at, .. }
            | Event::CallArrives { manager: at, .. }
            | Event::ReadServed { manager: at, .. } => manager(*at),
            Event::Deliver { connection, way } => {
                let connection = self.network.connections.get(connection)?;
                match way {
                    Way::Up => manager(connection.manager),
                    Way::Down => slave(connection.host),
                }
            }
            Event::Dial { host, .. }
            | Event::Beat { host, .. }
            | Event::LeaderHeard { host, .. }
            | Event::Turn { host, .. }
            | Event::Synced { host, .. }
            | Event::ReportDue { host, .. }
            | Event::News { host, .. }
            | Event::AttendAgain { host, .. } => slave(*host),
            Event::LookAtLeader
            | Event::StartManager { .. }
            | Event::Confirm { .. }
            | Event::StartSlave { .. }
            | Event::SwitchOn { .. }
            | Event::Release { .. }
            | Event::ShimStarts { .. }
            | Event::ShimKills { .. }
            | Event::ProgramEnds { .. }
            | Event::Operate { .. }
            | Event::CallAnswered { .. }
            | Event::CallTimesOut { .. }
            | Event::ReadDecided { .. }
            | Event::Watch { .. }
            | Event::SpeakLocally
            | Event::AskLocally { .. }
            | Event::HandOver
            | Event::Fault
            | Event::HealLinks
            | Event::Look => None,
        }
    }

    fn note(&mut self, event: &Event) {
        let (kind, one, two) = match *event {
            Event::LookAtLeader => (1, 0, 0),
            Event::Decide { manager, term, count } => (2, manager as u64 ^ term << 8, count as u64),
            Event::RoundAgain { manager, term } => (3, manager as u64, term),
            Event::Learn { manager, upto } => (4, manager as u64, upto as u64),
            Event::LeaderBeat { manager, term } => (5, manager as u64, term),
            Event::Hear { manager, term, upto, .. } => (6, manager as u64 ^ term << 8, upto as u64),
            Event::CatchUp { manager, upto, .. } => (7, manager as u64, upto as u64),
            Event::StartManager { manager } => (8, manager as u64, 0),
            Event::Admitted { manager, connection, .. } => (9, manager as u64, connection),
            Event::Confirm { manager, connection, nonce, .. } => (10, manager as u64 ^ connection << 8, nonce),
            Event::Confirmed { manager, connection, nonce, .. } => (11, manager as u64 ^ connection << 8, nonce),
            Event::LookAtFleet { manager, term, .. } => (12, manager as u64, term),
            Event::Deliver { connection, way } => (13, connection, u64::from(way == Way::Up)),
            Event::StartSlave { host } => (14, host as u64, 0),
            Event::SwitchOn { host } => (15, host as u64, 0),
            Event::Dial { host, manager, .. } => (16, host as u64, manager as u64),
            Event::Beat { host, connection, nonce, .. } => (17, host as u64 ^ connection << 8, nonce),
            Event::Turn { host, epoch } => (18, host as u64, epoch),
            Event::Synced { host, epoch } => (19, host as u64, epoch),
            Event::ReportDue { host, epoch } => (20, host as u64, epoch),
            Event::News { host, ref leaf, .. } => (21, host as u64, leaf.1.0),
            Event::AttendAgain { host, ref leaf, .. } => (22, host as u64, leaf.1.0),
            Event::Release { host, ref leaf, .. } => (23, host as u64, leaf.1.0),
            Event::ShimStarts { host, ref leaf, .. } => (24, host as u64, leaf.1.0),
            Event::ShimKills { host, ref leaf, .. } => (25, host as u64, leaf.1.0),
            Event::ProgramEnds { host, pid, ticks, .. } => (26, host as u64 ^ u64::from(pid) << 8, ticks),
            Event::Operate { operator } => (27, operator as u64, 0),
            Event::CallArrives { operator, call, manager, .. } => (28, operator as u64 ^ call << 8, manager as u64),
            Event::CallAnswered { operator, call, .. } => (29, operator as u64, call),
            Event::CallTimesOut { operator, call, .. } => (30, operator as u64, call),
            Event::ReadDecided { manager, operator, call, .. } => (31, manager as u64 ^ call << 8, operator as u64),
            Event::ReadServed { manager, operator, call, .. } => (32, manager as u64 ^ call << 8, operator as u64),
            Event::Watch { watcher } => (33, watcher as u64, 0),
            Event::Fault => (34, 0, 0),
            Event::HealLinks => (35, 0, 0),
            Event::Look => (36, 0, 0),
            Event::SpeakLocally => (37, 0, 0),
            Event::AskLocally { host } => (38, host as u64, 0),
            Event::HandOver => (40, 0, 0),
            Event::LeaderHeard { host, epoch } => (39, host as u64, epoch),
        };
        self.trace.note(&[self.now, kind, one, two]);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::LookAtLeader => self.look_at_leader(),
            Event::Decide { manager, term, count } => self.decide(manager, term, count),
            Event::RoundAgain { manager, term } if self.managers[manager].leading == Some(term) => {
                self.begin_round(manager);
            }
            Event::RoundAgain { .. } => {}
            Event::Learn { manager, upto } if self.managers[manager].leading.is_some() => self.catch_up(manager, upto),
            Event::Learn { .. } => {}
            Event::LeaderBeat { manager, term } => self.leader_beat(manager, term),
            Event::Hear { manager, epoch, from, term, upto } if self.is_this(manager, epoch) => {
                self.hear(manager, from, term, upto);
            }
            Event::CatchUp { manager, epoch, upto } if self.is_this(manager, epoch) => self.catch_up(manager, upto),
            Event::Hear { .. } | Event::CatchUp { .. } => {}
            Event::StartManager { manager } => self.start_manager(manager),
            Event::Admitted { manager, epoch, connection } if self.is_this(manager, epoch) => {
                self.step_session(connection, minder_fleet::Event::Admitted);
            }
            Event::Admitted { .. } => {}
            Event::Confirm { manager, epoch, term, connection, number, nonce } => {
                self.confirm(manager, epoch, term, connection, number, nonce);
            }
            Event::Confirmed { manager, epoch, connection, number, nonce, index } if self.is_this(manager, epoch) => {
                self.confirmed(connection, number, nonce, index);
            }
            Event::LookAtFleet { manager, epoch, term } if self.is_this(manager, epoch) => {
                self.look_at_fleet(manager, epoch, term);
            }
            Event::Confirmed { .. } | Event::LookAtFleet { .. } => {}
            Event::Deliver { connection, way } => self.deliver(connection, way),
            Event::StartSlave { host } => self.start_slave(host),
            Event::SwitchOn { host } => self.switch_on(host),
            Event::Dial { host, epoch, manager } => self.dial(host, epoch, manager),
            Event::Beat { host, epoch, connection, nonce } if self.hosts[host].epoch == epoch => {
                self.beat_again(host, connection, nonce);
            }
            Event::Beat { .. } => {}
            Event::LeaderHeard { host, epoch } => self.end_earlier_sessions(host, epoch),
            Event::Turn { host, epoch } => self.turn(host, epoch),
            Event::Synced { host, epoch } => self.synced(host, epoch),
            Event::ReportDue { host, epoch } => self.report_due(host, epoch),
            Event::News { host, epoch, leaf, what } => self.on_news(host, epoch, leaf, what),
            Event::AttendAgain { host, epoch, leaf, newborn } => self.attend_again(host, epoch, leaf, newborn),
            Event::Release { host, boot, leaf } => self.release(host, boot, &leaf),
            Event::ShimStarts { host, boot, leaf } => self.shim_starts(host, boot, leaf),
            Event::ShimKills { host, boot, leaf } => self.shim_kills(host, boot, leaf),
            Event::ProgramEnds { host, boot, pid, ticks, end } => self.program_ends(host, boot, pid, ticks, end),
            Event::Operate { operator } => self.operate(operator),
            Event::CallArrives { operator, call, attempt, manager, over } => {
                self.call_arrives(operator, call, attempt, manager, over);
            }
            Event::CallAnswered { operator, call, attempt, answer } => {
                self.call_answered(operator, call, attempt, answer);
            }
            Event::CallTimesOut { operator, call, attempt } => self.call_times_out(operator, call, attempt),
            Event::ReadDecided { manager, epoch, term, operator, call, attempt, over } => {
                self.read_decided(manager, epoch, term, (operator, call, attempt, over));
            }
            Event::ReadServed { manager, epoch, index, operator, call, attempt, over } => {
                if self.is_this(manager, epoch) {
                    self.read_served(manager, index, (operator, call, attempt, over));
                }
            }
            Event::Watch { watcher } => self.watch(watcher),
            Event::SpeakLocally => self.speak_locally(),
            Event::AskLocally { host } => self.ask_locally(host),
            Event::Fault => self.fault(),
            Event::HandOver => self.hand_over(),
            Event::HealLinks => self.network.heal(),
            Event::Look => {
                self.look();
                self.after(1_000, Event::Look);
            }
        }
    }

    fn is_this(&self, manager: usize, epoch: u64) -> bool {
        self.managers[manager].up && self.managers[manager].epoch == epoch
    }

    /// Puts a message on a stream.
    pub fn send(&mut self, connection: u64, way: Way, message: Message) {
        self.put(connection, way, Some(message));
    }

    /// One side ends a stream: the other hears of it after everything that is on its way.
    pub fn end_stream(&mut self, connection: u64, by: Way) {
        let Some(known) = self.network.connections.get(&connection) else { return };
        let (manager, host) = (known.manager, known.host);
        match by {
            Way::Up => {
                if let Some(slave) = &mut self.hosts[host].slave
                    && slave.streams.get(&manager).is_some_and(|stream| stream.connection == connection)
                {
                    slave.streams.remove(&manager);
                    let epoch = slave.epoch;
                    let wait = self.chance.of(10..300);
                    self.after(wait, Event::Dial { host, epoch, manager });
                }
            }
            Way::Down => self.stream_ended_at_manager(manager, connection),
        }
        self.put(connection, by, None);
    }

    fn put(&mut self, connection: u64, way: Way, parcel: Option<Message>) {
        let at = self.now + self.latency();
        let Some(known) = self.network.connections.get_mut(&connection) else { return };
        let queue = known.queue(way);
        if queue.back().is_some_and(|(_, last)| last.is_none()) {
            return;
        }
        let idle = queue.is_empty();
        let at = queue.back().map_or(at, |(before, _)| at.max(*before));
        queue.push_back((at, parcel));
        if idle {
            self.after(at - self.now, Event::Deliver { connection, way });
        }
    }

    fn deliver(&mut self, connection: u64, way: Way) {
        let now = self.now;
        let Some(known) = self.network.connections.get_mut(&connection) else { return };
        let (manager, host) = (known.manager, known.host);
        let (from, to) = known.ends(way);
        let queue = known.queue(way);
        let Some(at) = queue.front().map(|(at, _)| *at) else { return };
        let blocked = !self.network.reaches(from, to);
        if blocked && now < at + STREAM_GIVEN_UP_MS {
            return self.after(100, Event::Deliver { connection, way });
        }
        if way == Way::Down && self.stream_waits(host, connection) {
            let wait = self.chance.of(1..10);
            return self.after(wait, Event::Deliver { connection, way });
        }
        let Some(known) = self.network.connections.get_mut(&connection) else { return };
        let queue = known.queue(way);
        let parcel = if blocked { None } else { queue.pop_front().and_then(|(_, parcel)| parcel) };
        if parcel.is_none() {
            self.network.connections.remove(&connection);
        } else if let Some((next, _)) = queue.front() {
            let wait = next.saturating_sub(now);
            self.after(wait, Event::Deliver { connection, way });
        }
        match (way, parcel) {
            (Way::Up, Some(message)) => self.on_slave_message(connection, message),
            (Way::Down, Some(message)) => self.on_manager_message(host, manager, connection, message),
            (_, None) => {
                self.stream_ended_at_manager(manager, connection);
                self.stream_ended_at_slave(host, manager, connection);
            }
        }
    }
}
