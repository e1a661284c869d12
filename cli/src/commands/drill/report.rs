//! What came of a drill, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};

use minder_client::v1::DrillKind;
use serde::Serialize;

use super::{
    judge::{Gap, Outcome, Promise, Verdict},
    observed::{Observed, What, WriteEnd},
};
use crate::{
    context::Context,
    failure::Failure,
    flags::Output,
    screen::{Screen, Tone, put},
    views::print,
    words::{count, lived},
};

/// The report. Its names are an interface: scripts rely on them.
#[derive(Debug, Serialize)]
pub struct Report {
    drill: &'static str,
    what: String,
    outcome: Outcome,
    leader: Change,
    term: Change,
    writes: Writes,
    reads: Reads,
    /// How long after the harm each host was connected again.
    hosts_back_ms: BTreeMap<String, u64>,
    /// How long after the harm the one it was done to was there again.
    #[serde(skip_serializing_if = "Option::is_none")]
    back_ms: Option<u64>,
    instances_looked_at: usize,
    log: Log,
    promises: Vec<Promise>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inconclusive: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Change {
    before: u64,
    after: u64,
}

#[derive(Debug, Serialize)]
struct Writes {
    writers: usize,
    acknowledged: usize,
    unknown: usize,
    failed: usize,
    said_again: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    slowest_ms: u64,
}

#[derive(Debug, Serialize)]
struct Reads {
    answered: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    slowest_ms: u64,
}

#[derive(Debug, Serialize)]
struct Log {
    /// Raft entries from the drill's begin until its writers had stopped.
    entries: u64,
    /// Those that changed something: its own, those of hosts, those of others.
    by_the_drill: usize,
    by_hosts: usize,
    by_others: usize,
    /// Those that changed nothing: what the drill said again, new leaders' first entries, retries.
    without_change: u64,
}

impl Report {
    pub fn new(what: String, seen: &Observed, verdict: Verdict) -> Self {
        let ended = |end: WriteEnd| seen.writes.iter().filter(move |write| write.end == end).count();
        let after_ms = |at_us: u64| at_us.saturating_sub(seen.fault_us) / 1_000;
        let leader = |leader: Option<u64>| leader.unwrap_or_default();
        let changes = |is: fn(&What) -> bool| seen.changes.iter().filter(|change| is(&change.what)).count();
        let entries = seen.after.last_index.saturating_sub(seen.first_index);
        let changing: BTreeSet<u64> = seen.changes.iter().map(|change| change.revision).collect();
        Self {
            drill: match seen.kind {
                DrillKind::LeaderKill => "leader-kill",
                DrillKind::Partition => "partition",
                DrillKind::SlaveKill => "slave-kill",
                DrillKind::Unspecified => "none",
            },
            what,
            outcome: verdict.outcome,
            leader: Change { before: leader(seen.before.leader), after: leader(seen.after.leader) },
            term: Change { before: seen.before.term, after: seen.after.term },
            writes: Writes {
                writers: seen.writers,
                acknowledged: seen.acknowledged().count(),
                unknown: ended(WriteEnd::Unknown),
                failed: ended(WriteEnd::Failed),
                said_again: seen.repeats.len(),
                gap: Gap::of_writes(seen),
                slowest_ms: slowest_ms(seen.acknowledged().map(|(write, ..)| (write.called_us, write.answered_us))),
            },
            reads: Reads {
                answered: seen.reads.len(),
                failed: seen.reads_failed,
                gap: Gap::of_reads(seen),
                slowest_ms: slowest_ms(seen.reads.iter().map(|read| (read.called_us, read.answered_us))),
            },
            hosts_back_ms: seen.reattached.iter().map(|(host, at_us)| (host.clone(), after_ms(*at_us))).collect(),
            back_ms: seen.back_us.map(after_ms),
            instances_looked_at: seen.before.instances.values().filter(|instance| instance.runs).count(),
            log: Log {
                entries,
                by_the_drill: changes(|what| matches!(what, What::Own { .. })),
                by_hosts: changes(|what| matches!(what, What::Host(_))),
                by_others: changes(|what| matches!(what, What::Process(_))),
                without_change: entries.saturating_sub(changing.len() as u64),
            },
            promises: verdict.promises,
            inconclusive: verdict.inconclusive,
        }
    }

    /// Writes it to standard output.
    pub fn show(&self, context: &Context) -> Result<(), Failure> {
        match context.output {
            Output::Json | Output::Yaml => print(context.output, self)?,
            Output::Name => put(&format!("{}\n", self.word())),
            Output::Table | Output::Wide => put(&self.text(&context.screen)),
        }
        Ok(())
    }

    fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Held => "held",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Broken => "broken",
        }
    }

    fn text(&self, screen: &Screen) -> String {
        let Writes { acknowledged, unknown, failed, said_again, slowest_ms, .. } = &self.writes;
        let lines = [
            ("leader", self.leader_words()),
            (
                "writes",
                format!(
                    "{acknowledged} acknowledged to {}, {unknown} unknown, {failed} failed, {said_again} said again",
                    count(self.writes.writers as u64, "writer")
                ),
            ),
            ("write gap", gap(self.writes.gap, *slowest_ms)),
            ("reads", format!("{} linearizable, {} failed", self.reads.answered, self.reads.failed)),
            ("read gap", gap(self.reads.gap, self.reads.slowest_ms)),
            ("back", self.back_ms.map_or("not seen".into(), |ms| format!("after {}", lived(ms)))),
            ("hosts", self.hosts_words()),
            ("processes", format!("{} looked at", count(self.instances_looked_at as u64, "running instance"))),
            (
                "entries",
                format!(
                    "{} in the log: {} of this drill, {} of others, {} of hosts, {} that changed nothing",
                    self.log.entries,
                    self.log.by_the_drill,
                    self.log.by_others,
                    self.log.by_hosts,
                    self.log.without_change
                ),
            ),
        ];
        let mut text = format!("{}: {}\n", self.drill, self.what);
        for (name, words) in lines {
            text.push_str(&format!("  {name:<10}{words}\n"));
        }
        for promise in &self.promises {
            let (word, tone) = match promise.outcome {
                Outcome::Held => ("held    ", Tone::Good),
                Outcome::Inconclusive => ("unclear ", Tone::Busy),
                Outcome::Broken => ("BROKEN  ", Tone::Bad),
            };
            text.push_str(&format!("{}{}\n", screen.paint(tone, word), promise.promise));
            promise.why.iter().for_each(|why| text.push_str(&format!("          {why}\n")));
        }
        let (end, tone) = match self.outcome {
            Outcome::Held => ("all promises held", Tone::Good),
            Outcome::Inconclusive => ("inconclusive", Tone::Busy),
            Outcome::Broken => ("a promise broke", Tone::Bad),
        };
        text.push_str(&format!("{}\n", screen.paint(tone, end)));
        self.inconclusive.iter().for_each(|why| text.push_str(&format!("  {why}\n")));
        text
    }

    fn leader_words(&self) -> String {
        let (Change { before, after }, term) = (&self.leader, &self.term);
        match (before == after, term.before == term.after) {
            (true, true) => format!("manager {before} all the time, term {}", term.before),
            _ => format!("manager {before} in term {}, then manager {after} in term {}", term.before, term.after),
        }
    }

    fn hosts_words(&self) -> String {
        let connected = format!("{} connected", count(self.hosts_back_ms.len() as u64, "host"));
        match self.hosts_back_ms.iter().max_by_key(|(_, ms)| **ms) {
            Some((last, ms)) => format!("{connected}, the last one ({last}) after {}", lived(*ms)),
            None => connected,
        }
    }
}

/// Of calls, each with when it was made and when it was answered.
fn slowest_ms(calls: impl Iterator<Item = (u64, u64)>) -> u64 {
    calls.map(|(called_us, answered_us)| answered_us.saturating_sub(called_us)).max().unwrap_or_default() / 1_000
}

fn gap(gap: Option<Gap>, slowest_ms: u64) -> String {
    match gap {
        Some(gap) => format!(
            "{} at the longest ({} before it); the slowest took {}",
            lived(gap.longest_us / 1_000),
            lived(gap.usual_us / 1_000),
            lived(slowest_ms)
        ),
        None => "without end".into(),
    }
}
