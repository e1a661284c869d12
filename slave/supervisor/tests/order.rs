//! Several supervisors of one host in their order: who starts and stops when, and what the others say they wait for.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use minder_model::{
    Cause, ExitStatus, Generation, HostName, Incarnation, InstanceKey, Item, LastOutput, Millis, Phase, Probe,
    ProcessName, Ready, Restart, RestartPolicy, Revision, RunSpec, Signal, Spec, Wanted,
};
use minder_supervisor::{Effect, Ended, Event, Gate, Now, ProbeKind, Record, Supervisor, keep_order};
use proptest::prelude::*;

struct Unit {
    supervisor: Supervisor,
    run_spec: RunSpec,
    item: Item,
}

/// A host whose programs do nothing by themselves.
#[derive(Default)]
struct Host {
    units: BTreeMap<InstanceKey, Unit>,
    /// Starts and ends as they happened.
    log: Vec<String>,
    /// They live on after their first signal.
    stubborn: BTreeSet<String>,
    /// Their ready checks fail.
    not_ready: BTreeSet<String>,
    mono_ms: u64,
}

fn key(name: &str) -> InstanceKey {
    InstanceKey::parse(name).unwrap()
}

fn spec(name: &str, after: &[&str], requires: &[&str]) -> Spec {
    let names = |names: &[&str]| names.iter().map(|name| ProcessName::new(*name).unwrap()).collect();
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), "/bin/app");
    spec.restart = Restart { jitter_percent: 0, ..Restart::default() };
    spec.start.healthy_after = Millis(100);
    Spec { after: names(after), requires: names(requires), ..spec }
}

impl Host {
    fn with(specs: &[Spec]) -> Self {
        let mut host = Self::default();
        specs.iter().for_each(|spec| host.add(&key(spec.name.as_str()), spec));
        host.turn();
        host
    }

    fn add(&mut self, key: &InstanceKey, spec: &Spec) {
        let run_spec = spec.resolve(&HostName::new("h").unwrap());
        let zero = Revision::ZERO;
        let item = Item {
            generation: Generation(1),
            spec: run_spec.digest(),
            wanted: Wanted::Running,
            restart_at: zero,
            retry_at: zero,
            signal: None,
            start_at: zero,
        };
        let supervisor = Supervisor::new(Record::new(key.clone(), 0));
        self.units.insert(key.clone(), Unit { supervisor, run_spec, item });
        self.assign(key);
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_000 + self.mono_ms, random: 0 }
    }

    fn assign(&mut self, key: &InstanceKey) {
        let unit = &self.units[key];
        let event = Event::Assigned { item: unit.item, run_spec: Some(unit.run_spec.clone()) };
        self.step(key, event);
    }

    /// Tells these at the same time.
    fn want(&mut self, names: &[&str], wanted: Wanted) {
        for name in names {
            self.units.get_mut(&key(name)).unwrap().item.wanted = wanted;
            self.assign(&key(name));
        }
        self.turn();
    }

    fn change(&mut self, changed: &Spec) {
        let key = key(changed.name.as_str());
        let unit = self.units.get_mut(&key).unwrap();
        unit.run_spec = changed.resolve(&HostName::new("h").unwrap());
        unit.item.spec = unit.run_spec.digest();
        self.assign(&key);
    }

    fn turn(&mut self) {
        for (key, event) in keep_order(self.units.values().map(|unit| unit.supervisor.standing())) {
            self.step(&key, event);
        }
    }

    fn step(&mut self, key: &InstanceKey, event: Event) {
        let now = self.now();
        let Some(unit) = self.units.get_mut(key) else { return };
        let alive = unit.supervisor.live().is_some() && !matches!(event, Event::Ended(_));
        for effect in unit.supervisor.step(event, now) {
            match effect {
                Effect::Spawn { incarnation, .. } => {
                    assert!(!alive);
                    self.log.push(format!("+{key}"));
                    self.step(key, Event::Started { incarnation, pid: 1, started_at_ms: now.wall_ms });
                }
                Effect::Signal { .. } if self.stubborn.contains(key.process.as_str()) => {}
                Effect::Signal { .. } => self.end(key, ExitStatus::Signal(Signal::TERM, false)),
                // The tree is told to die and does not: somebody holds it in the kernel.
                Effect::KillTree { .. } => self.log.push(format!("!{key}")),
                Effect::Probe { incarnation, kind, number, .. } => {
                    let ready = kind == ProbeKind::Ready && !self.not_ready.contains(key.process.as_str());
                    let answer = if ready { Ok(()) } else { Err(String::from("no")) };
                    self.step(key, Event::Probed { incarnation, kind, number, answer });
                }
                Effect::Forget => drop(self.units.remove(key)),
                Effect::Save | Effect::WakeAt(_) | Effect::Tell(_) | Effect::Reload { .. } => {}
            }
        }
    }

    fn end(&mut self, key: &InstanceKey, status: ExitStatus) {
        let Some(incarnation) = self.units[key].supervisor.live() else { return };
        self.log.push(format!("-{key}"));
        let ended = Ended {
            incarnation,
            status,
            start_failure: None,
            started_at_ms: 0,
            ended_at_ms: self.now().wall_ms,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            oom_kills: 0,
            last_output: LastOutput::default(),
        };
        self.step(key, Event::Ended(ended));
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.mono_ms += 50;
            for key in self.units.keys().cloned().collect::<Vec<_>>() {
                self.step(&key, Event::Timer);
            }
            self.turn();
        }
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }

    /// Its phase and its cause.
    fn seen(&self, name: &str) -> (Phase, String) {
        let status = self.units[&key(name)].supervisor.status(self.now());
        (status.phase, status.cause.to_string())
    }

    fn waits(&self, name: &str) -> String {
        match self.units[&key(name)].supervisor.status(self.now()).cause {
            Cause::Waiting(sentence) => sentence,
            _ => String::new(),
        }
    }
}

#[test]
fn starts_go_up_the_order_and_stops_go_down() {
    let chain = [spec("app", &["db"], &[]), spec("db", &[], &["net"]), spec("free", &[], &[]), spec("net", &[], &[])];
    let mut host = Host::with(&chain);
    assert_eq!(host.log(), "+free +net", "in parallel where free");
    assert_eq!(host.seen("app"), (Phase::Pending, "waits for db, which is not running yet".into()));
    host.pass(50);
    assert_eq!(host.log(), "", "net is not RUNNING yet");
    host.pass(300);
    assert_eq!(host.log(), "+db +app");
    host.pass(200);
    assert_eq!(host.seen("app"), (Phase::Running, String::new()));
    host.stubborn = ["app".into()].into();
    host.want(&["net", "db", "app"], Wanted::Stopped);
    assert_eq!(host.log(), "");
    assert_eq!(host.seen("db"), (Phase::Running, "stops after app, which comes after it and stops first".into()));
    host.end(&key("app"), ExitStatus::Code(0));
    host.turn();
    host.turn();
    assert_eq!((host.log().as_str(), host.seen("net").0), ("-app -db -net", Phase::Stopped));
    host.want(&["app", "db", "net"], Wanted::Running);
    assert_eq!(host.log(), "+net");
}

#[test]
fn what_an_order_waits_for_and_what_a_requirement_waits_for() {
    let stopped: fn(&mut Host) = |host| host.want(&["db"], Wanted::Stopped);
    let nothing: fn(&mut Host) = |_| {};
    let fails: fn(&mut Host) = |host| host.end(&key("db"), ExitStatus::Code(78));
    let crashes: fn(&mut Host) = |host| host.end(&key("db"), ExitStatus::Code(1));
    let ends: fn(&mut Host) = |host| host.end(&key("db"), ExitStatus::Code(0));
    for (what, first, order, requirement) in [
        ("starting", nothing, "not running yet", "not running yet"),
        ("stopped", stopped, "", "not wanted running"),
        ("fatal", fails, "", "given up"),
        ("in backoff", crashes, "not running yet", "not running yet"),
        ("exited", ends, "", "ended"),
    ] {
        for (app, expected) in [(spec("app", &["db"], &[]), order), (spec("app", &[], &["db"]), requirement)] {
            let mut db = spec("db", &[], &[]);
            db.restart.fatal_exit_codes = vec![78];
            let mut host = Host::with(&[db]);
            first(&mut host);
            host.add(&key("app"), &app);
            host.turn();
            assert_eq!(host.seen("app").0 == Phase::Pending, !expected.is_empty(), "{what} {:?}", host.seen("app"));
            assert!(host.waits("app").ends_with(expected), "{what}: {:?}", host.seen("app"));
        }
    }
    assert_eq!(Host::with(&[spec("app", &["db"], &[])]).seen("app").0, Phase::Starting, "nothing to wait for");
    let host = Host::with(&[spec("app", &[], &["db"])]);
    assert_eq!(host.waits("app"), "waits for db, which is not assigned to this host");
}

#[test]
fn a_process_is_there_when_it_is_ready_with_all_of_its_instances() {
    let mut db = spec("db", &[], &[]);
    db.ready = Some(Ready::new(Probe::Tcp("1".into())));
    let mut host = Host { not_ready: ["db".into()].into(), ..Host::default() };
    host.add(&key("db"), &db);
    host.add(&key("db:2"), &db);
    host.add(&key("app"), &spec("app", &["db"], &[]));
    host.turn();
    host.pass(1_000);
    assert_eq!(host.waits("app"), "waits for db, which is not ready yet");
    host.want(&["db:2"], Wanted::Stopped);
    host.not_ready.clear();
    host.pass(10_000);
    assert_eq!((host.seen("db").0, host.seen("app").0), (Phase::Ready, Phase::Running));
}

#[test]
fn a_running_process_stays_and_its_next_start_waits() {
    let mut host = Host::with(&[spec("app", &[], &["db"]), spec("db", &[], &[])]);
    host.pass(500);
    host.log();
    host.want(&["db"], Wanted::Stopped);
    assert_eq!((host.log().as_str(), host.seen("app").0), ("-db", Phase::Running), "a stop of one ends no other");
    host.end(&key("app"), ExitStatus::Code(1));
    host.pass(5_000);
    assert_eq!(host.seen("app"), (Phase::Pending, "waits for db, which is not wanted running".into()));
    host.want(&["db"], Wanted::Running);
    host.pass(500);
    assert_eq!(host.log(), "-app +db +app");
    // Both anew: each stops at once, and they start in order.
    for name in ["app", "db"] {
        host.units.get_mut(&key(name)).unwrap().item.restart_at = Revision(9);
        host.assign(&key(name));
    }
    host.turn();
    host.pass(500);
    assert_eq!(host.log(), "-app -db +db +app");
}

#[test]
fn removed_together_they_go_in_order_and_a_tree_that_does_not_die_holds_nobody() {
    let mut host = Host::with(&[spec("app", &["db"], &[]), spec("db", &[], &[])]);
    host.pass(500);
    host.log();
    host.stubborn = ["app".into()].into();
    for name in ["db", "app"] {
        host.step(&key(name), Event::Removed);
    }
    host.turn();
    host.pass(9_000);
    assert_eq!((host.log().as_str(), host.units.len()), ("", 2), "app has its grace");
    host.pass(1_100);
    assert_eq!((host.log().as_str(), host.units.len()), ("!app -db", 1), "db waits no longer than that");
}

#[test]
fn nothing_of_a_ring_starts_and_its_stops_wait_for_nothing() {
    let ring = [spec("a", &["b"], &[]), spec("b", &[], &["c"]), spec("c", &["a"], &[])];
    let mut host = Host::with(&ring);
    host.pass(1_000);
    assert_eq!(host.log(), "");
    assert_eq!(host.waits("a"), "waits for b, which waits for c, which waits for it");
    host.want(&["c"], Wanted::Stopped);
    host.pass(1_000);
    assert_eq!(host.waits("b"), "waits for c, which is not wanted running");
    // One that closes while its members run.
    let mut host = Host::with(&[spec("a", &[], &[]), spec("b", &["a"], &[])]);
    host.pass(500);
    host.change(&spec("a", &["b"], &[]));
    host.turn();
    assert_eq!((host.log().as_str(), host.seen("a").0), ("+a +b", Phase::Running), "a new order restarts nothing");
    host.want(&["a", "b"], Wanted::Stopped);
    assert_eq!(host.log(), "-a -b");
}

#[test]
fn the_order_holds_over_a_restart_of_the_slave() {
    let mut host = Host::with(&[spec("app", &["db"], &[]), spec("db", &[], &[])]);
    host.pass(500);
    host.log();
    host.stubborn = ["app".into()].into();
    host.want(&["app", "db"], Wanted::Stopped);
    let now = host.now();
    for unit in host.units.values_mut() {
        unit.supervisor = Supervisor::restore(unit.supervisor.record().clone(), now);
    }
    for name in ["app", "db"] {
        host.assign(&key(name));
    }
    host.turn();
    for name in ["db", "app"] {
        let unit = &host.units[&key(name)];
        let (incarnation, run_spec) = (Incarnation(1), Some(unit.run_spec.clone()));
        host.step(&key(name), Event::TakenOver { incarnation, pid: 1, started_at_ms: 0, run_spec });
        host.turn();
    }
    assert_eq!(host.log(), "");
    host.end(&key("app"), ExitStatus::Code(0));
    host.turn();
    assert_eq!(host.log(), "-app -db");
}

proptest! {
    /// Whatever is ordered, wanted and restarted: once all is said, what is to stop stops, what may start starts, and
    /// what does not says why.
    #[test]
    fn nobody_waits_without_a_reason(
        orders in proptest::collection::vec((0_usize..5, any::<bool>()), 5..6),
        steps in proptest::collection::vec((0_usize..5, any::<bool>()), 0..20),
    ) {
        let name = |at: usize| ["a", "b", "c", "d", "e"][at];
        let specs: Vec<Spec> = orders.iter().enumerate().map(|(at, (before, requires))| {
            let before: &[&str] = if *before == at { &[] } else { &[name(*before)] };
            let mut spec = if *requires { spec(name(at), &[], before) } else { spec(name(at), before, &[]) };
            spec.restart.policy = RestartPolicy::Always;
            spec
        }).collect();
        let mut host = Host::with(&specs);
        for (at, running) in steps {
            host.want(&[name(at)], if running { Wanted::Running } else { Wanted::Stopped });
            host.pass(50);
        }
        host.pass(5_000);
        for (key, unit) in &host.units {
            let status = unit.supervisor.status(host.now());
            let expected = match unit.item.wanted {
                Wanted::Stopped => status.phase == Phase::Stopped,
                Wanted::Running => status.phase == Phase::Running || matches!(status.cause, Cause::Waiting(_)),
            };
            prop_assert!(expected, "{key} {status:?}");
            prop_assert!(status.phase != Phase::Running || !matches!(status.cause, Cause::Waiting(_)), "{key} {status:?}");
        }
    }
}

/// Only what nobody but its policy wants waits for its turn.
#[test]
fn restarts_take_turns_and_starts_do_not() {
    let mut host = Host::with(&[spec("a", &[], &[])]);
    let a = key("a");
    let unit = host.units.get_mut(&a).unwrap();
    unit.supervisor = unit.supervisor.clone().taking_turns();
    host.end(&a, ExitStatus::Code(1));
    host.mono_ms += 1_000;
    host.step(&a, Event::Timer);
    assert!(host.units[&a].supervisor.asks_for_turn());
    assert_eq!((host.seen("a").0, host.log.len()), (Phase::Backoff, 2), "{:?}", host.log);
    host.step(&a, Event::Gate(Gate::Turn));
    assert!(!host.units[&a].supervisor.asks_for_turn());
    assert_eq!(host.log.len(), 3, "{:?}", host.log);

    host.end(&a, ExitStatus::Code(1));
    host.step(&a, Event::Gate(Gate::Turn));
    assert_eq!(host.log.len(), 4, "a turn that came too early is none");
    host.mono_ms += 2_000;
    host.step(&a, Event::Timer);
    assert_eq!(host.log.len(), 4, "{:?}", host.log);
    host.units.get_mut(&a).unwrap().item.retry_at = Revision(5);
    host.assign(&a);
    assert_eq!(host.log.len(), 5, "somebody said so: {:?}", host.log);

    host.end(&a, ExitStatus::Code(1));
    host.mono_ms += 1_000;
    host.step(&a, Event::Timer);
    host.want(&["a"], Wanted::Stopped);
    assert!(!host.units[&a].supervisor.asks_for_turn());
    assert_eq!(host.seen("a").0, Phase::Stopped);
    host.want(&["a"], Wanted::Running);
    assert_eq!(host.log.len(), 7, "{:?}", host.log);
}
