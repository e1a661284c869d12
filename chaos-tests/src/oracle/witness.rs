//! The revision witness: the revisions in the answers name an order, and that order must explain everything.
//!
//! Successful writes have revisions of their own; what was answered before a call was made lies at or before its
//! revision; replayed in the order of revisions through an independent model of the table, every answer is the one that
//! was given and every change is one that somebody asked for. A write whose answer was lost happens at most once, and
//! not before it was asked for. This takes time n log n, where a search without revisions explodes.
//!
//! What happened between is taken from a watch that saw every change ([`Chain`]); it is believed only where it agrees
//! with the answers.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Verdict,
    table::{Effect, Table, refusal},
    watch::{Chain, Change, Link},
};
use crate::history::{Op, Outcome, Record, Row};

/// Judges a whole history by the sequence of all changes.
pub fn check(records: &[Record], chain: &Chain) -> Verdict {
    let floors = floors(records);
    let mut findings = real_time(records, &floors);
    let (writes, doubles) = by_revision(records);
    findings.extend(doubles);
    let mut replay = Replay::new(records, &floors, chain, &writes);
    replay.run();
    findings.append(&mut replay.findings);
    let last = records.iter().filter(|record| record.outcome == Outcome::Ok).map(|record| record.revision).max();
    match last.filter(|last| *last > chain.upto && findings.is_empty()) {
        Some(last) => Verdict::Inconclusive(format!(
            "revision {last} was answered, but the watch that saw all changes ends at {}",
            chain.upto
        )),
        None => Verdict::of(findings, records.iter().filter(|record| record.revision > 0).count()),
    }
}

/// For each call, the highest revision that had been answered to anybody before it was made.
fn floors(records: &[Record]) -> Vec<u64> {
    let mut returns: Vec<(u64, u64)> = records.iter().map(|record| (record.return_us, record.revision)).collect();
    returns.sort_unstable();
    let mut calls: Vec<usize> = (0..records.len()).collect();
    calls.sort_by_key(|at| records[*at].call_us);
    let mut floors = vec![0; records.len()];
    let (mut returned, mut floor) = (returns.into_iter().peekable(), 0);
    for at in calls {
        while let Some((_, revision)) = returned.next_if(|(return_us, _)| *return_us < records[at].call_us) {
            floor = floor.max(revision);
        }
        floors[at] = floor;
    }
    floors
}

fn real_time(records: &[Record], floors: &[u64]) -> Vec<String> {
    let breaks = |(record, floor): &(&Record, &u64)| match (&record.op, record.outcome) {
        (Op::Read { stale: true, .. }, _) | (_, Outcome::Failed | Outcome::Unknown) => false,
        (op, Outcome::Ok) if op.is_write() => record.revision <= **floor,
        _ => record.revision < **floor,
    };
    let broken = records.iter().zip(floors).filter(breaks);
    broken.map(|(record, floor)| format!("{} although {floor} had been answered before", told(record))).collect()
}

fn by_revision(records: &[Record]) -> (BTreeMap<u64, usize>, Vec<String>) {
    let (mut writes, mut doubles) = (BTreeMap::new(), Vec::new());
    for (at, record) in records.iter().enumerate() {
        if record.op.is_write()
            && record.outcome == Outcome::Ok
            && let Some(other) = writes.insert(record.revision, at)
        {
            doubles.push(format!("{} and {} have one revision", told(&records[other]), told(record)));
        }
    }
    (writes, doubles)
}

fn told(record: &Record) -> String {
    let Record { client, call_us, op, outcome, revision, .. } = record;
    format!("client {client}'s {op:?} at {call_us} us was answered {outcome:?} at revision {revision}")
}

struct Replay<'a> {
    records: &'a [Record],
    floors: &'a [u64],
    chain: &'a Chain,
    writes: &'a BTreeMap<u64, usize>,
    table: Table,
    /// What each process was, from which revision on.
    past: BTreeMap<&'a str, Vec<(u64, Option<Row>)>>,
    /// Unknown writes that were found to have happened.
    happened: BTreeSet<usize>,
    findings: Vec<String>,
}

impl<'a> Replay<'a> {
    fn new(records: &'a [Record], floors: &'a [u64], chain: &'a Chain, writes: &'a BTreeMap<u64, usize>) -> Self {
        Self {
            records,
            floors,
            chain,
            writes,
            table: Table::default(),
            past: BTreeMap::new(),
            happened: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    fn run(&mut self) {
        let known = self.chain.links.range(..=self.chain.upto).map(|(revision, _)| *revision);
        let acknowledged = self.writes.range(..=self.chain.upto).map(|(revision, _)| *revision);
        let revisions: BTreeSet<u64> = known.chain(acknowledged).collect();
        let mut reads: Vec<&Record> =
            self.records.iter().filter(|one| !one.op.is_write() && one.outcome == Outcome::Ok).collect();
        reads.sort_by_key(|read| read.revision);
        let mut reads = reads.into_iter().peekable();
        for revision in revisions {
            while let Some(read) = reads.next_if(|read| read.revision < revision) {
                self.read(read);
            }
            self.step(revision);
        }
        reads.filter(|read| read.revision <= self.chain.upto).for_each(|read| self.read(read));
        let refused = |record: &&Record| matches!(record.outcome, Outcome::Conflict | Outcome::Absent);
        let records = self.records;
        for (record, floor) in records.iter().zip(self.floors).filter(|(record, _)| refused(record)) {
            self.refused(record, *floor);
        }
    }

    fn is_blind(&self, revision: u64) -> bool {
        self.chain.blind.iter().any(|(after, upto)| *after < revision && revision <= *upto)
    }

    fn step(&mut self, revision: u64) {
        let chain = self.chain;
        let write = self.writes.get(&revision).map(|at| &self.records[*at]);
        match (chain.links.get(&revision), write) {
            (Some(Link::Listed(rows)), _) => self.list(revision, rows),
            (_, Some(_)) if self.is_blind(revision) => {}
            (Some(Link::Changes(changes)), Some(write)) => self.acknowledged(revision, write, changes),
            (None, Some(write)) => self.acknowledged(revision, write, &[]),
            (Some(Link::Changes(changes)), None) => {
                changes.iter().for_each(|change| self.unacknowledged(revision, change));
            }
            (None, None) => {}
        }
    }

    /// An acknowledged write must do what the model says, have been answered so, and be in the sequence of changes.
    fn acknowledged(&mut self, revision: u64, write: &Record, changes: &'a [Change]) {
        let effect = self.table.effect(&write.op, revision);
        let expected = match &effect {
            Effect::Refused(why) => {
                return self.findings.push(format!("{}, but the table then says {why:?}", told(write)));
            }
            Effect::Put(row) => vec![Change::Put(row.clone())],
            Effect::Delete(row) => vec![Change::Deleted(row.process.clone())],
            Effect::Nothing => vec![],
        };
        if changes != expected {
            self.findings.push(format!("{}, but what changed there is {changes:?}, not {expected:?}", told(write)));
        }
        let generation = match (&effect, write.op.process().and_then(|name| self.table.0.get(name))) {
            (Effect::Put(row) | Effect::Delete(row), _) | (_, Some(row)) => row.generation,
            (_, None) => 0,
        };
        if let Some(row) = write.rows.first().filter(|row| row.generation != generation) {
            self.findings.push(format!("{} as generation {}, not {generation}", told(write), row.generation));
        }
        changes.iter().for_each(|change| self.take(revision, change));
    }

    /// A change without an acknowledged write must be a write whose answer was lost.
    fn unacknowledged(&mut self, revision: u64, change: &'a Change) {
        let fits = |(at, record): &(usize, &Record)| {
            record.outcome == Outcome::Unknown
                && record.op.is_write()
                && self.floors[*at] < revision
                && !self.happened.contains(at)
                && match self.table.effect(&record.op, revision) {
                    Effect::Put(row) => *change == Change::Put(row),
                    Effect::Delete(row) => *change == Change::Deleted(row.process),
                    Effect::Nothing | Effect::Refused(_) => false,
                }
        };
        match self.records.iter().enumerate().find(fits) {
            Some((at, _)) => {
                self.happened.insert(at);
            }
            None => self.findings.push(format!(
                "{change:?} at revision {revision} is nothing that was asked for and not \
                                                answered{}",
                self.asked_otherwise(change)
            )),
        }
        self.take(revision, change);
    }

    /// Who wrote this value, for people.
    fn asked_otherwise(&self, change: &Change) -> String {
        let Change::Put(row) = change else { return String::new() };
        let wrote = |record: &&Record| matches!(&record.op, Op::Put { value, .. } if *value == row.value);
        self.records.iter().find(wrote).map(|record| format!("; {}", told(record))).unwrap_or_default()
    }

    fn take(&mut self, revision: u64, change: &'a Change) {
        let (process, row) = match change {
            Change::Put(row) => (&row.process, Some(row.clone())),
            Change::Deleted(process) => (process, None),
        };
        match &row {
            Some(row) => self.table.0.insert(process.clone(), row.clone()),
            None => self.table.0.remove(process),
        };
        self.past.entry(process).or_default().push((revision, row));
    }

    /// All processes there are, after a stretch of which only the answers are known: what was acknowledged in it must
    /// be there, or something later.
    fn list(&mut self, revision: u64, rows: &'a [Row]) {
        self.table.0 = rows.iter().map(|row| (row.process.clone(), row.clone())).collect();
        let Some((after, _)) = self.chain.blind.iter().find(|(_, upto)| *upto == revision) else { return };
        let may_be_gone = |process: &str, since: u64| {
            self.records.iter().any(|record| {
                matches!(&record.op, Op::Delete { process: other, .. } if other == process)
                    && (record.outcome == Outcome::Unknown
                        || record.outcome == Outcome::Ok && record.revision >= since && record.revision <= revision)
            })
        };
        for (at, write) in self.writes.range(after + 1..=revision).map(|(at, index)| (*at, &self.records[*index])) {
            let Op::Put { process, .. } = &write.op else { continue };
            let there = self.table.0.get(process).is_some_and(|row| row.revision >= at);
            let unchanged = write.rows.is_empty()
                || self
                    .table
                    .0
                    .get(process)
                    .is_some_and(|row| matches!(&write.op, Op::Put { value, .. } if *value == row.value));
            if !there && !unchanged && !may_be_gone(process, at) {
                self.findings.push(format!("{}, but it is lost at revision {revision}", told(write)));
            }
        }
        // What is not in the list is gone.
        for states in self.past.values_mut().filter(|states| states.last().is_some_and(|(_, row)| row.is_some())) {
            states.push((revision, None));
        }
        for row in rows {
            let states = self.past.entry(&row.process).or_default();
            states.pop_if(|(at, _)| *at == revision);
            states.push((revision, Some(row.clone())));
        }
    }

    fn read(&mut self, read: &Record) {
        if self.is_blind(read.revision) && !matches!(self.chain.links.get(&read.revision), Some(Link::Listed(_))) {
            return;
        }
        let meant = |row: &&Row| read.op.process().is_none_or(|process| process == row.process);
        let expected: Vec<&Row> = self.table.0.values().filter(meant).collect();
        let mut shown: Vec<&Row> = read.rows.iter().collect();
        shown.sort_by(|one, other| one.process.cmp(&other.process));
        if shown != expected {
            let differs: Vec<_> = shown.iter().filter(|row| !expected.contains(row)).collect();
            let missing: Vec<_> = expected.iter().filter(|row| !shown.contains(row)).collect();
            self.findings.push(format!("{} and shows {differs:?} in the place of {missing:?}", told(read)));
        }
    }

    /// Somewhere between what was known at the call and the answer, the refusal was right.
    fn refused(&mut self, record: &Record, floor: u64) {
        let Some(process) = record.op.process() else { return };
        let window = floor..=record.revision;
        let blind = |(after, upto): &(u64, u64)| *after < *window.end() && *window.start() <= *upto;
        if record.revision > self.chain.upto || self.chain.blind.iter().any(blind) {
            return;
        }
        let past = self.past.get(process).map(Vec::as_slice).unwrap_or_default();
        let begin = past.partition_point(|(revision, _)| *revision <= floor);
        let at_floor = begin.checked_sub(1).and_then(|at| past[at].1.as_ref());
        let later = past[begin..].iter().take_while(|(revision, _)| window.contains(revision));
        let mut states = std::iter::once(at_floor).chain(later.map(|(_, row)| row.as_ref()));
        if !states.any(|before| refusal(&record.op, before) == Some(record.outcome)) {
            self.findings.push(format!("{}, but from {floor} on the table gave no reason", told(record)));
        }
    }
}

#[cfg(test)]
mod tests;
