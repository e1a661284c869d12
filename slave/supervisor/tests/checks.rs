//! A process that is asked how it is: what answers do to it, and what they never do, whatever comes between.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{
    Cause, ExitStatus, Generation, Health, HostName, Incarnation, InstanceKey, InstanceStatus, Item, LastOutput,
    Millis, OnUnhealthy, Phase, Probe, ProbeState, ProcessName, Ready, Reload, Restart, RestartPolicy, Revision,
    RunSpec, Signal, Spec, Wanted,
};
use minder_supervisor::{Effect, Ended, Event, Now, ProbeKind, Record, Supervisor};
use proptest::prelude::*;

/// A question takes this long to be answered.
const ANSWER_MS: u64 = 20;

struct World {
    supervisor: Supervisor,
    disk: Record,
    run_spec: RunSpec,
    item: Item,
    mono_ms: u64,
    /// The incarnation that lives, and since when.
    living: Option<(Incarnation, u64)>,
    ignores_signals: bool,
    well: bool,
    ready: bool,
    /// Questions under way: due, incarnation, kind, number, timeout.
    questions: Vec<(u64, Incarnation, ProbeKind, u64)>,
    asked: [u64; 2],
    spawned: u64,
    wake_ms: Option<u64>,
}

fn probe(port: u16) -> Probe {
    Probe::Tcp(port.to_string())
}

fn health(on_failure: OnUnhealthy) -> Health {
    Health { interval: Millis(1_000), start_grace: Millis(5_000), threshold: 3, on_failure, ..Health::new(probe(1)) }
}

fn spec(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app");
    spec.restart = Restart { jitter_percent: 0, ..Restart::default() };
    spec.start.healthy_after = Millis(200);
    change(&mut spec);
    spec
}

impl World {
    fn new(spec: Spec) -> Self {
        let disk = Record::new(InstanceKey::parse("app").unwrap(), 0);
        let run_spec = spec.resolve(&HostName::new("h").unwrap());
        let zero = Revision::ZERO;
        let mut world = Self {
            supervisor: Supervisor::new(disk.clone()),
            disk,
            item: Item {
                generation: Generation(1),
                spec: run_spec.digest(),
                wanted: Wanted::Running,
                restart_at: zero,
                retry_at: zero,
                signal: None,
                start_at: zero,
            },
            run_spec,
            mono_ms: 0,
            living: None,
            ignores_signals: false,
            well: true,
            ready: true,
            questions: Vec::new(),
            asked: [0, 0],
            spawned: 0,
            wake_ms: None,
        };
        world.assign();
        world
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_000_000 + self.mono_ms, random: 0 }
    }

    fn assign(&mut self) {
        self.step(Event::Assigned { item: self.item, run_spec: Some(self.run_spec.clone()) });
    }

    fn change(&mut self, change: impl FnOnce(&mut Spec)) {
        let mut spec = self.run_spec.spec().clone();
        change(&mut spec);
        self.run_spec = spec.resolve(&HostName::new("h").unwrap());
        self.item.spec = self.run_spec.digest();
        self.item.generation = self.item.generation.next();
        self.assign();
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        for effect in self.supervisor.step(event, now) {
            match effect {
                Effect::Save => self.disk = self.supervisor.record().clone(),
                Effect::Spawn { incarnation, .. } => {
                    assert!(self.living.is_none());
                    self.spawned += 1;
                    self.living = Some((incarnation, self.mono_ms));
                    let started_at_ms = self.now().wall_ms;
                    self.step(Event::Started { incarnation, pid: 1, started_at_ms });
                }
                Effect::Signal { .. } if self.ignores_signals => {}
                Effect::Signal { signal, .. } => self.end(ExitStatus::Signal(signal, false)),
                Effect::KillTree { .. } => self.end(ExitStatus::Signal(Signal::KILL, false)),
                Effect::Probe { incarnation, kind, number, probe, .. } => {
                    assert!(self.questions.iter().all(|(_, _, other, _)| *other != kind), "two questions at a time");
                    assert_eq!(self.living.map(|(living, _)| living), Some(incarnation), "nobody to ask");
                    let spec = self.run_spec.spec();
                    let wanted = match kind {
                        ProbeKind::Health => spec.health.as_ref().map(|health| &health.probe),
                        ProbeKind::Ready => spec.ready.as_ref().map(|ready| &ready.probe),
                    };
                    assert_eq!(wanted, Some(&probe));
                    self.asked[kind as usize] += 1;
                    self.questions.push((self.mono_ms + ANSWER_MS, incarnation, kind, number));
                }
                Effect::WakeAt(at) => self.wake_ms = Some(self.wake_ms.map_or(at, |before| before.min(at))),
                Effect::Tell(_) | Effect::Reload { .. } => {}
                Effect::Forget => unreachable!("it stays assigned"),
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> Option<Event> {
        let (incarnation, since) = self.living?;
        Some(Event::Ended(Ended {
            incarnation,
            status,
            start_failure: None,
            started_at_ms: 1_000_000 + since,
            ended_at_ms: self.now().wall_ms,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            oom_kills: 0,
            last_output: LastOutput::default(),
        }))
    }

    fn end(&mut self, status: ExitStatus) {
        if let Some(event) = self.ended(status) {
            self.living = None;
            self.questions.clear();
            self.step(event);
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.mono_ms += 10;
            let (due, later) = std::mem::take(&mut self.questions).into_iter().partition(|one| one.0 <= self.mono_ms);
            self.questions = later;
            let due: Vec<(u64, Incarnation, ProbeKind, u64)> = due;
            for (_, incarnation, kind, number) in due {
                let yes = if kind == ProbeKind::Health { self.well } else { self.ready };
                let answer = if yes { Ok(()) } else { Err("connection refused".into()) };
                self.step(Event::Probed { incarnation, kind, number, answer });
            }
            if self.wake_ms.is_some_and(|at| at <= self.mono_ms) {
                self.wake_ms = None;
                self.step(Event::Timer);
            }
        }
    }

    /// The slave dies; `ends` is how the process ends before the next slave looks.
    fn restart_slave(&mut self, ends: Option<ExitStatus>) {
        self.questions.clear();
        self.wake_ms = None;
        self.supervisor = Supervisor::restore(self.disk.clone(), self.now());
        // First what is wanted, then what became of it, as the host does.
        self.assign();
        if let Some(live) = self.supervisor.live() {
            let incarnation = live;
            match (ends, self.living) {
                (Some(status), Some(_)) => self.end(status),
                (None, Some((_, since))) => self.step(Event::TakenOver {
                    incarnation,
                    pid: 1,
                    started_at_ms: 1_000_000 + since,
                    run_spec: Some(self.run_spec.clone()),
                }),
                (_, None) => unreachable!("a live incarnation that does not live"),
            }
        }
    }

    fn status(&self) -> InstanceStatus {
        self.supervisor.status(self.now())
    }

    fn phase(&self) -> Phase {
        self.status().phase
    }
}

#[test]
fn an_unhealthy_process_is_restarted_by_its_policy_and_says_why() {
    let mut world = World::new(spec(|spec| spec.health = Some(health(OnUnhealthy::Restart))));
    world.pass(3_000);
    assert_eq!((world.phase(), world.status().health.unwrap().state), (Phase::Running, ProbeState::Passing));
    world.well = false;
    world.pass(1_500);
    assert_eq!((world.phase(), world.spawned, world.status().health.unwrap().failures), (Phase::Running, 1, 2));
    world.pass(1_000);
    let status = world.status();
    assert_eq!((status.phase, status.restarts_in_window), (Phase::Backoff, 1), "TERM is no clean end of this one");
    let sentence = "health check failed: connection refused (3 in a row)";
    assert_eq!(status.cause.to_string(), sentence);
    assert_eq!((status.exits[0].unhealthy.as_deref(), status.exits[0].requested), (Some(sentence), false));
    assert_eq!(status.health, None, "nobody is asked");
    world.well = true;
    world.pass(4_000);
    assert_eq!((world.phase(), world.spawned, world.status().cause), (Phase::Running, 2, Cause::Wanted));
}

#[test]
fn a_reload_is_what_the_running_spec_says_and_happens_once() {
    let usr1 = Signal::parse("USR1").unwrap();
    let scope = minder_model::StopScope::Main;
    let incarnation = Incarnation(1);
    let order = |at| Some(minder_model::SignalOrder { revision: Revision(at), signal: Signal::HUP, reload: true });
    for (reload, expected) in [
        (Some(Reload::Signal(usr1)), Effect::Signal { incarnation, signal: usr1, scope, then_continue: false }),
        (Some(Reload::Exec(vec!["x".into()])), Effect::Reload { incarnation }),
        (None, Effect::Tell("not reloaded: what runs has no reload".into())),
    ] {
        let mut world = World::new(spec(|spec| spec.reload = reload));
        world.pass(1_000);
        let item = Item { signal: order(7), ..world.item };
        let assigned = Event::Assigned { item, run_spec: Some(world.run_spec.clone()) };
        let effects = world.supervisor.step(assigned.clone(), world.now());
        assert_eq!(effects, [Effect::Save, expected]);
        assert!(world.supervisor.step(assigned, world.now()).is_empty());
    }
}

#[test]
fn failing_health_counts_in_the_restart_window_to_the_end() {
    let mut world = World::new(spec(|spec| {
        spec.health = Some(Health { start_grace: Millis(0), ..health(OnUnhealthy::Restart) });
        spec.restart = Restart { limit: 2, delay: Millis(100), slow_retry: None, ..spec.restart.clone() };
    }));
    world.well = false;
    world.pass(30_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Fatal, 3));
    assert!(world.status().cause.to_string().ends_with("(3 in a row); restart limit of 2 reached"));
}

#[test]
fn the_start_grace_holds_until_the_first_success() {
    let mut world = World::new(spec(|spec| spec.health = Some(health(OnUnhealthy::Restart))));
    world.well = false;
    world.pass(6_500);
    assert!(world.status().exits.is_empty(), "1.5 s after the grace");
    world.pass(3_000);
    assert_eq!(world.status().exits.len(), 1);
}

#[test]
fn marked_only_it_runs_on_and_is_shown() {
    let mut world = World::new(spec(|spec| spec.health = Some(health(OnUnhealthy::Mark))));
    world.pass(2_000);
    world.well = false;
    world.pass(60_000);
    let status = world.status();
    assert_eq!((status.phase, world.spawned, status.health.unwrap().state), (Phase::Running, 1, ProbeState::Failing));
    assert_eq!(status.cause.to_string(), "health check failed: connection refused (3 in a row)");
    world.well = true;
    world.pass(2_000);
    assert_eq!(world.status().cause, Cause::Wanted);
}

#[test]
fn readiness_comes_and_goes_and_restarts_nothing() {
    let mut world = World::new(spec(|spec| spec.ready = Some(Ready { threshold: 2, ..Ready::new(probe(2)) })));
    world.ready = false;
    world.pass(1_000);
    let status = world.status();
    assert_eq!((status.phase, status.cause.to_string().as_str()), (Phase::Running, "not ready: connection refused"));
    world.ready = true;
    world.pass(1_500);
    let since = world.status().since_ms;
    assert_eq!((world.phase(), since > 1_001_000), (Phase::Ready, true));
    world.ready = false;
    world.pass(9_000);
    assert_eq!(world.phase(), Phase::Ready, "one failure of two");
    world.pass(5_000);
    assert_eq!((world.phase(), world.status().since_ms > since), (Phase::Running, true));
    world.ready = true;
    world.pass(6_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Ready, 1));
    world.item.wanted = Wanted::Stopped;
    world.assign();
    assert_eq!((world.phase(), world.status().ready), (Phase::Stopped, None));
}

#[test]
fn a_start_that_is_not_ready_in_time_is_a_failed_one() {
    let mut world = World::new(spec(|spec| {
        spec.ready = Some(Ready::new(probe(2)));
        spec.start.timeout = Some(Millis(20_000));
        spec.restart.policy = RestartPolicy::Never;
    }));
    world.ready = false;
    world.pass(19_900);
    assert_eq!(world.phase(), Phase::Running);
    world.pass(200);
    let status = world.status();
    assert_eq!((status.phase, world.spawned), (Phase::Exited, 1));
    assert_eq!(status.cause.to_string(), "not ready within 20s: connection refused");
}

#[test]
fn what_was_ready_once_is_not_ended_for_its_start_after_a_restart_of_the_slave() {
    let mut world = World::new(spec(|spec| {
        spec.ready = Some(Ready::new(probe(2)));
        spec.start.timeout = Some(Millis(20_000));
    }));
    world.pass(30_000);
    assert_eq!(world.phase(), Phase::Ready);
    world.ready = false;
    world.restart_slave(None);
    world.pass(60_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Running, 1));
}

#[test]
fn an_end_for_health_goes_on_over_a_restart_of_the_slave() {
    let unhealthy = || {
        let mut world = World::new(spec(|spec| spec.health = Some(health(OnUnhealthy::Restart))));
        world.pass(1_000);
        (world.well, world.ignores_signals) = (false, true);
        world.pass(4_000);
        assert_eq!(world.phase(), Phase::Stopping);
        world
    };
    let mut ended_meanwhile = unhealthy();
    ended_meanwhile.restart_slave(Some(ExitStatus::Code(0)));
    assert_eq!(ended_meanwhile.phase(), Phase::Backoff, "exit 0, but not by its own will");
    assert!(ended_meanwhile.status().cause.to_string().starts_with("health check failed"));
    let mut ignoring = unhealthy();
    ignoring.restart_slave(None);
    assert_eq!(ignoring.phase(), Phase::Stopping);
    let again_at_ms = ignoring.mono_ms;
    while ignoring.phase() == Phase::Stopping {
        ignoring.pass(10);
        assert!(ignoring.mono_ms < again_at_ms + 10_000, "not with what is left of its grace");
    }
    assert_eq!(ignoring.phase(), Phase::Backoff);
    assert!(ignoring.status().exits[0].killed_after_grace);
}

#[test]
fn a_changed_check_is_adopted_and_answers_to_the_old_one_do_not_count() {
    let mut world = World::new(spec(|spec| spec.health = Some(health(OnUnhealthy::Restart))));
    world.pass(1_000);
    world.well = false;
    world.pass(1_500);
    while world.questions.is_empty() {
        world.pass(10);
    }
    let (_, incarnation, kind, number) = world.questions.pop().unwrap();
    world.change(|spec| spec.health.as_mut().unwrap().probe = probe(7));
    world.well = true;
    for _ in 0..5 {
        let answer = Err("too late".into());
        world.step(Event::Probed { incarnation, kind, number, answer });
    }
    world.pass(10_000);
    assert_eq!((world.spawned, world.status().health.unwrap().state), (1, ProbeState::Passing));
    world.change(|spec| spec.health = None);
    let asked = world.asked;
    world.pass(10_000);
    assert_eq!((world.asked, world.status().health, world.spawned), (asked, None, 1));
}

#[test]
fn while_its_last_hook_runs_it_is_stopping_and_nothing_is_done_to_it() {
    let mut world = World::new(spec(|spec| spec.ready = Some(Ready::new(probe(2)))));
    world.pass(1_000);
    let (incarnation, _) = world.living.unwrap();
    world.questions.clear();
    world.step(Event::Leaving { incarnation });
    let asked = world.asked;
    world.item.wanted = Wanted::Stopped;
    world.assign();
    world.pass(60_000);
    let status = world.status();
    assert_eq!((status.phase, status.pid, status.ready, world.asked), (Phase::Stopping, 0, None, asked));
    world.end(ExitStatus::Code(1));
    assert_eq!((world.phase(), world.status().exits[0].killed_after_grace), (Phase::Stopped, false));
}

#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Well(bool),
    Ready(bool),
    Deaf(bool),
    Crash(u8),
    RestartSlave(Option<u8>),
    Want(bool),
    Mark(bool),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (10_u64..8_000).prop_map(Act::Pass),
        2 => any::<bool>().prop_map(Act::Well),
        2 => any::<bool>().prop_map(Act::Ready),
        1 => any::<bool>().prop_map(Act::Deaf),
        1 => any::<u8>().prop_map(Act::Crash),
        2 => option(),
        1 => any::<bool>().prop_map(Act::Want),
        1 => any::<bool>().prop_map(Act::Mark),
    ]
}

fn option() -> impl Strategy<Value = Act> {
    prop::option::of(any::<u8>()).prop_map(Act::RestartSlave)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Questions never pile up, a stop sticks, and a process that is well again is READY within a bound.
    #[test]
    fn checks_disturb_no_promise(script in prop::collection::vec(acts(), 1..40)) {
        let mut world = World::new(spec(|spec| {
            spec.health = Some(health(OnUnhealthy::Restart));
            spec.ready = Some(Ready::new(probe(2)));
            spec.restart = Restart { policy: RestartPolicy::Always, limit: 0, delay_max: Millis(4_000), ..spec.restart.clone() };
        }));
        for act in script {
            match act {
                Act::Pass(ms) => world.pass(ms),
                Act::Well(well) => world.well = well,
                Act::Ready(ready) => world.ready = ready,
                Act::Deaf(deaf) => world.ignores_signals = deaf,
                Act::Crash(code) => world.end(ExitStatus::Code(code)),
                Act::RestartSlave(code) => world.restart_slave(code.map(ExitStatus::Code)),
                Act::Want(run) => {
                    world.item.wanted = if run { Wanted::Running } else { Wanted::Stopped };
                    world.assign();
                }
                Act::Mark(mark) => world.change(|spec| {
                    spec.health.as_mut().unwrap().on_failure = if mark { OnUnhealthy::Mark } else { OnUnhealthy::Restart };
                }),
            }
            let ready = world.status().ready.is_some_and(|ready| ready.state == ProbeState::Passing);
            prop_assert!(world.phase() != Phase::Ready || ready);
        }
        (world.well, world.ready, world.ignores_signals) = (true, true, false);
        let spawned = world.spawned;
        world.pass(40_000);
        let stopped = world.item.wanted == Wanted::Stopped;
        prop_assert_eq!(world.phase(), if stopped { Phase::Stopped } else { Phase::Ready });
        prop_assert!(world.spawned <= spawned + 2);
    }
}
