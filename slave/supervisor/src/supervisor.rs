//! The state machine. Facts come in by events; `settle` compares them with the wish and says what to do next.

mod checks;
mod gate;
mod local;
mod stop;

use alloc::{boxed::Box, vec, vec::Vec};

use minder_model::{
    Asked, Cause, Digest, Incarnation, InstanceStatus, Item, Phase, Reload, Restart, Revision, RunSpec, Signal, Wanted,
    note_exit,
};

use self::{checks::Checks, gate::Place, stop::Stopping};
use crate::{
    event::{Effect, Ended, Event, Now, ProbeKind},
    exit::HowEnded,
    record::{Live, Outcome, Record},
    restart,
};

/// One instance's supervisor.
#[derive(Debug, Clone)]
pub struct Supervisor {
    record: Record,
    wish: Wish,
    fact: Fact,
    /// What the live incarnation runs, for its policies; absent when the slave lost it.
    live_spec: Option<RunSpec>,
    checks: Checks,
    place: Place,
    /// Since when no process of the live incarnation is left: there is nothing to do to it any more.
    left_mono_ms: Option<u64>,
}

/// What is wanted.
#[derive(Debug, Clone)]
enum Wish {
    /// Nobody has said yet, after a restart of the slave: leave everything as it is.
    Unsaid,
    /// Like this.
    Like(Item, Option<Box<WishSpec>>),
    /// Nothing of it.
    Gone,
}

#[derive(Debug, Clone)]
struct WishSpec {
    run_spec: RunSpec,
    launch: Digest,
}

/// What is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    /// No incarnation; the record says why and until when. Its wait, if any, is over at this time.
    Down { due_mono_ms: Option<u64> },
    /// One of before the slave's restart may live; nothing is done until that is known.
    Unclear,
    /// One was asked for and has not answered yet.
    Starting,
    /// It runs.
    Up { pid: u32, started_at_ms: u64, since_mono_ms: u64, healthy: bool },
    /// It is to end.
    Stopping { pid: u32, started_at_ms: u64, stopping: Stopping },
}

/// Why an incarnation is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Operator,
    SpecChanged,
    Restart,
    Unhealthy,
}

impl Supervisor {
    /// Supervises an instance that has just been assigned for the first time.
    pub fn new(record: Record) -> Self {
        Self {
            record,
            wish: Wish::Unsaid,
            fact: Fact::Down { due_mono_ms: Some(0) },
            live_spec: None,
            checks: Checks::default(),
            place: Place::default(),
            left_mono_ms: None,
        }
    }

    /// Goes on with what was made durable. While an incarnation may be alive, nothing is done before
    /// [`Event::TakenOver`] or [`Event::Ended`] says what became of it.
    pub fn restore(record: Record, now: Now) -> Self {
        let fact = match record.live {
            Some(_) => Fact::Unclear,
            None => Fact::Down { due_mono_ms: restart::due(&record, now) },
        };
        Self { fact, ..Self::new(record) }
    }

    /// What must be made durable on [`Effect::Save`].
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The incarnation that may be alive.
    pub fn live(&self) -> Option<Incarnation> {
        self.record.live.map(|live| live.incarnation)
    }

    /// The digest whose run spec is missing, while one is wanted and missing.
    pub fn missing_spec(&self) -> Option<Digest> {
        match &self.wish {
            Wish::Like(item, None) => Some(item.spec),
            Wish::Like(_, Some(_)) | Wish::Unsaid | Wish::Gone => None,
        }
    }

    /// Takes one event; gives what to do, in order.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.place.begin();
        let mut effects = match event {
            Event::Assigned { item, run_spec } => {
                let spec = run_spec.map(|run_spec| Box::new(WishSpec { launch: run_spec.launch_digest(), run_spec }));
                self.wish = Wish::Like(item, spec);
                self.end_outdated_local_stop()
            }
            Event::Removed => {
                self.wish = Wish::Gone;
                self.end_outdated_local_stop()
            }
            Event::Started { incarnation, pid, started_at_ms } => {
                self.on_started(incarnation, pid, started_at_ms, now);
                Vec::new()
            }
            Event::TakenOver { incarnation, pid, started_at_ms, run_spec } => {
                self.on_taken_over(incarnation, pid, started_at_ms, run_spec, now)
            }
            Event::Ended(ended) => self.on_ended(ended, now),
            Event::Leaving { incarnation } => {
                if self.is_live(incarnation) {
                    self.left_mono_ms.get_or_insert(now.mono_ms);
                }
                Vec::new()
            }
            Event::Probed { incarnation, kind, number, answer } => {
                self.on_probed(incarnation, kind, number, answer, now);
                Vec::new()
            }
            Event::Local { order, by } => self.on_local(order, by, now),
            Event::Needed(is_needed) => {
                self.place.is_needed = is_needed;
                Vec::new()
            }
            Event::Gate(gate) => {
                self.place.answer(gate, now);
                Vec::new()
            }
            Event::Timer => Vec::new(),
        };
        effects.extend(self.settle(now));
        self.place.end();
        effects
    }

    fn is_live(&self, incarnation: Incarnation) -> bool {
        self.live() == Some(incarnation)
    }

    fn on_started(&mut self, incarnation: Incarnation, pid: u32, started_at_ms: u64, now: Now) {
        if !self.is_live(incarnation) {
            return;
        }
        match self.fact {
            Fact::Starting => {
                self.fact = Fact::Up { pid, started_at_ms, since_mono_ms: now.mono_ms, healthy: false };
            }
            // A daemon has shown its main process.
            Fact::Up { since_mono_ms, healthy, .. } => {
                self.fact = Fact::Up { pid, started_at_ms, since_mono_ms, healthy };
            }
            Fact::Stopping { stopping, .. } => self.fact = Fact::Stopping { pid, started_at_ms, stopping },
            Fact::Down { .. } | Fact::Unclear => {}
        }
    }

    fn on_taken_over(
        &mut self,
        incarnation: Incarnation,
        pid: u32,
        started_at_ms: u64,
        run_spec: Option<RunSpec>,
        now: Now,
    ) -> Vec<Effect> {
        if self.fact != Fact::Unclear || !self.is_live(incarnation) {
            return Vec::new();
        }
        self.live_spec = run_spec;
        let ran_ms = now.wall_ms.saturating_sub(started_at_ms);
        let healthy = ran_ms >= self.healthy_after_ms();
        self.fact = Fact::Up { pid, started_at_ms, since_mono_ms: now.mono_ms.saturating_sub(ran_ms), healthy };
        self.begin_checks_again(ran_ms);
        // An end that was asked for before the slave's restart is asked for again.
        match self.record.live {
            Some(live) if live.stopping => self.stop(Why::Operator, now),
            Some(_) if self.record.unhealthy.is_some() => self.stop(Why::Unhealthy, now),
            // Any other is decided on anew, with a grace of its own.
            Some(live) => {
                self.record.live = Some(Live { stop_mono_ms: None, ..live });
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn on_ended(&mut self, ended: Ended, now: Now) -> Vec<Effect> {
        if !self.is_live(ended.incarnation) {
            return Vec::new();
        }
        let stopping = match self.fact {
            Fact::Stopping { stopping, .. } => Some(stopping),
            Fact::Unclear | Fact::Starting | Fact::Up { .. } | Fact::Down { .. } => None,
        };
        // What was asked to end and is gone when its slave comes back has ended as it was asked to.
        let asked_before = self.fact == Fact::Unclear && self.record.live.is_some_and(|live| live.stopping);
        let why = stopping.map(|stopping| stopping.why);
        let requested = asked_before || why.is_some_and(|why| why != Why::Unhealthy);
        let unhealthy = self.record.unhealthy.take().filter(|_| !requested);
        let killed = stopping.is_some_and(|stopping| stopping.killed);
        let first_word_kills = self.stop_spec().signal == Signal::KILL;
        // A hook after the end is no part of the stop.
        let gone_mono_ms = self.left_mono_ms.unwrap_or(now.mono_ms);
        let how = HowEnded {
            asked: match why {
                _ if !requested => Asked::Nobody,
                Some(Why::SpecChanged) => Asked::SpecChanged,
                Some(Why::Restart) => Asked::Restart,
                Some(Why::Operator | Why::Unhealthy) | None => Asked::Operator,
            },
            requested,
            locally: requested && self.record.local_stop.is_some(),
            killed,
            own_kill: killed || ((requested || unhealthy.is_some()) && first_word_kills),
            unhealthy: unhealthy.as_ref().map(|unhealthy| unhealthy.sentence.clone()),
            stop_ms: stopping.map(|stopping| gone_mono_ms.saturating_sub(stopping.since_mono_ms)),
        };
        let ended = Ended { status: how.status(&ended), ..ended };
        let generation = self.record.live.map_or(self.record.generation, |live| live.generation);
        note_exit(&mut self.record.exits, how.exit_record(&ended, generation));
        self.record.live = None;
        self.record.since_ms = now.wall_ms;
        let (outcome, cause) = match (requested, why) {
            (true, Some(Why::SpecChanged)) => (Outcome::Pending, Cause::SpecChanged),
            (true, Some(Why::Restart)) => (Outcome::Pending, Cause::Operator),
            (true, Some(Why::Operator) | None) if killed => (Outcome::Stopped, Cause::KilledAfterGrace),
            (true, Some(Why::Operator) | None) => (Outcome::Stopped, Cause::Operator),
            (false, _) | (true, Some(Why::Unhealthy)) => {
                let policy = self.restart_policy();
                let ran_ms = ended.ended_at_ms.saturating_sub(ended.started_at_ms);
                let failure = ended.start_failure.as_ref();
                let unhealthy = unhealthy.as_ref();
                restart::after_end(&mut self.record, &policy, ended.status, failure, unhealthy, ran_ms, now)
            }
        };
        self.record.outcome = outcome;
        self.record.cause = cause;
        self.live_spec = None;
        self.checks = Checks::default();
        self.left_mono_ms = None;
        self.fact = Fact::Down { due_mono_ms: restart::due(&self.record, now) };
        vec![Effect::Save]
    }

    /// Brings wish and fact together: the one place where something is begun.
    fn settle(&mut self, now: Now) -> Vec<Effect> {
        match (&self.wish, self.fact) {
            _ if self.left_mono_ms.is_some() => Vec::new(),
            (Wish::Unsaid, Fact::Down { .. } | Fact::Starting | Fact::Up { .. }) => self.settle_unsaid(now),
            (_, Fact::Unclear) => Vec::new(),
            (_, Fact::Stopping { .. }) => self.settle_stopping(now),
            (Wish::Gone, Fact::Down { .. }) => vec![Effect::Forget],
            (Wish::Gone, Fact::Up { .. } | Fact::Starting) => self.stop_in_order(now),
            (Wish::Like(item, _), Fact::Down { due_mono_ms }) => {
                let item = *item;
                self.settle_down(item, due_mono_ms, now)
            }
            (Wish::Like(item, _), Fact::Starting) if self.wanted(item) == Wanted::Stopped => self.stop_in_order(now),
            (Wish::Like(..), Fact::Starting) => Vec::new(),
            (Wish::Like(item, _), Fact::Up { .. }) => {
                let item = *item;
                self.settle_up(item, now)
            }
        }
    }

    /// Before the first word after a restart only time passes; restarts wait for the assignment on disk.
    fn settle_unsaid(&mut self, now: Now) -> Vec<Effect> {
        self.become_healthy(now)
    }

    fn settle_down(&mut self, item: Item, due_mono_ms: Option<u64>, now: Now) -> Vec<Effect> {
        let signal_at = item.signal.map_or(Revision::ZERO, |order| order.revision);
        let mut changed = signal_at > self.record.signal_at;
        self.record.signal_at = self.record.signal_at.max(signal_at);
        if self.wanted(&item) == Wanted::Stopped {
            changed |= self.stay_stopped(item, now);
            return if changed { vec![Effect::Save] } else { Vec::new() };
        }
        let retried = item.retry_at > self.record.retry_at;
        let ordered = item.restart_at > self.record.restart_at;
        let said = retried || ordered || item.spec != self.record.spec;
        let by_policy = match self.record.outcome {
            Outcome::Pending | Outcome::Stopped => false,
            Outcome::Backoff(_) | Outcome::Fatal(_) | Outcome::Exited => !said,
        };
        if by_policy && due_mono_ms.is_none_or(|due| now.mono_ms < due) {
            let wake = due_mono_ms.map(Effect::WakeAt);
            return changed.then_some(Effect::Save).into_iter().chain(wake).collect();
        }
        let spec = match &self.wish {
            Wish::Like(_, Some(spec)) => Some(WishSpec::clone(spec)),
            Wish::Like(_, None) | Wish::Unsaid | Wish::Gone => None,
        };
        let Some(spec) = spec.filter(|_| self.may_start(by_policy)) else {
            return if changed { vec![Effect::Save] } else { Vec::new() };
        };
        // A start after a stop is an operator's word as well.
        if said || self.record.outcome == Outcome::Stopped {
            self.forget_restarts();
        }
        self.start(item, spec, now)
    }

    /// Notes that it is stopped as wanted. `true` when that is news.
    fn stay_stopped(&mut self, item: Item, now: Now) -> bool {
        // The generation may be another one of the same spec, which has changed and changed back.
        let noted =
            |record: &Record| (record.outcome, record.restart_at, record.retry_at, record.spec, record.generation);
        let before = noted(&self.record);
        if self.record.outcome != Outcome::Stopped {
            self.record.outcome = Outcome::Stopped;
            self.record.cause = Cause::Operator;
            self.record.since_ms = now.wall_ms;
        }
        self.record.restart_at = self.record.restart_at.max(item.restart_at);
        self.record.retry_at = self.record.retry_at.max(item.retry_at);
        self.record.spec = item.spec;
        self.record.generation = item.generation;
        self.fact = Fact::Down { due_mono_ms: None };
        before != noted(&self.record)
    }

    fn start(&mut self, item: Item, spec: WishSpec, now: Now) -> Vec<Effect> {
        let incarnation = self.record.incarnation.next();
        self.record.incarnation = incarnation;
        self.record.spec = item.spec;
        self.record.generation = item.generation;
        self.record.restart_at = self.record.restart_at.max(item.restart_at);
        self.record.retry_at = self.record.retry_at.max(item.retry_at);
        self.record.since_ms = now.wall_ms;
        self.record.live = Some(Live {
            incarnation,
            generation: item.generation,
            spec: item.spec,
            launch: spec.launch,
            stopping: false,
            stop_mono_ms: None,
        });
        self.live_spec = Some(spec.run_spec.clone());
        self.fact = Fact::Starting;
        vec![
            Effect::Save,
            Effect::Spawn { incarnation, generation: item.generation, run_spec: Box::new(spec.run_spec) },
        ]
    }

    fn settle_up(&mut self, item: Item, now: Now) -> Vec<Effect> {
        if self.wanted(&item) == Wanted::Stopped {
            return self.stop_in_order(now);
        }
        let Some(live) = self.record.live else { return Vec::new() };
        // What cannot be started again yet is not stopped: without its spec it goes on as it is.
        if let Wish::Like(_, Some(spec)) = &self.wish {
            if spec.launch != live.launch {
                return self.stop(Why::SpecChanged, now);
            }
            self.live_spec = Some(spec.run_spec.clone());
            if item.restart_at > self.record.restart_at {
                return self.stop(Why::Restart, now);
            }
        }
        let mut effects = self.adopt_policy(item, live);
        effects.extend(self.send_signal(item, live.incarnation));
        effects.extend(self.become_healthy(now));
        effects.extend(self.check(now));
        effects
    }

    /// A spec that differs only in its policies is taken over by the running process; a retry only clears counters.
    fn adopt_policy(&mut self, item: Item, live: Live) -> Vec<Effect> {
        let known = matches!(&self.wish, Wish::Like(_, Some(_)));
        let other_policy = known && (live.spec, live.generation) != (item.spec, item.generation);
        let retried = item.retry_at > self.record.retry_at;
        if other_policy {
            self.record.live = Some(Live { spec: item.spec, generation: item.generation, ..live });
            self.record.spec = item.spec;
            self.record.generation = item.generation;
        }
        if retried {
            self.record.retry_at = item.retry_at;
            self.forget_restarts();
        }
        if other_policy || retried { vec![Effect::Save] } else { Vec::new() }
    }

    /// Saved before it is sent: a signal may be lost with the slave, but never sent twice.
    fn send_signal(&mut self, item: Item, incarnation: Incarnation) -> Vec<Effect> {
        let Some(order) = item.signal.filter(|order| order.revision > self.record.signal_at) else {
            return Vec::new();
        };
        self.record.signal_at = order.revision;
        let reload = self.live_spec.as_ref().and_then(|spec| spec.spec().reload.as_ref());
        let signal = match (order.reload, reload) {
            (false, _) => order.signal,
            (true, Some(Reload::Signal(signal))) => *signal,
            (true, Some(Reload::Exec(_))) => return vec![Effect::Save, Effect::Reload { incarnation }],
            (true, None) => return vec![Effect::Save, Effect::Tell("not reloaded: what runs has no reload".into())],
        };
        let scope = minder_model::StopScope::Main;
        vec![Effect::Save, Effect::Signal { incarnation, signal, scope, then_continue: false }]
    }

    fn become_healthy(&mut self, now: Now) -> Vec<Effect> {
        let healthy_after_ms = self.healthy_after_ms();
        let Fact::Up { since_mono_ms, healthy, .. } = &mut self.fact else { return Vec::new() };
        if *healthy {
            return Vec::new();
        }
        let at = *since_mono_ms + healthy_after_ms;
        if now.mono_ms < at {
            return vec![Effect::WakeAt(at)];
        }
        *healthy = true;
        self.record.since_ms = now.wall_ms;
        self.record.cause = Cause::Wanted;
        vec![Effect::Save]
    }

    fn forget_restarts(&mut self) {
        self.record.restarts = 0;
        self.record.window.clear();
        self.record.delay_ms = 0;
        self.record.slow = false;
    }

    fn healthy_after_ms(&self) -> u64 {
        self.live_spec.as_ref().map_or(0, |spec| spec.spec().start.healthy_after.0)
    }

    fn restart_policy(&self) -> Restart {
        let wished = match &self.wish {
            Wish::Like(_, Some(spec)) => Some(&spec.run_spec),
            Wish::Like(_, None) | Wish::Unsaid | Wish::Gone => None,
        };
        let spec = self.live_spec.as_ref().or(wished);
        spec.map_or_else(Restart::default, |spec| spec.spec().restart.clone())
    }

    /// How the instance looks now.
    pub fn status(&self, now: Now) -> InstanceStatus {
        let (pid, started_at_ms) = match self.fact {
            _ if self.left_mono_ms.is_some() => (0, 0),
            Fact::Up { pid, started_at_ms, .. } | Fact::Stopping { pid, started_at_ms, .. } => (pid, started_at_ms),
            Fact::Down { .. } | Fact::Unclear | Fact::Starting => (0, 0),
        };
        let (generation, spec) = match self.record.live {
            Some(live) => (live.generation, live.spec),
            None => (self.record.generation, self.record.spec),
        };
        InstanceStatus {
            key: self.record.key.clone(),
            phase: self.phase(),
            cause: self.cause(),
            since_ms: self.since_ms(),
            generation,
            spec,
            incarnation: self.record.incarnation,
            pid,
            started_at_ms,
            restarts: self.record.restarts,
            restarts_in_window: restart::in_window(&self.record, &self.restart_policy(), now.wall_ms),
            next_start_ms: match (self.fact, self.record.outcome) {
                _ if self.waits_to_start() => 0,
                (Fact::Down { .. }, Outcome::Backoff(at) | Outcome::Fatal(at)) => at,
                _ => 0,
            },
            restart_at: self.record.restart_at,
            retry_at: self.record.retry_at,
            signal_at: self.record.signal_at,
            exits: self.record.exits.clone(),
            health: self.checked(ProbeKind::Health),
            ready: self.checked(ProbeKind::Ready),
        }
    }

    fn phase(&self) -> Phase {
        match (self.fact, self.record.outcome) {
            _ if self.waits_to_start() => Phase::Pending,
            (Fact::Unclear, _) => Phase::Unknown,
            (Fact::Starting | Fact::Up { .. }, _) if self.left_mono_ms.is_some() => Phase::Stopping,
            (Fact::Starting | Fact::Up { healthy: false, .. }, _) => Phase::Starting,
            (Fact::Up { healthy: true, .. }, _) => self.running_phase(),
            (Fact::Stopping { .. }, _) => Phase::Stopping,
            (Fact::Down { .. }, Outcome::Pending) => Phase::Pending,
            (Fact::Down { .. }, Outcome::Stopped) => Phase::Stopped,
            (Fact::Down { .. }, Outcome::Backoff(_)) => Phase::Backoff,
            (Fact::Down { .. }, Outcome::Fatal(_)) => Phase::Fatal,
            (Fact::Down { .. }, Outcome::Exited) => Phase::Exited,
        }
    }

    fn cause(&self) -> Cause {
        if let Some((sentence, _)) = self.place.waits() {
            return Cause::Waiting(sentence.clone());
        }
        match (self.fact, &self.record.local_stop) {
            (Fact::Down { .. } | Fact::Stopping { .. }, Some(stop)) => return Cause::StoppedLocally(stop.clone()),
            (Fact::Unclear | Fact::Starting | Fact::Up { .. }, _) | (_, None) => {}
        }
        match self.fact {
            Fact::Down { .. } if self.missing_spec().is_some() => Cause::SpecMissing,
            Fact::Stopping { stopping: Stopping { killed: true, .. }, .. } => Cause::KilledAfterGrace,
            Fact::Stopping { stopping: Stopping { why: Why::SpecChanged, .. }, .. } => Cause::SpecChanged,
            Fact::Stopping { stopping: Stopping { why: Why::Unhealthy, .. }, .. } => {
                self.record.unhealthy.as_ref().map_or(Cause::Wanted, |why| Cause::Unhealthy(why.sentence.clone()))
            }
            Fact::Stopping { .. } => Cause::Operator,
            Fact::Up { healthy: true, .. } => self.running_cause(),
            Fact::Down { .. } | Fact::Unclear | Fact::Starting | Fact::Up { .. } => self.record.cause.clone(),
        }
    }
}
