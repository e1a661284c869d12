//! Promise 7: restarts follow the policy, never more than the limit allows, never sooner than the delay. That none is
//! forgotten shows when the world must converge.

use std::collections::BTreeMap;

use minder_model::InstanceKey;

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

/// When, why and as which start a program began.
type Start = (u64, Intent, Leaf);

/// Starts of instances since somebody last said something about them.
#[derive(Debug, Default)]
pub struct Restarts {
    starts: BTreeMap<(usize, InstanceKey), Vec<Start>>,
    local_words: BTreeMap<(usize, InstanceKey), u64>,
    /// Restarts by policy that were judged.
    pub judged: u64,
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
