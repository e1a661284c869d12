//! A pretended host: processes that start, fail, end by themselves, ignore signals; a slave that is killed and restored
//! at any point. Whatever happens, the promises hold.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use minder_model::{
    ExitStatus, Generation, HostName, Incarnation, InstanceKey, Item, LastOutput, Millis, Phase, ProcessName, Restart,
    RestartPolicy, Revision, RunSpec, Signal, SignalOrder, Spec, StartFailure, Wanted,
};
use minder_supervisor::{Effect, Ended, Event, Now, Record, Supervisor};
use proptest::prelude::*;

/// What a pretended process does when it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    Ends,
    Ignores,
}

#[derive(Debug, Clone, Copy)]
struct Process {
    started_at_ms: u64,
    told_slave: bool,
    ended: Option<ExitStatus>,
}

struct World {
    supervisor: Option<Supervisor>,
    disk: Record,
    processes: BTreeMap<Incarnation, Process>,
    wish: Option<(Item, RunSpec)>,
    revision: u64,
    mono_ms: u64,
    manners: Manners,
    start_fails: bool,
    policy_starts: Vec<u64>,
    signals: Vec<(Incarnation, Signal)>,
    spawned: u64,
    wakes: std::collections::BTreeSet<u64>,
    deaf_to_kills: u32,
}

fn spec(arg: u64, restart: &Restart, grace_ms: u64) -> RunSpec {
    let host = HostName::new("h").unwrap();
    let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app");
    spec.args = vec![arg.to_string()];
    spec.restart = restart.clone();
    spec.stop.grace = Millis(grace_ms);
    spec.start.healthy_after = Millis(500);
    spec.resolve(&host)
}

impl World {
    fn new() -> Self {
        let disk = Record::new(InstanceKey::parse("app").unwrap(), 0);
        Self {
            supervisor: Some(Supervisor::new(disk.clone())),
            disk,
            processes: BTreeMap::new(),
            wish: None,
            revision: 0,
            mono_ms: 0,
            manners: Manners::Ends,
            start_fails: false,
            policy_starts: vec![],
            signals: vec![],
            spawned: 0,
            wakes: std::collections::BTreeSet::new(),
            deaf_to_kills: 0,
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_000_000 + self.mono_ms, random: self.mono_ms.wrapping_mul(7_919) }
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        let Some(supervisor) = &mut self.supervisor else { return };
        let effects = supervisor.step(event, now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut saved = true;
        for effect in effects {
            match effect {
                Effect::Save => {
                    self.disk = self.supervisor.as_ref().unwrap().record().clone();
                    saved = true;
                }
                Effect::Spawn { incarnation, .. } => {
                    assert!(
                        saved && self.disk.live.is_some_and(|live| live.incarnation == incarnation),
                        "intent first"
                    );
                    let living: Vec<_> = self.processes.iter().filter(|(_, process)| process.ended.is_none()).collect();
                    assert!(living.is_empty(), "a second one beside {living:?}");
                    assert!(!self.processes.contains_key(&incarnation), "a number used twice");
                    self.spawned += 1;
                    if self.supervisor.as_ref().unwrap().record().restarts > 0 {
                        self.policy_starts.push(self.mono_ms);
                    }
                    let ended = self.start_fails.then_some(ExitStatus::Unknown);
                    self.processes
                        .insert(incarnation, Process { started_at_ms: self.now().wall_ms, told_slave: false, ended });
                }
                Effect::Signal { incarnation, signal, then_continue, .. } => {
                    self.signals.push((incarnation, signal));
                    if then_continue && self.manners == Manners::Ends {
                        self.end(incarnation, ExitStatus::Signal(signal, false));
                    }
                }
                Effect::Probe { .. } => unreachable!("nothing here has checks"),
                Effect::KillTree { .. } if self.deaf_to_kills > 0 => self.deaf_to_kills -= 1,
                Effect::KillTree { incarnation } => self.end(incarnation, ExitStatus::Signal(Signal::KILL, false)),
                Effect::WakeAt(at) => {
                    assert!(at >= self.mono_ms, "a wake-up in the past");
                    self.wakes.insert(at);
                }
                Effect::Tell(_) | Effect::Reload { .. } => {}
                Effect::Forget => assert!(self.processes.values().all(|process| process.ended.is_some())),
            }
        }
    }

    fn end(&mut self, incarnation: Incarnation, status: ExitStatus) {
        if let Some(process) = self.processes.get_mut(&incarnation) {
            process.ended.get_or_insert(status);
        }
    }

    /// Tells the slave what it does not know yet about its incarnations.
    fn tell(&mut self) {
        for (incarnation, process) in self.processes.clone() {
            let event = match process.ended {
                Some(status) => {
                    self.processes.remove(&incarnation);
                    // Kept as ended so that its number stays used.
                    self.processes.insert(incarnation, Process { told_slave: true, ..process });
                    Event::Ended(Ended {
                        incarnation,
                        status,
                        start_failure: (status == ExitStatus::Unknown).then(|| StartFailure {
                            step: "exec".into(),
                            errno: 2,
                            message: "no".into(),
                        }),
                        started_at_ms: process.started_at_ms,
                        ended_at_ms: self.now().wall_ms,
                        cpu_ms: 0,
                        memory_peak_bytes: 0,
                        oom_kills: 0,
                        last_output: LastOutput::default(),
                    })
                }
                None if !process.told_slave => {
                    self.processes.get_mut(&incarnation).unwrap().told_slave = true;
                    Event::Started { incarnation, pid: 1 + incarnation.0 as u32, started_at_ms: process.started_at_ms }
                }
                None => continue,
            };
            self.step(event);
        }
    }

    /// The slave dies and comes back with what is on disk.
    fn restart_slave(&mut self) {
        let now = self.now();
        self.wakes.clear();
        let supervisor = Supervisor::restore(self.disk.clone(), now);
        let live = supervisor.live();
        self.supervisor = Some(supervisor);
        if let Some(incarnation) = live {
            let event = match self.processes.get(&incarnation) {
                Some(Process { ended: None, started_at_ms, .. }) => Event::TakenOver {
                    incarnation,
                    pid: 1 + incarnation.0 as u32,
                    started_at_ms: *started_at_ms,
                    run_spec: self.wish.as_ref().map(|(_, spec)| spec.clone()),
                },
                Some(_) | None => Event::Ended(Ended {
                    incarnation,
                    status: ExitStatus::Unknown,
                    start_failure: None,
                    started_at_ms: now.wall_ms,
                    ended_at_ms: now.wall_ms,
                    cpu_ms: 0,
                    memory_peak_bytes: 0,
                    oom_kills: 0,
                    last_output: LastOutput::default(),
                }),
            };
            if let Some(process) = self.processes.get_mut(&incarnation) {
                process.told_slave = true;
            }
            self.step(event);
        }
        self.assign();
    }

    fn assign(&mut self) {
        match self.wish.clone() {
            Some((item, run_spec)) => self.step(Event::Assigned { item, run_spec: Some(run_spec) }),
            None => self.step(Event::Removed),
        }
    }

    fn want(&mut self, change: impl FnOnce(&mut Item, u64), run_spec: RunSpec) {
        self.revision += 1;
        let mut item = self.wish.as_ref().map_or(
            Item {
                generation: Generation(1),
                spec: run_spec.digest(),
                wanted: Wanted::Running,
                restart_at: Revision::ZERO,
                retry_at: Revision::ZERO,
                signal: None,
                start_at: Revision::ZERO,
            },
            |(item, _)| *item,
        );
        if item.spec != run_spec.digest() {
            item.spec = run_spec.digest();
            item.generation = item.generation.next();
        }
        change(&mut item, self.revision);
        self.wish = Some((item, run_spec));
        self.assign();
    }

    fn phase(&self) -> Phase {
        self.supervisor.as_ref().unwrap().status(self.now()).phase
    }

    fn living(&self) -> usize {
        self.processes.values().filter(|process| process.ended.is_none()).count()
    }

    fn pass(&mut self, ms: u64) {
        // In small steps. No timer comes but those that were asked for.
        for _ in 0..ms / 50 {
            self.mono_ms += 50;
            let later = self.wakes.split_off(&(self.mono_ms + 1));
            if !std::mem::replace(&mut self.wakes, later).is_empty() {
                self.step(Event::Timer);
            }
            self.tell();
        }
    }
}

fn restart() -> Restart {
    Restart { jitter_percent: 0, ..Restart::default() }
}

#[test]
fn a_process_starts_runs_and_stops() {
    let mut world = World::new();
    world.want(|_, _| (), spec(1, &restart(), 10_000));
    assert_eq!(world.phase(), Phase::Starting);
    world.tell();
    world.pass(600);
    assert_eq!((world.phase(), world.living()), (Phase::Running, 1));
    world.want(|item, _| item.wanted = Wanted::Stopped, spec(1, &restart(), 10_000));
    world.tell();
    assert_eq!((world.phase(), world.living()), (Phase::Stopped, 0));
    world.pass(60_000);
    assert_eq!(world.spawned, 1);
}

#[test]
fn what_ignores_its_signal_is_killed_after_its_grace() {
    let mut world = World::new();
    world.manners = Manners::Ignores;
    world.want(|_, _| (), spec(1, &restart(), 3_000));
    world.tell();
    world.want(|item, _| item.wanted = Wanted::Stopped, spec(1, &restart(), 3_000));
    world.pass(2_900);
    assert_eq!((world.phase(), world.living()), (Phase::Stopping, 1));
    world.pass(200);
    assert_eq!((world.phase(), world.living()), (Phase::Stopped, 0));
    let exits = world.supervisor.as_ref().unwrap().status(world.now()).exits;
    assert!(exits[0].killed_after_grace && exits[0].requested);
}

#[test]
fn a_kill_that_got_lost_is_repeated() {
    let mut world = World::new();
    (world.manners, world.deaf_to_kills) = (Manners::Ignores, 2);
    let run_spec = spec(1, &restart(), 1_000);
    world.want(|_, _| (), run_spec.clone());
    world.tell();
    world.pass(5_000);
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec);
    world.pass(10_900);
    assert_eq!(world.phase(), Phase::Stopping);
    world.pass(200);
    assert_eq!((world.phase(), world.living()), (Phase::Stopped, 0));
}

#[test]
fn a_stop_before_the_start_has_answered_asks_when_it_answers_and_kills_when_it_never_does() {
    let run_spec = spec(1, &restart(), 1_000);
    let mut world = World::new();
    world.want(|_, _| (), run_spec.clone());
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec.clone());
    assert_eq!((world.phase(), world.signals.len()), (Phase::Stopping, 0));
    world.tell();
    assert_eq!((world.phase(), world.signals.len()), (Phase::Stopping, 1));
    world.tell();
    assert_eq!(world.phase(), Phase::Stopped);

    let mut world = World::new();
    world.want(|_, _| (), run_spec.clone());
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec);
    world.processes.values_mut().for_each(|process| process.told_slave = true);
    world.pass(1_100);
    assert_eq!((world.phase(), world.signals.len()), (Phase::Stopped, 0));
}

#[test]
fn killing_as_the_way_to_stop_is_not_called_a_missed_grace() {
    let host = HostName::new("h").unwrap();
    let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app");
    spec.stop.signal = Signal::KILL;
    let run_spec = spec.resolve(&host);
    let mut world = World::new();
    world.want(|_, _| (), run_spec.clone());
    world.tell();
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec);
    world.tell();
    let status = world.supervisor.as_ref().unwrap().status(world.now());
    assert_eq!((status.phase, status.exits[0].killed_after_grace), (Phase::Stopped, false));
}

#[test]
fn nothing_is_stopped_for_a_restart_that_lacks_its_spec() {
    let mut world = World::new();
    let run_spec = spec(1, &restart(), 100);
    world.want(|_, _| (), run_spec.clone());
    world.tell();
    let (item, _) = world.wish.clone().unwrap();
    let other = spec(2, &restart(), 100);
    let ordered = Item { spec: other.digest(), restart_at: Revision(9), ..item };
    world.step(Event::Assigned { item: ordered, run_spec: None });
    world.tell();
    assert_eq!((world.living(), world.supervisor.as_ref().unwrap().missing_spec()), (1, Some(other.digest())));
    world.step(Event::Assigned { item: ordered, run_spec: Some(other) });
    world.tell();
    world.tell();
    assert_eq!((world.living(), world.spawned), (1, 2));
}

#[test]
fn a_wall_clock_that_is_set_back_makes_no_wait_longer() {
    let mut world = World::new();
    world.start_fails = true;
    world.want(|_, _| (), spec(1, &restart(), 100));
    world.tell();
    assert_eq!(world.phase(), Phase::Backoff);
    let (item, run_spec) = world.wish.clone().unwrap();
    let a_year_ago = Now { mono_ms: 7_000, wall_ms: 1, random: 0 };
    let mut supervisor = Supervisor::restore(world.disk.clone(), a_year_ago);
    let effects = supervisor.step(Event::Assigned { item, run_spec: Some(run_spec) }, a_year_ago);
    assert_eq!(effects, [Effect::WakeAt(8_000)]);
}

#[test]
fn after_the_limit_there_is_one_try_at_a_time() {
    let policy = Restart { limit: 3, delay: Millis(100), factor: 100, slow_retry: Some(Millis(600_000)), ..restart() };
    let mut world = World::new();
    world.start_fails = true;
    let run_spec = spec(1, &policy, 100);
    world.want(|_, _| (), run_spec.clone());
    world.pass(60_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Fatal, 4));
    for tries in 1..=5 {
        world.pass(600_000);
        world.restart_slave();
        assert_eq!((world.phase(), world.spawned), (Phase::Fatal, 4 + tries));
    }
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec.clone());
    world.want(|item, _| item.wanted = Wanted::Running, run_spec);
    world.pass(60_000);
    assert_eq!(world.spawned, 4 + 5 + 4, "a stop and a start begin anew");
}

#[test]
fn a_changed_policy_is_adopted_and_a_changed_launch_restarts() {
    let mut world = World::new();
    world.want(|_, _| (), spec(1, &restart(), 10_000));
    world.tell();
    world.pass(600);
    world.want(|_, _| (), spec(1, &restart(), 77));
    world.tell();
    assert_eq!(world.spawned, 1);
    let status = world.supervisor.as_ref().unwrap().status(world.now());
    assert_eq!((status.generation, status.spec), (Generation(2), spec(1, &restart(), 77).digest()));
    world.want(|_, _| (), spec(2, &restart(), 77));
    world.tell();
    world.tell();
    assert_eq!((world.spawned, world.living()), (2, 1));
}

#[test]
fn orders_restart_retry_and_signal_once() {
    let mut world = World::new();
    let run_spec = spec(1, &restart(), 100);
    world.want(|_, _| (), run_spec.clone());
    world.tell();
    world.pass(600);
    world.want(
        |item, at| item.signal = Some(SignalOrder { revision: Revision(at), signal: Signal::HUP, reload: false }),
        run_spec.clone(),
    );
    world.restart_slave();
    assert_eq!(world.signals, [(Incarnation(1), Signal::HUP)]);
    world.want(|item, at| item.restart_at = Revision(at), run_spec.clone());
    world.tell();
    world.tell();
    world.restart_slave();
    assert_eq!((world.spawned, world.living()), (2, 1));
    assert_eq!(world.supervisor.as_ref().unwrap().record().restarts, 0, "an order is no restart by policy");
}

#[test]
fn a_crash_loop_ends_in_fatal_and_retry_begins_anew() {
    let mut world = World::new();
    let policy = Restart { limit: 3, delay: Millis(100), factor: 100, slow_retry: None, ..restart() };
    let run_spec = spec(1, &policy, 100);
    world.start_fails = true;
    world.want(|_, _| (), run_spec.clone());
    world.pass(60_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Fatal, 4));
    world.restart_slave();
    world.pass(60_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Fatal, 4), "not forgotten over a restart of the slave");
    world.start_fails = false;
    world.want(|item, at| item.retry_at = Revision(at), run_spec);
    world.pass(1_000);
    assert_eq!(world.phase(), Phase::Running);
}

#[test]
fn a_stop_during_the_wait_sticks_and_removal_forgets() {
    let mut world = World::new();
    let run_spec = spec(1, &restart(), 100);
    world.start_fails = true;
    world.want(|_, _| (), run_spec.clone());
    world.tell();
    assert_eq!(world.phase(), Phase::Backoff);
    world.want(|item, _| item.wanted = Wanted::Stopped, run_spec);
    world.pass(120_000);
    assert_eq!((world.phase(), world.spawned), (Phase::Stopped, 1));
    world.wish = None;
    let now = world.now();
    assert_eq!(world.supervisor.as_mut().unwrap().step(Event::Removed, now), [Effect::Forget]);
}

#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Tell,
    Crash(u8),
    RestartSlave,
    Want(bool, u64, bool),
    Restart,
    Retry,
    Signal,
    Remove,
    Manners(bool),
    StartFails(bool),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (50_u64..5_000).prop_map(Act::Pass),
        4 => Just(Act::Tell),
        3 => any::<u8>().prop_map(Act::Crash),
        3 => Just(Act::RestartSlave),
        3 => (any::<bool>(), 0..3_u64, any::<bool>()).prop_map(|(run, arg, patient)| Act::Want(run, arg, patient)),
        1 => Just(Act::Restart),
        1 => Just(Act::Retry),
        1 => Just(Act::Signal),
        1 => Just(Act::Remove),
        1 => any::<bool>().prop_map(Act::Manners),
        1 => any::<bool>().prop_map(Act::StartFails),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// At most one lives, stops stick, the limit holds, and once the trouble is over the wish is met.
    #[test]
    fn promises_hold_in_any_world(script in prop::collection::vec(acts(), 1..80)) {
        let mut world = World::new();
        let policy = Restart { policy: RestartPolicy::Always, limit: 4, window: Some(Millis(20_000)), delay: Millis(200), ..restart() };
        let mut current = spec(0, &policy, 500);
        for act in script {
            match act {
                Act::Pass(ms) => world.pass(ms),
                Act::Tell => world.tell(),
                Act::Crash(code) => {
                    let living: Vec<_> = world.processes.iter().filter(|(_, process)| process.ended.is_none()).map(|(at, _)| *at).collect();
                    living.into_iter().for_each(|incarnation| world.end(incarnation, ExitStatus::Code(code)));
                }
                Act::RestartSlave => world.restart_slave(),
                Act::Want(run, arg, patient) => {
                    current = spec(arg, &policy, if patient { 3_000 } else { 500 });
                    let wanted = if run { Wanted::Running } else { Wanted::Stopped };
                    world.want(|item, _| item.wanted = wanted, current.clone());
                }
                Act::Restart if world.wish.is_some() => world.want(|item, at| item.restart_at = Revision(at), current.clone()),
                Act::Retry if world.wish.is_some() => world.want(|item, at| item.retry_at = Revision(at), current.clone()),
                Act::Signal if world.wish.is_some() => world.want(|item, at| item.signal = Some(SignalOrder { revision: Revision(at), signal: Signal::HUP, reload: false }), current.clone()),
                Act::Restart | Act::Retry | Act::Signal => {}
                Act::Remove => {
                    world.wish = None;
                    world.assign();
                }
                Act::Manners(ends) => world.manners = if ends { Manners::Ends } else { Manners::Ignores },
                Act::StartFails(fails) => world.start_fails = fails,
            }
            prop_assert!(world.living() <= 1);
            for (at, begin) in world.policy_starts.iter().enumerate() {
                let within = world.policy_starts[at..].iter().filter(|later| *later - begin < 19_000).count();
                // Each operator's word clears the counters, so only scripts without one are held to the exact limit.
                prop_assert!(within <= 4 * (1 + world.revision as usize), "{:?}", world.policy_starts);
            }
        }
        // Heal: nothing fails any more, and the last wish is met within a bound.
        world.start_fails = false;
        world.manners = Manners::Ends;
        world.restart_slave();
        world.tell();
        if world.wish.is_some() {
            world.want(|item, at| item.retry_at = Revision(at), current);
        }
        world.pass(10_000);
        match world.wish {
            Some((item, _)) if item.wanted == Wanted::Running => prop_assert_eq!((world.phase(), world.living()), (Phase::Running, 1)),
            Some(_) => prop_assert_eq!((world.phase(), world.living()), (Phase::Stopped, 0)),
            None => prop_assert_eq!(world.living(), 0),
        }
    }
}
