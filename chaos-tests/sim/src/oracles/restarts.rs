//! Promise 7: restarts follow the policy, never more than the limit allows, never sooner than the delay, and none is
//! forgotten. The last is judged while things go wrong: at the end an operator's retry helps whatever was forgotten.

use std::collections::BTreeMap;

use minder_model::{InstanceKey, Phase};

use super::Intent;
use crate::{
    ask::{LIMITS, place_of},
    kernel::Leaf,
    model::Item,
    world::World,
};

/// The shortest wait before a restart that any policy here allows, jitter taken off, in milliseconds.
const DELAY_MS_MIN: u64 = 240;
/// The policy that tries again slowly beyond its limit, and how often within its window.
const SLOW: (usize, usize) = (0, 4);

/// The longest wait before a restart that any policy here allows, before one of the slow tries, and what a slave may be
/// late by: two slow syncs.
const DELAY_MS_MAX: u64 = 3_600;
const SLOW_DELAY_MS_MAX: u64 = 12_000;
const LATE_MS_MAX: u64 = 4_000;

/// When, why and as which start a program began.
type Start = (u64, Intent, Leaf);

/// Starts of instances since somebody last said something about them.
#[derive(Debug, Default)]
pub struct Restarts {
    starts: BTreeMap<(usize, InstanceKey), Vec<Start>>,
    local_words: BTreeMap<(usize, InstanceKey), u64>,
    waits: BTreeMap<(usize, InstanceKey), Wait>,
    /// Restarts by policy that were judged.
    pub judged: u64,
}

/// An instance waits for its next start.
#[derive(Debug)]
struct Wait {
    since: u64,
    phase: Phase,
    /// Since when it is shown to wait: one that was forgotten and has come back begins with the same numbers.
    shown_since_ms: u64,
    /// Of its slave: with the next one it may wait once more.
    epoch: u64,
}

impl Restarts {
    /// Whether somebody on the machine has said something about an instance since then.
    pub fn had_local_word(&self, host: usize, key: &InstanceKey, since: u64) -> bool {
        self.local_words.get(&(host, key.clone())).is_some_and(|at| *at >= since)
    }
}

impl World {
    /// Somebody on the machine has said something about an instance.
    pub fn note_local_word(&mut self, at: (usize, InstanceKey)) {
        self.oracles.restarts.local_words.insert(at, self.now);
    }

    pub(super) fn judge_restart(&mut self, host: usize, leaf: &Leaf, intent: &Intent) {
        let at = (host, leaf.0.clone());
        let now = self.now;
        let starts = self.oracles.restarts.starts.entry(at.clone()).or_default();
        let last = starts.last().cloned();
        let by_policy = last.as_ref().is_some_and(|(_, before, _)| {
            let between = self.oracles.model.items_between(host, place_of(&leaf.0), before.revision, intent.revision);
            let same = |item: &Option<Item>| match (item, before.item) {
                (Some(item), Some(begun)) => {
                    item.running
                        && (item.run, item.restart_at, item.retry_at, item.start_at)
                            == (begun.run, begun.restart_at, begun.retry_at, begun.start_at)
                }
                (None, _) | (_, None) => false,
            };
            let local = self.oracles.restarts.local_words.get(&at).is_some_and(|word| *word >= before.at);
            between.iter().all(same) && !local
        });
        let starts = self.oracles.restarts.starts.entry(at).or_default();
        if !by_policy {
            starts.clear();
        }
        starts.push((now, intent.clone(), leaf.clone()));
        if !by_policy || self.options.faults.clock_steps {
            return;
        }
        self.oracles.restarts.judged += 1;
        let times: Vec<u64> =
            self.oracles.restarts.starts[&(host, leaf.0.clone())].iter().map(|(at, ..)| *at).collect();
        if let Some((_, _, before)) = last {
            self.judge_delay(host, leaf, &before);
        }
        self.judge_limit(host, leaf, intent, &times[1..]);
    }

    /// Once a second: whoever waits for its next start does not wait for ever.
    pub(super) fn judge_waits(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let waits = &mut self.oracles.restarts.waits;
        let mut wrong = None;
        for (key, status) in &slave.view.statuses {
            let at = (host, key.clone());
            let delay_ms = match status.phase {
                // What it lacks it waits for as well.
                _ if !slave.view.missing.is_empty() => None,
                Phase::Backoff => Some(DELAY_MS_MAX),
                Phase::Fatal if status.next_start_ms > 0 => Some(SLOW_DELAY_MS_MAX),
                _ => None,
            };
            let Some(delay_ms) = delay_ms else {
                waits.remove(&at);
                continue;
            };
            let (phase, shown_since_ms, epoch) = (status.phase, status.since_ms, slave.epoch);
            let wait = Wait { since: self.now, phase, shown_since_ms, epoch };
            let known = waits.entry(at).or_insert(wait);
            if (known.phase, known.shown_since_ms, known.epoch) != (phase, shown_since_ms, epoch) {
                *known = Wait { since: self.now, phase, shown_since_ms, epoch };
            }
            let ms = self.now - known.since;
            let slept_ms = slave.slept(known.since + delay_ms, self.now);
            if ms > delay_ms + LATE_MS_MAX + slept_ms {
                wrong = Some(format!("{key} on host {host} is shown as {phase} for {ms} ms and is not started again"));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(7, what));
    }

    fn judge_delay(&mut self, host: usize, leaf: &Leaf, before: &Leaf) {
        let Some(truth) = self.hosts[host].kernel.truths.get(before).filter(|_| before != leaf) else { return };
        if truth.end.is_some() && self.now < truth.ended_at + DELAY_MS_MIN {
            let what = format!(
                "{} on host {host} ended at {:.3} s and begins again {} ms later",
                leaf.0,
                truth.ended_at as f64 / 1_000.0,
                self.now - truth.ended_at
            );
            self.fail(7, what);
        }
    }

    fn judge_limit(&mut self, host: usize, leaf: &Leaf, intent: &Intent, times: &[u64]) {
        let Some(item) = intent.item else { return };
        let policy = item.run.policy;
        let Some((limit, window)) = LIMITS[policy] else { return };
        let most = match window {
            // A restart is counted at the end before it, which one more may lie behind.
            Some(_) => limit + 1 + if policy == SLOW.0 { SLOW.1 } else { 0 },
            None => limit,
        };
        let since = window.map_or(0, |window| self.now.saturating_sub(window));
        let restarts = times.iter().filter(|at| **at > since).count();
        if restarts > most {
            let what = format!(
                "{} on host {host} was restarted {restarts} times by policy {policy}, whose limit is {limit} in \
                 {window:?} ms",
                leaf.0
            );
            self.fail(7, what);
        }
    }
}
