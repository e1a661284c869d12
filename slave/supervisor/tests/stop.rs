//! How a stop goes on: which word comes when, what outlives the slave, and what it is called afterwards.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{
    Cause, ExitRecord, ExitStatus, Generation, Health, HostName, Incarnation, InstanceKey, Item, LastOutput, Millis,
    Phase, Probe, ProcessName, Revision, RunSpec, Signal, Spec, StopStep, Wanted,
};
use minder_supervisor::{Effect, Ended, Event, Now, ProbeKind, Record, Supervisor};

fn signal(name: &str) -> Signal {
    Signal::parse(name).unwrap()
}

fn run_spec() -> RunSpec {
    let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app");
    spec.stop.signal = signal("QUIT");
    spec.stop.grace = Millis(5_000);
    let step = |name: &str, ms: u64| StopStep { signal: signal(name), after: Millis(ms) };
    spec.stop.escalation = vec![step("TERM", 1_000), step("INT", 3_000)];
    spec.resolve(&HostName::new("h").unwrap())
}

fn item(wanted: Wanted) -> Item {
    let zero = Revision::ZERO;
    let spec = run_spec().digest();
    Item { generation: Generation(1), spec, wanted, restart_at: zero, retry_at: zero, signal: None, start_at: zero }
}

fn now(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 1_000_000 + mono_ms, random: 0 }
}

const FIRST: Incarnation = Incarnation(1);

/// One that runs since 1,000 ms.
fn running() -> Supervisor {
    let mut supervisor = Supervisor::new(Record::new(InstanceKey::parse("app").unwrap(), 0));
    assigned(&mut supervisor, Wanted::Running, 0);
    supervisor.step(Event::Started { incarnation: FIRST, pid: 7, started_at_ms: 1 }, now(1_000));
    supervisor
}

fn assigned(supervisor: &mut Supervisor, wanted: Wanted, at: u64) -> Vec<String> {
    said(&supervisor.step(Event::Assigned { item: item(wanted), run_spec: Some(run_spec()) }, now(at)))
}

fn timer(supervisor: &mut Supervisor, at: u64) -> Vec<String> {
    said(&supervisor.step(Event::Timer, now(at)))
}

/// The effects in short: words to the process, and when to look again.
fn said(effects: &[Effect]) -> Vec<String> {
    let short = |effect: &Effect| match effect {
        Effect::Signal { signal, then_continue, .. } => {
            assert!(then_continue, "a stopped program would not see it");
            Some(signal.to_string())
        }
        Effect::KillTree { .. } => Some("kill".into()),
        Effect::WakeAt(at) => Some(format!("@{at}")),
        Effect::Save
        | Effect::Spawn { .. }
        | Effect::Reload { .. }
        | Effect::Probe { .. }
        | Effect::Tell(_)
        | Effect::Forget => None,
    };
    effects.iter().filter_map(short).collect()
}

fn end(supervisor: &mut Supervisor, at: u64) -> ExitRecord {
    let ended = Ended {
        incarnation: FIRST,
        status: ExitStatus::Code(0),
        start_failure: None,
        started_at_ms: 1,
        ended_at_ms: 2,
        cpu_ms: 0,
        memory_peak_bytes: 0,
        oom_kills: 0,
        last_output: LastOutput::default(),
    };
    supervisor.step(Event::Ended(ended), now(at));
    supervisor.record().exits.last().unwrap().clone()
}

#[test]
fn each_word_comes_at_its_time_and_the_tree_is_killed_in_the_end() {
    let mut supervisor = running();
    assert_eq!(assigned(&mut supervisor, Wanted::Stopped, 10_000), ["QUIT", "@11000"]);
    for (at, expected) in [
        (10_999, vec!["@11000"]),
        (11_000, vec!["TERM", "@13000"]),
        (11_001, vec!["@13000"]),
        (13_500, vec!["INT", "@15000"]),
        (15_000, vec!["kill", "@20000"]),
        (16_000, vec!["@20000"]),
        (20_000, vec!["kill", "@25000"]),
    ] {
        assert_eq!(timer(&mut supervisor, at), expected, "at {at}");
        let cause = supervisor.status(now(at)).cause;
        assert_eq!(cause, if at < 15_000 { Cause::Operator } else { Cause::KilledAfterGrace }, "at {at}");
    }
    let exit = end(&mut supervisor, 21_234);
    assert_eq!((exit.requested, exit.killed_after_grace, exit.stop_ms), (true, true, Some(11_234)));
    assert_eq!(exit.stop_words(), "did not stop in time, killed, gone after 11.2 s");
    let status = supervisor.status(now(21_234));
    assert_eq!((status.phase, status.cause), (Phase::Stopped, Cause::KilledAfterGrace));
}

#[test]
fn a_late_look_says_only_what_is_due_now() {
    let mut supervisor = running();
    assigned(&mut supervisor, Wanted::Stopped, 10_000);
    assert_eq!(timer(&mut supervisor, 14_000), ["INT", "@15000"]);
    let exit = end(&mut supervisor, 14_040);
    assert_eq!(exit.stop_words(), "stopped as asked in 4.0 s");
}

/// A slave that was stopped for longer than the grace, right after it had said the first word, killed what had not heard it.
#[test]
fn a_kill_that_would_be_late_is_put_off_once_and_shortly() {
    let mut supervisor = running();
    assigned(&mut supervisor, Wanted::Stopped, 10_000);
    for (at, expected) in [
        (13_500, vec!["INT", "@15000"]),
        (22_000, vec!["@23000"]),
        (22_500, vec!["@23000"]),
        (60_000, vec!["kill", "@65000"]),
        (99_000, vec!["kill", "@104000"]),
    ] {
        assert_eq!(timer(&mut supervisor, at), expected, "at {at}");
    }
    let mut in_time = running();
    assigned(&mut in_time, Wanted::Stopped, 10_000);
    timer(&mut in_time, 14_000);
    assert_eq!(timer(&mut in_time, 16_000), ["kill", "@21000"], "a second is no more than a busy machine");
}

#[test]
fn a_stop_outlives_its_slave_with_what_is_left_of_its_grace() {
    let mut supervisor = running();
    assigned(&mut supervisor, Wanted::Stopped, 10_000);
    let taken_over = Event::TakenOver { incarnation: FIRST, pid: 7, started_at_ms: 1, run_spec: Some(run_spec()) };
    // The word that is due may have been lost with the slave, so it is said again; nothing begins anew.
    let mut again = Supervisor::restore(supervisor.record().clone(), now(11_500));
    assert_eq!(said(&again.step(taken_over.clone(), now(11_500))), ["TERM", "@13000", "@13000"]);
    let mut late = Supervisor::restore(again.record().clone(), now(60_000));
    assert_eq!(
        said(&late.step(taken_over, now(60_000))),
        ["INT", "@60000", "@61000"],
        "nobody hears a word and dies of the next"
    );
    assert_eq!(timer(&mut late, 61_000), ["kill", "@66000"]);
    let exit = end(&mut late, 61_010);
    assert_eq!((exit.killed_after_grace, exit.stop_ms), (true, Some(51_010)));
    // Gone while nobody looked: asked to, and nobody could measure how long it took.
    let mut gone = Supervisor::restore(supervisor.record().clone(), now(11_500));
    assert_eq!(end(&mut gone, 11_500).stop_words(), "stopped as asked");
}

#[test]
fn the_words_wait_for_a_program_that_runs() {
    let mut supervisor = Supervisor::new(Record::new(InstanceKey::parse("app").unwrap(), 0));
    assigned(&mut supervisor, Wanted::Running, 0);
    assert_eq!(assigned(&mut supervisor, Wanted::Stopped, 100), ["@1100"]);
    let started = Event::Started { incarnation: FIRST, pid: 7, started_at_ms: 1 };
    assert_eq!(said(&supervisor.step(started, now(1_200))), ["TERM", "@3100"]);
}

#[test]
fn a_hook_after_the_end_is_no_part_of_the_stop() {
    let mut supervisor = running();
    assigned(&mut supervisor, Wanted::Stopped, 10_000);
    supervisor.step(Event::Leaving { incarnation: FIRST }, now(10_500));
    // It may take longer than the grace.
    assert!(timer(&mut supervisor, 15_000).is_empty());
    assert_eq!(end(&mut supervisor, 17_000).stop_words(), "stopped as asked in 0.5 s");
}

#[test]
fn the_stop_of_an_unhealthy_one_goes_on_and_any_other_has_a_grace_of_its_own_again() {
    let mut spec = run_spec().spec().clone();
    let probe = Probe::Tcp("80".into());
    spec.health = Some(Health { interval: Millis(1_000), start_grace: Millis(0), threshold: 1, ..Health::new(probe) });
    let checked = spec.resolve(&HostName::new("h").unwrap());
    let wanted = Item { spec: checked.digest(), ..item(Wanted::Running) };
    let assigned_checked = || Event::Assigned { item: wanted, run_spec: Some(checked.clone()) };
    let taken_over =
        || Event::TakenOver { incarnation: FIRST, pid: 7, started_at_ms: 1, run_spec: Some(checked.clone()) };
    let mut supervisor = running();
    supervisor.step(assigned_checked(), now(9_000));
    let effects = supervisor.step(Event::Timer, now(10_000));
    let number = effects.iter().find_map(|effect| match effect {
        Effect::Probe { number, .. } => Some(*number),
        _ => None,
    });
    let answer = Err("connection refused".into());
    let probed = Event::Probed { incarnation: FIRST, kind: ProbeKind::Health, number: number.unwrap(), answer };
    assert_eq!(said(&supervisor.step(probed, now(10_000))), ["QUIT", "@11000"]);

    let mut again = Supervisor::restore(supervisor.record().clone(), now(14_000));
    assert_eq!(said(&again.step(taken_over(), now(14_000)))[..2], ["INT", "@15000"]);
    let exit = end(&mut again, 14_200);
    assert!(exit.unhealthy.is_some() && !exit.requested);
    assert_eq!(exit.stop_words(), "stopped in 4.2 s");

    // Made way for another spec, then its slave was restarted; by then that spec is withdrawn.
    let mut moved = running();
    let mut other = spec.clone();
    other.args = vec!["other".into()];
    let other = other.resolve(&HostName::new("h").unwrap());
    let changed = Event::Assigned { item: Item { spec: other.digest(), ..wanted }, run_spec: Some(other) };
    assert_eq!(said(&moved.step(changed, now(20_000))), ["QUIT", "@21000"]);
    let mut back = Supervisor::restore(moved.record().clone(), now(30_000));
    back.step(assigned_checked(), now(30_000));
    assert!(!said(&back.step(taken_over(), now(30_000))).contains(&"kill".into()));
    assert_eq!(assigned(&mut back, Wanted::Stopped, 40_000), ["QUIT", "@41000"]);
}
