//! A search for any order that explains the calls on one process (Wing and Gong's, with Lowe's memory), which looks at
//! values and real time only and believes no revision. It checks the [`witness`](super::witness), which believes them.
//!
//! It looks at windows of a history, since the search explodes with calls in flight. What a window cannot know is
//! allowed: any value at its begin, and any write in flight over its edges or without an answer may happen in it or not.

use std::collections::{BTreeSet, HashSet};

use super::Verdict;
use crate::history::{Op, Outcome, Record};

/// Calls of one window: as many as the search remembers in one word.
const WINDOW_CALLS_MAX: usize = 128;
/// States looked at in one window before it is given up.
const STATES_MAX: usize = 300_000;

/// Judges `windows` windows of so many microseconds of each process, spread over the history.
pub fn check(records: &[Record], windows: u64, window_us: u64) -> Verdict {
    let processes: BTreeSet<&str> = records.iter().filter_map(|record| record.op.process()).collect();
    let end = records.iter().map(|record| record.return_us).max().unwrap_or_default();
    let (mut findings, mut checked, mut given_up) = (Vec::new(), 0, 0);
    for process in processes {
        let of_it: Vec<&Record> = records.iter().filter(|record| record.op.process() == Some(process)).collect();
        for window in 0..windows {
            let begin = end.saturating_sub(window_us) * window / windows.max(1);
            let calls = calls_within(&of_it, begin, begin + window_us);
            match explain(&calls) {
                Some(true) => checked += calls.iter().filter(|call| !call.optional).count(),
                Some(false) => findings
                    .push(format!("no order explains the calls on {process} from {begin} to {} us", begin + window_us)),
                None => given_up += 1,
            }
        }
    }
    match Verdict::of(findings, checked) {
        Verdict::Inconclusive(_) => {
            Verdict::Inconclusive(format!("no window was explained, {given_up} were too large"))
        }
        verdict => verdict,
    }
}

/// What a call does to the one value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Does<'a> {
    Write(Option<&'a str>),
    Read(Option<&'a str>),
}

#[derive(Debug, Clone)]
struct Call<'a> {
    call_us: u64,
    return_us: u64,
    does: Does<'a>,
    /// It need not have happened.
    optional: bool,
}

fn calls_within<'a>(records: &[&'a Record], begin: u64, end: u64) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    for record in records.iter().filter(|record| record.call_us < end && record.return_us >= begin) {
        let does = match &record.op {
            Op::Put { value, .. } => Does::Write(Some(value)),
            Op::Delete { .. } => Does::Write(None),
            Op::Read { stale: false, .. } => Does::Read(record.rows.first().map(|row| row.value.as_str())),
            Op::Read { stale: true, .. } | Op::Order { .. } => continue,
        };
        let inside = record.call_us >= begin && record.return_us < end;
        let optional = match record.outcome {
            Outcome::Ok => !inside,
            Outcome::Unknown => true,
            Outcome::Conflict | Outcome::Absent | Outcome::Failed => continue,
        };
        if optional && matches!(does, Does::Read(_)) {
            continue;
        }
        let return_us = if optional { u64::MAX } else { record.return_us };
        calls.push(Call { call_us: record.call_us, return_us, does, optional });
    }
    // A write without an answer may happen in any later window.
    let earlier = records.iter().filter(|one| one.outcome == Outcome::Unknown && one.return_us < begin);
    for record in earlier {
        let does = match &record.op {
            Op::Put { value, .. } => Does::Write(Some(value.as_str())),
            Op::Delete { .. } => Does::Write(None),
            Op::Order { .. } | Op::Read { .. } => continue,
        };
        // One that nobody in this window saw explains nothing.
        let seen = calls.iter().any(|call| matches!((&call.does, &does), (Does::Read(a), Does::Write(b)) if a == b));
        if seen {
            calls.push(Call { call_us: record.call_us, return_us: u64::MAX, does, optional: true });
        }
    }
    calls
}

/// Whether some order explains the calls; `None` when that is too much to find out.
fn explain(calls: &[Call<'_>]) -> Option<bool> {
    if calls.len() > WINDOW_CALLS_MAX {
        return None;
    }
    let must: u128 = calls.iter().enumerate().filter(|(_, call)| !call.optional).map(|(at, _)| 1 << at).sum();
    // The value is not known before the first read or write.
    let mut open: Vec<(u128, Option<Option<&str>>)> = vec![(0, None)];
    let mut seen: HashSet<(u128, Option<Option<&str>>)> = HashSet::new();
    while let Some((done, value)) = open.pop() {
        if done & must == must {
            return Some(true);
        }
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return None;
        }
        let left = || calls.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        // What was called after another one had returned cannot come before it.
        let first_return = left().map(|(_, call)| call.return_us).min().unwrap_or(u64::MAX);
        for (at, call) in left().filter(|(_, call)| call.call_us <= first_return) {
            match call.does {
                Does::Write(wrote) => open.push((done | 1 << at, Some(wrote))),
                Does::Read(read) if value.is_none_or(|value| value == read) => open.push((done | 1 << at, Some(read))),
                Does::Read(_) => {}
            }
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Row;

    fn put(call_us: u64, return_us: u64, value: &str, outcome: Outcome) -> Record {
        let op = Op::Put { process: "a".into(), value: value.into(), expect: None };
        Record { client: 1, call_us, return_us, op, outcome, revision: 0, term: 0, rows: vec![] }
    }

    fn read(call_us: u64, return_us: u64, value: Option<&str>) -> Record {
        let row =
            |value: &str| Row { process: "a".into(), value: value.into(), generation: 1, revision: 1, running: true };
        let rows = value.map(row).into_iter().collect();
        let op = Op::Read { process: Some("a".into()), stale: false };
        Record { client: 2, call_us, return_us, op, outcome: Outcome::Ok, revision: 0, term: 0, rows }
    }

    #[test]
    fn histories_with_an_order_are_good() {
        use Outcome::{Ok, Unknown};
        for (what, history) in [
            ("one after the other", vec![put(0, 1, "1", Ok), read(2, 3, Some("1"))]),
            ("at once", vec![put(0, 10, "1", Ok), put(0, 10, "2", Ok), read(5, 6, Some("1")), read(7, 8, Some("2"))]),
            ("a lost answer that happened", vec![put(0, 1, "1", Unknown), read(2, 3, Some("1"))]),
            (
                "much later",
                vec![put(0, 1, "1", Unknown), put(2, 3, "2", Ok), read(4, 5, Some("2")), read(6, 7, Some("1"))],
            ),
            ("a lost answer that did not", vec![put(0, 1, "1", Unknown), put(2, 3, "2", Ok), read(4, 5, Some("2"))]),
        ] {
            assert!(check(&history, 1, 1_000).holds(), "{what}");
        }
    }

    #[test]
    fn histories_without_one_are_found() {
        use Outcome::{Failed, Ok, Unknown};
        for (what, history) in [
            ("an old value", vec![put(0, 1, "1", Ok), put(2, 3, "2", Ok), read(4, 5, Some("1"))]),
            ("a lost write", vec![put(0, 1, "1", Ok), read(2, 3, None)]),
            (
                "back and forth",
                vec![
                    put(0, 1, "0", Ok),
                    put(2, 99, "1", Ok),
                    put(2, 99, "2", Ok),
                    read(5, 6, Some("1")),
                    read(7, 8, Some("2")),
                    read(9, 10, Some("1")),
                ],
            ),
            ("what failed is seen", vec![put(0, 1, "0", Ok), put(2, 3, "1", Failed), read(4, 5, Some("1"))]),
            ("before it was asked for", vec![put(0, 1, "0", Ok), read(2, 3, Some("1")), put(4, 5, "1", Unknown)]),
        ] {
            assert!(matches!(check(&history, 1, 1_000), Verdict::Broken(_)), "{what}");
        }
    }

    #[test]
    fn what_is_too_much_is_inconclusive() {
        let history: Vec<Record> = (0..200).map(|value| put(0, 99, &value.to_string(), Outcome::Ok)).collect();
        assert!(matches!(check(&history, 1, 1_000), Verdict::Inconclusive(_)));
    }

    #[test]
    fn a_window_allows_what_it_cannot_know() {
        let history: Vec<Record> = (0..100)
            .flat_map(|at| {
                let value = at.to_string();
                [put(at * 10, at * 10 + 4, &value, Outcome::Ok), read(at * 10 + 5, at * 10 + 8, Some(&value))]
            })
            .collect();
        assert!(check(&history, 13, 77).holds());
    }
}
