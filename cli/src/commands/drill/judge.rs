//! Whether what was seen is what Minder promises. A pure function, so that each promise can be seen broken in a test.

mod gap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use minder_client::v1::DrillKind;
use serde::Serialize;

pub use self::gap::Gap;
use super::observed::{Observed, Target, What};

/// Reasons told of one promise.
const REASONS_MAX: usize = 10;
/// Fewer acknowledged writes before or after the harm say little about either.
const WRITES_MIN: usize = 5;

/// How one promise, or all of it, came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Held,
    /// It could not be seen.
    Inconclusive,
    Broken,
}

/// One promise.
#[derive(Debug, Clone, Serialize)]
pub struct Promise {
    pub promise: &'static str,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// What came of the drill.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub outcome: Outcome,
    pub promises: Vec<Promise>,
    /// Why the drill says nothing, if so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inconclusive: Vec<String>,
}

pub fn judge(seen: &Observed) -> Verdict {
    let promises = vec![
        nothing_lost(seen),
        nothing_twice(seen),
        no_way_back(seen),
        goes_on(seen),
        nothing_moved(seen),
        hosts_are_back(seen),
        hosts_wrote_nothing(seen),
        in_step(seen),
    ];
    let inconclusive = doubts(seen);
    let worst = promises.iter().map(|promise| promise.outcome).max().unwrap_or(Outcome::Held);
    let outcome = if inconclusive.is_empty() { worst } else { worst.max(Outcome::Inconclusive) };
    Verdict { outcome, promises, inconclusive }
}

/// What speaks against a promise, and what could not be seen.
#[derive(Default)]
struct Found {
    against: Vec<String>,
    unclear: Vec<String>,
}

impl Found {
    fn promise(self, promise: &'static str) -> Promise {
        let (outcome, mut why) = match (self.against.is_empty(), self.unclear.is_empty()) {
            (false, _) => (Outcome::Broken, self.against),
            (true, false) => (Outcome::Inconclusive, self.unclear),
            (true, true) => (Outcome::Held, Vec::new()),
        };
        let more = why.len().saturating_sub(REASONS_MAX);
        why.truncate(REASONS_MAX);
        if more > 0 {
            why.push(format!("and {more} more"));
        }
        Promise { promise, outcome, why }
    }
}

/// Each acknowledged write is among the committed changes, under its revision, and the last of them is what is there.
fn nothing_lost(seen: &Observed) -> Promise {
    let mut found = Found::default();
    let acknowledged = seen.acknowledged().count() as u64;
    match &seen.last {
        None => found.against.push(format!("the process is not there, after {acknowledged} acknowledged writes")),
        Some(last) => {
            if last.generation < acknowledged {
                found
                    .against
                    .push(format!("it is at generation {}, after {acknowledged} acknowledged writes", last.generation));
            }
            for (write, _, revision) in seen.acknowledged() {
                if revision > last.revision {
                    found.against.push(format!(
                        "write {} was acknowledged with revision {revision}; the last one there is {}",
                        write.value, last.revision
                    ));
                } else if revision == last.revision && write.value != last.value {
                    found.against.push(format!("revision {revision} is write {}, not {}", last.value, write.value));
                }
            }
        }
    }
    let committed: BTreeMap<u64, &What> = own_changes(seen).map(|change| (change.revision, &change.what)).collect();
    for (write, generation, revision) in seen.acknowledged() {
        let as_acknowledged = What::Own { generation, value: write.value.clone() };
        match committed.get(&revision) {
            Some(what) if **what == as_acknowledged => {}
            Some(_) => {
                found.against.push(format!("revision {revision} was committed as another write than {}", write.value))
            }
            None if seen.changes_whole => {
                found.against.push(format!("write {} (revision {revision}) was never committed", write.value));
            }
            None => {}
        }
    }
    if !seen.changes_whole {
        found.unclear.push("not every committed change was seen".into());
    }
    found.promise("no acknowledged write is lost")
}

fn own_changes(seen: &Observed) -> impl Iterator<Item = &super::observed::ChangeSeen> {
    seen.changes.iter().filter(|change| matches!(change.what, What::Own { .. }))
}

/// Every write is one generation; a repeated request gives the first answer.
fn nothing_twice(seen: &Observed) -> Promise {
    let mut found = Found::default();
    let mut generations = BTreeMap::new();
    for (write, generation, _) in seen.acknowledged() {
        if let Some(other) = generations.insert(generation, &write.value) {
            found.against.push(format!("writes {other} and {} are both generation {generation}", write.value));
        }
    }
    let mut values = BTreeMap::new();
    for change in own_changes(seen) {
        let What::Own { value, .. } = &change.what else { continue };
        if let Some(first) = values.insert(value, change.revision) {
            found.against.push(format!("write {value} was applied at revision {first} and at {}", change.revision));
        }
    }
    let most = (seen.acknowledged().count() + seen.unknown()) as u64;
    if let Some(last) = seen.last.as_ref().filter(|last| last.generation > most) {
        found.against.push(format!("it is at generation {}, after {most} writes at the most", last.generation));
    }
    for repeat in seen.repeats.iter().filter(|repeat| repeat.first != repeat.again) {
        found.against.push(format!(
            "write {} was answered with revision {}, and {} when it was said again",
            repeat.value, repeat.first, repeat.again
        ));
    }
    found.promise("no write is applied twice")
}

/// A read shows at least what was acknowledged, and what was read, before it was asked.
fn no_way_back(seen: &Observed) -> Promise {
    let mut found = Found::default();
    let written = seen.acknowledged().map(|(write, generation, _)| (write.answered_us, generation));
    let read = seen.reads.iter().filter_map(|read| Some((read.answered_us, read.generation?)));
    let mut known: Vec<(u64, u64)> = written.chain(read).collect();
    known.sort_unstable();
    let mut reads: Vec<_> = seen.reads.iter().collect();
    reads.sort_unstable_by_key(|read| read.called_us);
    let (mut at, mut highest) = (0, 0);
    for read in reads {
        while let Some((_, generation)) = known.get(at).filter(|(answered_us, _)| *answered_us < read.called_us) {
            highest = highest.max(*generation);
            at += 1;
        }
        let shown = read.generation.unwrap_or(0);
        if shown < highest {
            found.against.push(format!("a read showed generation {shown} when {highest} was known"));
        }
    }
    if seen.reads.is_empty() {
        found.unclear.push("no read was answered".into());
    }
    found.promise("reads never go back")
}

/// Writes and reads are answered again, whatever the gap.
fn goes_on(seen: &Observed) -> Promise {
    let mut found = Found::default();
    for (what, gap) in [("write", Gap::of_writes(seen)), ("read", Gap::of_reads(seen))] {
        if gap.is_none() {
            found.against.push(format!("no {what} was answered any more"));
        }
    }
    found.promise("writes and reads go on")
}

/// What ran before runs still, as the same incarnation. What somebody else changed meanwhile is not looked at.
fn nothing_moved(seen: &Observed) -> Promise {
    let mut found = Found::default();
    let changed = changed_by_others(seen);
    for (name, before) in seen.before.instances.iter().filter(|(_, instance)| instance.runs) {
        if changed.contains(&before.process) {
            continue;
        }
        match seen.after.instances.get(name) {
            None => found.against.push(format!("{name} is not there any more")),
            Some(after) if (after.pid, after.incarnation) != (before.pid, before.incarnation) && after.pid > 0 => {
                found.against.push(format!(
                    "{name}: pid {} to {}, incarnation {} to {}",
                    before.pid, after.pid, before.incarnation, after.incarnation
                ));
            }
            Some(after) if !after.runs => found.against.push(format!("{name} is {}", after.phase)),
            Some(_) => {}
        }
    }
    found.promise("no process is restarted or lost")
}

fn changed_by_others(seen: &Observed) -> BTreeSet<&String> {
    let processes = seen.changes.iter().filter_map(|change| match &change.what {
        What::Process(name) => Some(name),
        What::Own { .. } | What::Host(_) => None,
    });
    processes.collect()
}

fn hosts_are_back(seen: &Observed) -> Promise {
    let mut found = Found::default();
    for host in seen.hosts_expected().filter(|host| !seen.reattached.contains_key(*host)) {
        found.against.push(format!("{host} is not connected again"));
    }
    found.promise("all hosts are connected again")
}

/// A change of leader and a slave that returns cost no entry.
fn hosts_wrote_nothing(seen: &Observed) -> Promise {
    let mut found = Found::default();
    for change in &seen.changes {
        if let What::Host(host) = &change.what {
            found.against.push(format!("host {host} was written (revision {})", change.revision));
        }
    }
    if !seen.changes_whole {
        found.unclear.push("not every committed change was seen".into());
    }
    found.promise("hosts that return write nothing")
}

/// At one index all managers have one state.
fn in_step(seen: &Observed) -> Promise {
    let mut found = Found::default();
    let mut at: BTreeMap<u64, BTreeMap<&str, BTreeSet<u64>>> = BTreeMap::new();
    for stand in &seen.stands {
        at.entry(stand.applied).or_default().entry(&stand.hash).or_default().insert(stand.manager);
    }
    for (applied, hashes) in at.iter().filter(|(_, hashes)| hashes.len() > 1) {
        let each: Vec<String> = hashes.iter().map(|(hash, managers)| format!("{managers:?} {hash:.12}")).collect();
        found.against.push(format!("at index {applied} the states differ: {}", each.join(", ")));
    }
    let compared: BTreeSet<u64> = at
        .values()
        .map(|hashes| hashes.values().flatten().copied().collect::<BTreeSet<u64>>())
        .filter(|managers| managers.len() > 1)
        .flatten()
        .collect();
    for manager in seen.before.managers.iter().filter(|manager| !compared.contains(manager)) {
        if seen.before.managers.len() > 1 {
            found.unclear.push(format!("manager {manager} was never seen at the index of another one"));
        }
    }
    found.promise("managers are in step")
}

/// What the drill would have to show and did not.
fn doubts(seen: &Observed) -> Vec<String> {
    let mut doubts = Vec::new();
    let count =
        |after: bool| seen.acknowledged().filter(|(write, ..)| (write.answered_us >= seen.fault_us) == after).count();
    for (when, after) in [("before", false), ("after", true)] {
        let writes = count(after);
        if writes < WRITES_MIN {
            doubts.push(format!("only {writes} writes were acknowledged {when} it"));
        }
    }
    let (harmed, back) = match (&seen.target, seen.kind) {
        (Target::Host(host), _) => {
            let text = format!("the slave of {host} was not seen to begin anew");
            (text.clone(), text)
        }
        (Target::Manager { id, leads: true, .. }, DrillKind::LeaderKill) => {
            (format!("nobody else led after manager {id}"), format!("manager {id} was not seen to come back"))
        }
        (Target::Manager { id, leads: true, .. }, _) => {
            (format!("nobody else led after manager {id}"), format!("manager {id} was not seen to be reached again"))
        }
        (Target::Manager { id, leads: false, .. }, _) => {
            (format!("nobody was seen to miss manager {id}"), format!("manager {id} was not seen to be reached again"))
        }
    };
    if seen.harmed_us.is_none() {
        doubts.push(harmed);
    }
    if seen.back_us.is_none() && doubts.last() != Some(&back) {
        doubts.push(back);
    }
    doubts
}
