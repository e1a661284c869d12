//! A drill in which all is well, and each promise broken in it.

use super::{super::observed::*, *};

const FAULT_US: u64 = 100_000;

/// Twenty writes, 10 ms apart, with a gap of 60 ms over the harm; a read after each of them.
fn well() -> Observed {
    let at = |number: u64| if number < 10 { number * 10_000 } else { 60_000 + number * 10_000 };
    let value = |number: u64| format!("0-{number}");
    let writes = (1..=20).map(|number| WriteSeen {
        called_us: at(number),
        answered_us: at(number) + 2_000,
        value: value(number),
        end: WriteEnd::Acknowledged { generation: number, revision: 100 + number },
    });
    let reads = (1..=20).map(|number| ReadSeen {
        called_us: at(number) + 3_000,
        answered_us: at(number) + 4_000,
        generation: Some(number),
    });
    let changes = (1..=20).map(|number| ChangeSeen {
        revision: 100 + number,
        what: What::Own { generation: number, value: value(number) },
    });
    let scene = |leader, term| Scene {
        leader: Some(leader),
        term,
        last_index: 100,
        managers: BTreeSet::from([1, 2, 3]),
        hosts: [("h1".to_owned(), HostSeen { connected: true, slave_id: "s".into() })].into(),
        instances: [("web@h1".to_owned(), instance())].into(),
    };
    let stand = |manager| Stand { manager, applied: 120, hash: "abc".into() };
    Observed {
        kind: DrillKind::LeaderKill,
        target: Target::Manager { id: 1, address: "m1:7701".into(), leads: true },
        fault_us: FAULT_US,
        stopped_us: at(20) + 5_000,
        writers: 1,
        first_index: 100,
        writes: writes.collect(),
        repeats: vec![Repeat { value: value(8), first: 108, again: 108 }],
        reads: reads.collect(),
        reads_failed: 0,
        last: Some(Written { generation: 20, revision: 120, value: value(20) }),
        changes: changes.collect(),
        changes_whole: true,
        before: scene(1, 1),
        after: scene(2, 2),
        reattached: [("h1".to_owned(), FAULT_US + 50_000)].into(),
        harmed_us: Some(FAULT_US + 40_000),
        back_us: Some(FAULT_US + 90_000),
        stands: [1, 2, 3].map(stand).to_vec(),
    }
}

fn instance() -> InstanceSeen {
    InstanceSeen { process: "web".into(), phase: "RUNNING", runs: true, pid: 7, incarnation: 1 }
}

#[test]
fn all_is_well() {
    let verdict = judge(&well());
    assert_eq!(verdict.outcome, Outcome::Held, "{verdict:#?}");
    assert_eq!(Gap::of_writes(&well()), Some(Gap { longest_us: 70_000, usual_us: 10_000 }));
}

/// What is planted, what it must break, and a word of the reason.
/// What is seen in another way than it was.
type Change = fn(&mut Observed);
type Plant = (Change, &'static str, &'static str);

const LOST: &str = "no acknowledged write is lost";
const TWICE: &str = "no write is applied twice";
const BACK: &str = "reads never go back";
const MOVED: &str = "no process is restarted or lost";

const BROKEN: [Plant; 20] = [
    (|seen| seen.last = None, LOST, "is not there"),
    (|seen| seen.last.as_mut().unwrap().generation = 19, LOST, "generation 19"),
    (|seen| seen.last.as_mut().unwrap().revision = 119, LOST, "the last one there is 119"),
    (|seen| seen.last.as_mut().unwrap().value = "0-3".into(), LOST, "revision 120 is write 0-3"),
    (|seen| drop(seen.changes.remove(4)), LOST, "write 0-5 (revision 105) was never committed"),
    (|seen| seen.changes[4].what = What::Own { generation: 5, value: "0-9".into() }, LOST, "another write than 0-5"),
    (|seen| seen.last.as_mut().unwrap().generation = 21, TWICE, "generation 21"),
    (|seen| seen.repeats[0].again = 109, TWICE, "108, and 109"),
    (
        |seen| {
            let what = What::Own { generation: 21, value: "0-5".into() };
            seen.changes.push(ChangeSeen { revision: 121, what });
        },
        TWICE,
        "at revision 105 and at 121",
    ),
    (
        |seen| seen.writes[4].end = WriteEnd::Acknowledged { generation: 4, revision: 105 },
        TWICE,
        "writes 0-4 and 0-5 are both generation 4",
    ),
    (|seen| seen.reads[10].generation = Some(9), BACK, "generation 9 when 11"),
    (|seen| seen.reads[10].generation = None, BACK, "generation 0 when 11"),
    (|seen| seen.writes.truncate(9), "writes and reads go on", "no write"),
    (|seen| seen.reads.truncate(9), "writes and reads go on", "no read"),
    (|seen| after(seen, |instance| instance.pid = 8), MOVED, "pid 7 to 8"),
    (|seen| after(seen, |instance| instance.incarnation = 2), MOVED, "incarnation 1 to 2"),
    (
        |seen| {
            after(seen, |instance| {
                (instance.runs, instance.phase, instance.pid) = (false, "LOST", 0);
            });
        },
        MOVED,
        "web@h1 is LOST",
    ),
    (|seen| seen.after.instances.clear(), MOVED, "is not there any more"),
    (|seen| seen.reattached.clear(), "all hosts are connected again", "h1"),
    (
        |seen| seen.changes.push(ChangeSeen { revision: 121, what: What::Host("h1".into()) }),
        "hosts that return write nothing",
        "host h1 was written (revision 121)",
    ),
];

fn after(seen: &mut Observed, change: impl Fn(&mut InstanceSeen)) {
    seen.after.instances.values_mut().for_each(change);
}

#[test]
fn each_promise_can_be_broken() {
    for (plant, promise, word) in BROKEN {
        let mut seen = well();
        plant(&mut seen);
        let verdict = judge(&seen);
        assert_eq!(verdict.outcome, Outcome::Broken, "{promise}: {word}: {verdict:#?}");
        let broken = verdict.promises.iter().find(|one| one.promise == promise).unwrap();
        assert_eq!(broken.outcome, Outcome::Broken, "{word}: {verdict:#?}");
        assert!(broken.why.iter().any(|why| why.contains(word)), "{promise} does not say {word:?}: {:?}", broken.why);
    }
    let mut seen = well();
    seen.stands[1].hash = "def".into();
    let verdict = judge(&seen);
    let steps = verdict.promises.iter().find(|one| one.promise == "managers are in step").unwrap();
    assert_eq!((verdict.outcome, steps.outcome), (Outcome::Broken, Outcome::Broken));
    assert!(steps.why[0].contains("at index 120"), "{:?}", steps.why);
}

#[test]
fn what_was_not_seen_is_not_called_held() {
    let plants: [(Change, &str); 8] = [
        (|seen| seen.harmed_us = None, "nobody else led"),
        (|seen| seen.back_us = None, "not seen to come back"),
        (|seen| seen.fault_us = 20_000, "only 1 writes were acknowledged before"),
        (|seen| seen.changes_whole = false, "not every committed change"),
        (|seen| seen.stands[2].applied = 121, "manager 3 was never seen"),
        (|seen| seen.target = Target::Host("h1".into()), ""),
        (
            |seen| {
                (seen.target, seen.harmed_us, seen.back_us) = (Target::Host("h1".into()), None, None);
            },
            "slave of h1",
        ),
        (
            |seen| {
                seen.target = Target::Manager { id: 3, address: "m3:7701".into(), leads: false };
                seen.harmed_us = None;
            },
            "nobody was seen to miss manager 3",
        ),
    ];
    for (plant, word) in plants {
        let mut seen = well();
        plant(&mut seen);
        let verdict = judge(&seen);
        if word.is_empty() {
            assert_eq!(verdict.outcome, Outcome::Held, "{verdict:#?}");
            continue;
        }
        assert_eq!(verdict.outcome, Outcome::Inconclusive, "{word}: {verdict:#?}");
        let said = format!("{:?} {:?}", verdict.inconclusive, verdict.promises);
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_others_do_meanwhile_is_not_held_against_anybody() {
    let mut seen = well();
    after(&mut seen, |instance| instance.incarnation = 2);
    seen.changes.push(ChangeSeen { revision: 121, what: What::Process("web".into()) });
    assert_eq!(judge(&seen).outcome, Outcome::Held);
    // A write of which nobody knows may have happened.
    seen.writes.push(WriteSeen { called_us: 1, answered_us: 2, value: "0-21".into(), end: WriteEnd::Unknown });
    seen.last = Some(Written { generation: 21, revision: 122, value: "0-21".into() });
    assert_eq!(judge(&seen).outcome, Outcome::Held);
}
