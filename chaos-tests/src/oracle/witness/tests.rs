use super::*;
use crate::oracle::watch::{Event, Watched, chain};

fn row(process: &str, value: &str, generation: u64, revision: u64) -> Row {
    Row { process: process.into(), value: value.into(), generation, revision, running: true }
}

fn put(process: &str, value: &str) -> Op {
    Op::Put { process: process.into(), value: value.into(), expect: None }
}

fn read(process: &str) -> Op {
    Op::Read { process: Some(process.into()), stale: false }
}

/// A call from `call` to `call + 10`.
fn at(call_us: u64, op: Op, outcome: Outcome, revision: u64, rows: Vec<Row>) -> Record {
    Record { client: call_us, call_us, return_us: call_us + 10, op, outcome, revision, term: 1, rows }
}

fn event(revision: u64, change: Option<Change>) -> Event {
    Event { revision, progress: change.is_none(), change, more: false }
}

/// Two writes, a lost one that happened, a delete, a refusal, reads in between.
fn good() -> Vec<Record> {
    let expecting = Op::Put { process: "a".into(), value: "x".into(), expect: Some(3) };
    vec![
        at(0, put("a", "1"), Outcome::Ok, 3, vec![row("a", "1", 1, 3)]),
        at(20, read("a"), Outcome::Ok, 4, vec![row("a", "1", 1, 3)]),
        at(25, put("a", "2"), Outcome::Unknown, 0, vec![]),
        at(50, read("a"), Outcome::Ok, 6, vec![row("a", "2", 2, 5)]),
        at(52, put("b", "never"), Outcome::Unknown, 0, vec![]),
        at(70, expecting, Outcome::Conflict, 7, vec![]),
        at(90, Op::Delete { process: "a".into(), expect: Some(5) }, Outcome::Ok, 8, vec![row("a", "2", 2, 5)]),
        at(110, read("a"), Outcome::Ok, 8, vec![]),
        at(130, put("a", "3"), Outcome::Ok, 9, vec![row("a", "3", 1, 9)]),
        at(150, Op::Order { process: "a".into(), running: false }, Outcome::Ok, 10, vec![]),
        at(152, Op::Read { process: None, stale: true }, Outcome::Ok, 4, vec![row("a", "1", 1, 3)]),
    ]
}

fn changes() -> Vec<(u64, Change)> {
    let stopped = Row { running: false, ..row("a", "3", 1, 10) };
    vec![
        (3, Change::Put(row("a", "1", 1, 3))),
        (5, Change::Put(row("a", "2", 2, 5))),
        (8, Change::Deleted("a".into())),
        (9, Change::Put(row("a", "3", 1, 9))),
        (10, Change::Put(stopped)),
    ]
}

fn seen(changes: &[(u64, Change)]) -> Chain {
    let events = changes.iter().map(|(revision, change)| event(*revision, Some(change.clone())));
    let events = events.chain([event(20, None)]).collect();
    chain(&[Watched { client: 1, after: 0, listed: None, events }], 1)
}

#[test]
fn a_history_that_revisions_explain_is_good() {
    assert_eq!(check(&good(), &seen(&changes())), Verdict::Holds { checked: 9 });
}

type Edit = fn(&mut Vec<Record>, &mut Vec<(u64, Change)>);

#[test]
fn planted_mistakes_are_found() {
    let table: [(&str, Edit, &str); 16] = [
        ("two writes of one revision", |history, _| history[8].revision = 10, "have one revision"),
        ("a write before what was answered", |history, _| history[4] = history_write(6), "had been answered before"),
        ("a stale read", |history, _| history[3].revision = 3, "had been answered before"),
        ("a read of an older state", |history, _| history[3].rows = vec![row("a", "1", 1, 3)], "in the place of"),
        ("a read that invents", |history, _| history[7].rows = vec![row("a", "2", 2, 5)], "in the place of"),
        ("a lost write", |_, changes| drop(changes.remove(0)), "what changed there is []"),
        (
            "an acknowledged write replaced by another",
            |_, changes| changes[0].1 = Change::Put(row("a", "other", 1, 3)),
            "what changed there is",
        ),
        (
            "a change that nobody asked for",
            |_, changes| changes.insert(2, (6, Change::Put(row("b", "ghost", 1, 6)))),
            "nothing that was asked for",
        ),
        (
            "a lost answer's write happens twice",
            |_, changes| changes.insert(2, (7, Change::Put(row("a", "2", 3, 7)))),
            "nothing that was asked for",
        ),
        ("before it was asked for", |history, _| history[2].call_us = 65, "nothing that was asked for"),
        (
            "a refused write happens",
            |_, changes| changes.insert(2, (7, Change::Put(row("a", "x", 3, 7)))),
            "nothing that was asked for",
        ),
        ("a refusal without a reason", |history, _| history[5].op = delete_at(5), "gave no reason"),
        ("a wrong answer", |history, _| history[8].rows[0].generation = 3, "as generation 3"),
        ("a write that had to be refused", |history, _| history[6].op = delete_at(3), "the table then says Conflict"),
        ("an order that is not followed", |_, changes| drop(changes.pop()), "what changed there is []"),
        ("a failed write happens", |history, _| history[2].outcome = Outcome::Failed, "nothing that was asked for"),
    ];
    for (what, edit, expected) in table {
        let (mut history, mut changes) = (good(), changes());
        edit(&mut history, &mut changes);
        match check(&history, &seen(&changes)) {
            Verdict::Broken(findings) => {
                assert!(findings.iter().any(|found| found.contains(expected)), "{what}: {findings:?}");
            }
            other => panic!("{what}: {other}"),
        }
    }
}

fn history_write(revision: u64) -> Record {
    at(70, put("b", "late"), Outcome::Ok, revision, vec![row("b", "late", 1, revision)])
}

fn delete_at(revision: u64) -> Op {
    Op::Delete { process: "a".into(), expect: Some(revision) }
}

#[test]
fn what_the_watch_did_not_reach_is_inconclusive() {
    let short = Chain { upto: 8, ..seen(&changes()) };
    assert!(matches!(check(&good(), &short), Verdict::Inconclusive(_)));
    assert!(matches!(check(&[], &Chain::default()), Verdict::Inconclusive(_)));
}

#[test]
fn a_write_lost_while_nobody_watched_is_found() {
    let watched = |listed: Vec<Row>| {
        let first = Watched { client: 1, after: 0, listed: None, events: vec![event(3, Some(changes()[0].1.clone()))] };
        let second = Watched { client: 1, after: 9, listed: Some(listed), events: vec![event(20, None)] };
        chain(&[first, second], 1)
    };
    let history = &good()[..9];
    assert!(check(history, &watched(vec![row("a", "3", 1, 9)])).holds());
    for lost in [vec![], vec![row("a", "1", 1, 3)]] {
        let mut history = history.to_vec();
        history.remove(6);
        history.remove(6);
        let verdict = check(&history, &watched(lost));
        assert!(matches!(&verdict, Verdict::Broken(found) if found[0].contains("lost")), "{verdict}");
    }
}

#[test]
fn what_a_list_does_not_show_is_gone() {
    let first = Watched { client: 1, after: 0, listed: None, events: vec![event(3, Some(changes()[0].1.clone()))] };
    let second = Watched { client: 1, after: 9, listed: Some(vec![]), events: vec![event(20, None)] };
    let delete = || Op::Delete { process: "a".into(), expect: None };
    let history = [
        good()[0].clone(),
        at(20, delete(), Outcome::Unknown, 0, vec![]),
        at(100, read("a"), Outcome::Ok, 10, vec![]),
        at(200, delete(), Outcome::Absent, 12, vec![]),
    ];
    let verdict = check(&history, &chain(&[first, second], 1));
    assert!(verdict.holds(), "{verdict}");
}
