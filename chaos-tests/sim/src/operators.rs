//! Operators: each has one call under way, asks any manager, and repeats what got no answer, with the same request id, at
//! another one. What got no answer at all is unknown, not failed.

use std::collections::BTreeMap;

use minder_model::{InstanceKey, RequestId, Wanted};
use minder_state::{Proposal, Reply, State};
use minder_supervisor::LocalOrder;

use crate::{
    agreement::Waiter,
    ask::{Ask, ZONE, expectation, number_of},
    host::Message,
    model::Page,
    network::Node,
    planted::Planted,
    world::{Event, World, say},
};

/// An operator.
#[derive(Debug, Default)]
pub struct Operator {
    /// Its call under way.
    pub call: Option<Call>,
    /// Its calls so far.
    pub calls: u64,
    /// What it read last.
    pub page: Page,
    /// What it is about to ask in haste, the next one last.
    pub in_haste: Vec<Ask>,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts this operator's calls.
    pub number: u64,
    /// What is asked.
    pub what: Asked,
    /// Which attempt is under way.
    pub attempt: u32,
    /// The latest revision that anybody had an answer of when it began.
    pub floor: u64,
}

/// What a call asks.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A write, by the number of its request.
    Write(u64),
    /// A read of everything.
    Read,
}

/// What a call gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A write's.
    Written(Reply),
    /// A read's: as of which revision, and what.
    Read(u64, Box<Page>),
    /// Nobody here leads; ask again.
    Unavailable,
}

/// Who called, which call, which attempt, over which manager.
pub type Caller = (usize, u64, u32, usize);

/// A call without an answer is given up or repeated after this, in milliseconds.
const CALL_MS: u64 = 3_000;
/// While things go wrong a call is repeated at most so often.
const ATTEMPTS_MAX: u32 = 8;

impl World {
    /// A proposal of this ask under a new request id.
    pub fn new_proposal(&mut self, manager: usize, ask: Ask, expected: Option<u64>) -> Proposal {
        let request = self.oracles.asks.take(ask, expected);
        self.proposal_of(manager, request)
    }

    fn proposal_of(&self, manager: usize, request: u64) -> Proposal {
        let (ask, expected) = self.oracles.asks.get(request).expect("a request that was taken");
        let expected = expected.filter(|_| self.planted != Some(Planted::ExpectationIgnored));
        Proposal {
            request: RequestId::new(format!("r{request}")).expect("a letter and digits"),
            time_ms: self.managers[manager].wall_ms(self.now),
            actor: "operator".into(),
            expect: expectation(expected),
            command: ask.command(),
        }
    }

    /// An operator begins a call.
    pub fn operate(&mut self, operator: usize) {
        if self.operators[operator].call.is_some() || !self.operating {
            return;
        }
        let reads = self.operators[operator].in_haste.is_empty() && self.chance.percent(25);
        let what = if reads {
            Asked::Read
        } else {
            let (ask, expected) = self.next_ask(operator);
            say!(self, Node::Operator(operator), "asks {ask:?}, expecting {expected:?}");
            Asked::Write(self.oracles.asks.take(ask, expected))
        };
        self.begin_call(operator, what);
    }

    /// Now and then somebody logs in to a machine and stops or starts something there.
    pub fn speak_locally(&mut self) {
        let wait = self.chance.of(2_000..15_000);
        self.after(self.paced(wait), Event::SpeakLocally);
        if !self.faulty {
            return;
        }
        let host = self.chance.below(self.hosts.len());
        if self.options.work.onlookers && (!self.options.work.local_orders || self.chance.percent(50)) {
            return (0..self.hosts.len()).for_each(|host| self.begin_asking_locally(host));
        }
        if self.options.work.local_orders {
            self.order_locally(host);
        }
    }

    fn order_locally(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let keys: Vec<InstanceKey> = slave.units.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = self.chance.pick(&keys).clone();
        let order = *self.chance.pick(&[LocalOrder::Stop, LocalOrder::Stop, LocalOrder::Start, LocalOrder::Restart]);
        say!(self, Node::Host(host), "somebody says {order:?} to {key}");
        self.tell_host(host, Message::Local(key, order));
    }

    /// Somebody asks a machine again and again, for a while, as with `watch`.
    fn begin_asking_locally(&mut self, host: usize) {
        let every = *self.chance.pick(&[20, 100]);
        say!(self, Node::Host(host), "somebody asks every {every} ms what runs here");
        (0..150).for_each(|time| self.after(time * every, Event::AskLocally { host }));
    }

    /// Now and then whoever asks says something as well.
    pub fn ask_locally(&mut self, host: usize) {
        if self.faulty && self.options.work.local_orders && self.chance.percent(4) {
            self.order_locally(host);
        }
        self.tell_host(host, Message::Ask);
    }

    /// What was stopped on machines is started there again.
    pub fn end_local_stops(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(slave) = &self.hosts[host].slave else { continue };
            let stopped = slave.units.iter().filter(|(_, unit)| unit.supervisor.record().local_stop.is_some());
            for key in stopped.map(|(key, _)| key.clone()).collect::<Vec<InstanceKey>>() {
                self.tell_host(host, Message::Local(key, LocalOrder::Start));
            }
        }
    }

    /// Operators begin no more calls by themselves.
    pub fn stop_operating(&mut self) {
        self.operating = false;
    }

    /// Begins a call that was chosen.
    pub fn begin_call(&mut self, operator: usize, what: Asked) {
        let floor = self.oracles.acknowledged.floor();
        let known = &mut self.operators[operator];
        known.calls += 1;
        let number = known.calls;
        known.call = Some(Call { number, what, attempt: 0, floor });
        self.attempt(operator);
    }

    fn attempt(&mut self, operator: usize) {
        let over = self.chance.below(self.managers.len());
        let Some(call) = &mut self.operators[operator].call else { return };
        call.attempt += 1;
        let (call, attempt) = (call.number, call.attempt);
        let lost = self.loses_call();
        if !lost && self.network.reaches(Node::Operator(operator), Node::Manager(over)) {
            let wait = self.latency();
            self.after(wait, Event::CallArrives { operator, call, attempt, manager: over, over });
        }
        self.after(CALL_MS, Event::CallTimesOut { operator, call, attempt });
    }

    fn loses_call(&mut self) -> bool {
        self.faulty && self.options.faults.lost_calls && self.chance.percent(15)
    }

    /// A call arrives at a manager, which serves it, or passes it on once.
    pub fn call_arrives(&mut self, operator: usize, number: u64, attempt: u32, manager: usize, over: usize) {
        let caller = (operator, number, attempt, over);
        let known = &self.managers[manager];
        if !known.up {
            return self.answer(manager, caller, Answer::Unavailable);
        }
        if known.leading.is_some() && known.ready {
            return self.serve(manager, caller);
        }
        let leader = known.leader.map(|(_, leader)| leader).filter(|leader| *leader != manager && manager == over);
        match leader {
            Some(leader) if self.network.reaches(Node::Manager(manager), Node::Manager(leader)) => {
                let wait = self.latency();
                self.after(wait, Event::CallArrives { operator, call: number, attempt, manager: leader, over });
            }
            // It goes nowhere, and nobody says so.
            Some(_) => {}
            None => self.answer(manager, caller, Answer::Unavailable),
        }
    }

    fn serve(&mut self, manager: usize, caller: Caller) {
        let (operator, number, attempt, over) = caller;
        let Some(call) = self.operators[operator].call.as_ref().filter(|call| call.number == number) else { return };
        match call.what {
            Asked::Write(request) => {
                let mut proposal = self.proposal_of(manager, request);
                if self.planted == Some(Planted::RepeatIsNew) && attempt > 1 {
                    let (ask, expected) = self.oracles.asks.get(request).cloned().expect("a request that was taken");
                    proposal = self.new_proposal(manager, ask, expected);
                }
                if self.planted == Some(Planted::AckBeforeQuorum) {
                    let index = self.agreement.log.len() + self.managers[manager].own.len() + 1;
                    let revision = minder_model::Revision(index as u64);
                    let reply = self.managers[manager].state.clone().apply(revision, &proposal).reply;
                    self.answer(manager, caller, Answer::Written(reply));
                    return self.propose(manager, proposal, Waiter::Nobody);
                }
                self.propose(manager, proposal, Waiter::Call(operator, number, attempt, over));
            }
            Asked::Read => {
                let known = &self.managers[manager];
                let (epoch, index) = (known.epoch, known.known);
                let recent = known.read_confirmed_at.is_some_and(|at| self.now < at + 5_000);
                if self.planted == Some(Planted::ReadIndexReused) && recent {
                    return self.read_served(manager, index, caller);
                }
                let Some(term) = known.leading else { return };
                let wait = self.latency();
                let decided = Event::ReadDecided { manager, epoch, term, operator, call: number, attempt, over };
                self.after(wait, decided);
            }
        }
    }

    /// The others answer a read's round, or do not.
    pub fn read_decided(&mut self, manager: usize, epoch: u64, term: u64, caller: Caller) {
        let (operator, call, attempt, over) = caller;
        if self.may_decide(manager, term) {
            let index = self.agreement.log.len();
            self.managers[manager].read_confirmed_at = Some(self.now);
            let wait = self.latency();
            self.after(wait, Event::ReadServed { manager, epoch, index, operator, call, attempt, over });
        }
    }

    /// A read is answered as of an index, or a later one.
    pub fn read_served(&mut self, manager: usize, index: usize, caller: Caller) {
        if self.planted != Some(Planted::ReadBeforeApply) {
            self.catch_up(manager, index);
        }
        let known = &self.managers[manager];
        let (applied, page) = (known.applied as u64, page_of(&known.state));
        self.answer(manager, caller, Answer::Read(applied, Box::new(page)));
    }

    /// A write was applied.
    pub fn answer_write(
        &mut self,
        manager: usize,
        operator: usize,
        call: u64,
        attempt: u32,
        over: usize,
        reply: Reply,
    ) {
        self.answer(manager, (operator, call, attempt, over), Answer::Written(reply));
    }

    fn answer(&mut self, manager: usize, (operator, call, attempt, over): Caller, answer: Answer) {
        let hop = manager == over || self.network.reaches(Node::Manager(manager), Node::Manager(over));
        let back = self.network.reaches(Node::Manager(over), Node::Operator(operator));
        if hop && back && !self.loses_call() {
            let wait = self.latency();
            self.after(wait, Event::CallAnswered { operator, call, attempt, answer });
        }
    }

    /// An answer is there.
    pub fn call_answered(&mut self, operator: usize, number: u64, attempt: u32, answer: Answer) {
        let Some(call) = &self.operators[operator].call else { return };
        if (call.number, call.attempt) != (number, attempt) {
            return;
        }
        if matches!(answer, Answer::Unavailable) {
            // The attempt's time-out repeats it.
            return;
        }
        let call = call.clone();
        self.operators[operator].call = None;
        self.judge_answer(operator, &call, &answer);
        if let Answer::Read(_, page) = answer {
            self.operators[operator].page = *page;
        }
        let in_haste = !self.operators[operator].in_haste.is_empty();
        let wait = if in_haste { self.chance.of(1..80) } else { self.thinks() };
        self.after(wait, Event::Operate { operator });
    }

    /// No answer came in time.
    pub fn call_times_out(&mut self, operator: usize, number: u64, attempt: u32) {
        let Some(call) = &self.operators[operator].call else { return };
        if (call.number, call.attempt) != (number, attempt) {
            return;
        }
        let repeats = !self.faulty || (self.options.work.repeats && attempt < ATTEMPTS_MAX);
        if repeats {
            return self.attempt(operator);
        }
        say!(self, Node::Operator(operator), "gives call {number} up; its outcome is unknown");
        self.operators[operator].call = None;
        let wait = self.thinks();
        self.after(wait, Event::Operate { operator });
    }

    /// How long an operator waits before its next call.
    fn thinks(&mut self) -> u64 {
        let wait = self.chance.of(1..self.options.call_every_ms * 2);
        self.paced(wait)
    }
}

/// What everybody can read of a state, in words of the simulator.
pub fn page_of(state: &State) -> Page {
    let processes: BTreeMap<usize, (u64, u64, bool)> = state
        .processes()
        .map(|(name, record)| {
            let running = record.wanted == Wanted::Running;
            (number_of(name.as_str()), (record.generation.0, record.revision.0, running))
        })
        .collect();
    let zone = |record: &minder_state::HostRecord| record.labels().get(ZONE).and_then(|zone| zone.parse().ok());
    let hosts = state.hosts().map(|(name, record)| (number_of(name.as_str()), (zone(record), record.revision.0)));
    (processes, hosts.collect())
}
