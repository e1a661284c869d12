//! What people say on the machine itself, against what the managers say: neither is ever undone in silence.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{
    Cause, Digest, ExitStatus, Generation, HostName, Incarnation, InstanceKey, Item, LastOutput, Phase, ProcessName,
    Revision, RunSpec, Signal, Spec, Wanted,
};
use minder_supervisor::{Effect, Ended, Event, LocalOrder, LocalRefusal, Now, Record, Supervisor};

/// A supervisor, what is on its disk, and the time.
struct Machine {
    supervisor: Supervisor,
    disk: Record,
    item: Item,
    run_spec: RunSpec,
    mono_ms: u64,
    told: Vec<String>,
}

impl Machine {
    fn new() -> Self {
        let run_spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app").resolve(&HostName::new("h").unwrap());
        let item = Item {
            generation: Generation(1),
            spec: run_spec.digest(),
            wanted: Wanted::Running,
            restart_at: Revision::ZERO,
            retry_at: Revision::ZERO,
            signal: None,
            start_at: Revision(4),
        };
        let disk = Record::new(InstanceKey::parse("app").unwrap(), 0);
        let supervisor = Supervisor::new(disk.clone());
        Self { supervisor, disk, item, run_spec, mono_ms: 0, told: Vec::new() }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_000_000 + self.mono_ms, random: 0 }
    }

    /// Steps; gives whether something was started, and whether something was told to end.
    fn step(&mut self, event: Event) -> (bool, bool) {
        let (mut started, mut ended) = (false, false);
        for effect in self.supervisor.step(event, self.now()) {
            match effect {
                Effect::Save => self.disk = self.supervisor.record().clone(),
                Effect::Spawn { .. } => started = true,
                Effect::Signal { signal: Signal::TERM, .. } | Effect::KillTree { .. } => ended = true,
                Effect::Tell(text) => self.told.push(text),
                Effect::Signal { .. }
                | Effect::Reload { .. }
                | Effect::Probe { .. }
                | Effect::WakeAt(_)
                | Effect::Forget => {}
            }
        }
        assert_eq!(&self.disk, self.supervisor.record(), "something is known that is not on disk");
        (started, ended)
    }

    fn assign(&mut self) -> (bool, bool) {
        self.step(Event::Assigned { item: self.item, run_spec: Some(self.run_spec.clone()) })
    }

    fn local(&mut self, order: LocalOrder) -> (bool, bool) {
        self.step(Event::Local { order, by: "ann".into() })
    }

    fn incarnation(&self) -> Incarnation {
        self.supervisor.record().incarnation
    }

    fn comes_up(&mut self) {
        self.step(Event::Started { incarnation: self.incarnation(), pid: 7, started_at_ms: self.now().wall_ms });
        self.mono_ms += 60_000;
        self.step(Event::Timer);
        assert_eq!(self.phase(), Phase::Running);
    }

    fn ends(&mut self, status: ExitStatus) -> (bool, bool) {
        let at = self.now().wall_ms;
        self.step(Event::Ended(Ended {
            incarnation: self.incarnation(),
            status,
            start_failure: None,
            started_at_ms: at,
            ended_at_ms: at,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            oom_kills: 0,
            last_output: LastOutput::default(),
        }))
    }

    /// The slave dies and comes again with what is on disk.
    fn slave_restarts(&mut self) {
        self.supervisor = Supervisor::restore(self.disk.clone(), self.now());
    }

    fn running() -> Self {
        let mut machine = Self::new();
        machine.assign();
        machine.comes_up();
        machine
    }

    fn phase(&self) -> Phase {
        self.supervisor.status(self.now()).phase
    }

    fn is_stopped_locally(&self) -> bool {
        matches!(self.supervisor.status(self.now()).cause, Cause::StoppedLocally(stop) if stop.by == "ann")
    }
}

#[test]
fn a_local_stop_holds_against_everything_but_a_later_order() {
    let mut machine = Machine::running();
    assert_eq!(machine.local(LocalOrder::Stop), (false, true));
    assert_eq!((machine.phase(), machine.is_stopped_locally()), (Phase::Stopping, true));
    assert_eq!(machine.ends(ExitStatus::Code(0)), (false, false));
    assert_eq!((machine.phase(), machine.is_stopped_locally()), (Phase::Stopped, true));

    machine.mono_ms += 100_000_000;
    assert_eq!(machine.step(Event::Timer), (false, false), "time does not undo it");
    assert_eq!(machine.local(LocalOrder::Stop), (false, false));
    machine.slave_restarts();
    assert_eq!(machine.assign(), (false, false), "nor does a restart of the slave or the machine");
    machine.item.spec = Digest::of(b"another");
    machine.item.generation = Generation(2);
    assert_eq!(machine.assign(), (false, false), "nor does another spec");
    machine.item.retry_at = Revision(9);
    assert_eq!(machine.assign(), (false, false), "nor does a retry");
    assert_eq!((machine.phase(), machine.is_stopped_locally()), (Phase::Stopped, true));
    assert_eq!(machine.told.len(), 1, "{:?}", machine.told);

    machine.item.start_at = Revision(10);
    assert_eq!(machine.assign(), (true, false), "a later order does");
    assert!(machine.told[1].contains("no longer stopped locally by ann"), "{:?}", machine.told);
    assert!(machine.told[1].contains("revision 10"), "{:?}", machine.told);
    machine.comes_up();
}

#[test]
fn every_state_takes_every_local_order() {
    use LocalOrder::{Restart, Start, Stop};
    type Make = fn() -> Machine;
    let starting: Make = || {
        let mut machine = Machine::new();
        machine.assign();
        machine
    };
    let stopping: Make = || {
        let mut machine = Machine::running();
        machine.local(Stop);
        machine
    };
    let stopped: Make = || {
        let mut machine = Machine::running();
        machine.local(Stop);
        machine.ends(ExitStatus::Code(0));
        machine
    };
    let backoff: Make = || {
        let mut machine = Machine::running();
        machine.ends(ExitStatus::Code(1));
        machine
    };
    let exited: Make = || {
        let mut machine = Machine::running();
        machine.ends(ExitStatus::Code(0));
        machine
    };
    let unclear: Make = || {
        let mut machine = Machine::running();
        machine.slave_restarts();
        machine.assign();
        machine
    };
    // The state, the order, whether it starts and ends something at once, and the phase then.
    for (name, make, order, begins, ends, phase) in [
        ("starting", starting, Stop, false, false, Phase::Stopping),
        ("starting", starting, Start, false, false, Phase::Starting),
        ("starting", starting, Restart, false, false, Phase::Stopping),
        ("running", Machine::running as Make, Stop, false, true, Phase::Stopping),
        ("running", Machine::running, Start, false, false, Phase::Running),
        ("running", Machine::running, Restart, false, true, Phase::Stopping),
        ("stopping", stopping, Stop, false, false, Phase::Stopping),
        ("stopping", stopping, Start, false, false, Phase::Stopping),
        ("stopping", stopping, Restart, false, false, Phase::Stopping),
        ("stopped", stopped, Stop, false, false, Phase::Stopped),
        ("stopped", stopped, Start, true, false, Phase::Starting),
        ("stopped", stopped, Restart, true, false, Phase::Starting),
        ("backoff", backoff, Stop, false, false, Phase::Stopped),
        ("backoff", backoff, Start, true, false, Phase::Starting),
        ("backoff", backoff, Restart, true, false, Phase::Starting),
        ("exited", exited, Stop, false, false, Phase::Stopped),
        ("exited", exited, Start, true, false, Phase::Starting),
        ("exited", exited, Restart, true, false, Phase::Starting),
        ("unclear", unclear, Stop, false, false, Phase::Unknown),
        ("unclear", unclear, Start, false, false, Phase::Unknown),
        ("unclear", unclear, Restart, false, false, Phase::Unknown),
    ] {
        let mut machine = make();
        assert_eq!(machine.supervisor.local_refusal(order), None);
        assert_eq!(machine.local(order), (begins, ends), "{name} {order:?}");
        assert_eq!(machine.phase(), phase, "{name} {order:?}");
        // Once what is under way is over, the order holds.
        if machine.phase() == Phase::Unknown {
            let incarnation = machine.incarnation();
            let run_spec = Some(machine.run_spec.clone());
            machine.step(Event::TakenOver { incarnation, pid: 7, started_at_ms: 1, run_spec });
        }
        if machine.phase() == Phase::Stopping {
            let (starts, _) = machine.ends(ExitStatus::Code(0));
            assert_eq!(starts, order != Stop, "{name} {order:?}");
        }
        let stays = if order == Stop { Phase::Stopped } else { Phase::Starting };
        let runs = machine.phase() == Phase::Running && order == Start;
        assert!(runs || machine.phase() == stays, "{name} {order:?}: {}", machine.phase());
        assert_eq!(machine.is_stopped_locally(), order == Stop, "{name} {order:?}");
    }
}

#[test]
fn a_local_restart_is_not_forgotten_by_a_slave_that_dies_over_it() {
    let mut machine = Machine::running();
    assert_eq!(machine.local(LocalOrder::Restart), (false, true));
    machine.slave_restarts();
    machine.assign();
    let run_spec = Some(machine.run_spec.clone());
    let taken_over = Event::TakenOver { incarnation: machine.incarnation(), pid: 7, started_at_ms: 1, run_spec };
    assert_eq!(machine.step(taken_over), (false, true), "it is asked to end again");
    assert_eq!(machine.ends(ExitStatus::Code(0)), (true, false));
    machine.comes_up();
}

#[test]
fn nothing_runs_locally_that_the_managers_want_stopped_or_gone() {
    let mut machine = Machine::new();
    assert_eq!(machine.supervisor.local_refusal(LocalOrder::Stop), Some(LocalRefusal::NotAssigned));
    machine.item.wanted = Wanted::Stopped;
    machine.assign();
    for order in [LocalOrder::Start, LocalOrder::Restart] {
        assert_eq!(machine.supervisor.local_refusal(order), Some(LocalRefusal::WantedStopped));
        assert_eq!(machine.local(order), (false, false));
    }
    assert_eq!(machine.phase(), Phase::Stopped);

    // Stopped by both: only the managers' later start runs it, and that ends the local stop as well.
    machine.local(LocalOrder::Stop);
    (machine.item.wanted, machine.item.start_at) = (Wanted::Running, Revision(11));
    assert_eq!(machine.assign(), (true, false));
}

#[test]
fn with_its_assignment_a_local_stop_is_over() {
    let mut machine = Machine::running();
    machine.local(LocalOrder::Stop);
    machine.step(Event::Removed);
    assert!(machine.told[1].contains("not assigned any more"), "{:?}", machine.told);
    assert_eq!(machine.supervisor.local_refusal(LocalOrder::Stop), Some(LocalRefusal::NotAssigned));
    machine.assign();
    assert_eq!(machine.ends(ExitStatus::Code(0)), (true, false), "wanted anew while it was still ending");
}

/// Between two assignments that a slave takes the process may have changed and changed back.
#[test]
fn a_stopped_one_remembers_the_generation_that_it_has_shown() {
    let mut machine = Machine::running();
    machine.local(LocalOrder::Stop);
    machine.ends(ExitStatus::Code(0));
    machine.item.generation = Generation(3);
    assert_eq!(machine.assign(), (false, false));
    assert_eq!(machine.supervisor.status(machine.now()).generation, Generation(3));
    machine.slave_restarts();
    assert_eq!(machine.supervisor.status(machine.now()).generation, Generation(3), "it does not go back");
}
