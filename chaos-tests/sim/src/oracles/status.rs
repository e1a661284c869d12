//! Promise 9: the status shown is true or says how old it is, and generations never go back.

use std::collections::BTreeMap;

use minder_fleet::{Condition, show};
use minder_model::{Incarnation, InstanceKey, Phase};

use crate::{ask::place_of, host::Slave, planted::Planted, world::World};

/// What a leader shows of a host that it calls connected was true at most this long ago: the suspect limit, a pause of its
/// slave, a sync of two seconds and the way.
const SHOWN_MS_MAX: u64 = 14_000;
/// The longest single pause, which is part of that. They may follow each other without a break.
const PAUSE_MS_MAX: u64 = 8_000;
/// What a slave itself shows of a running process: two slow syncs. A pause comes on top of that.
const SEEN_MS_MAX: u64 = 4_000;

/// Generations as each host showed them last, with the revision it held.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<(usize, InstanceKey), (u64, u64)>);

fn says_dead(phase: Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Exited | Phase::Fatal | Phase::Backoff)
}

fn says_alive(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Ready)
}

impl Slave {
    /// For how long it has got no time since then: it cannot know better meanwhile.
    pub(super) fn slept(&self, since: u64, now: u64) -> u64 {
        let pauses = self.pauses.iter();
        pauses.map(|(from, until)| now.min(*until).saturating_sub(since.max(*from))).sum()
    }
}

impl World {
    /// A host shows something new.
    pub fn judge_view(&mut self, host: usize) {
        self.judge_generations(host);
        self.judge_revision(host);
        self.judge_exits(host);
        self.judge_dead_are_dead(host);
    }

    fn judge_dead_are_dead(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let kernel = &self.hosts[host].kernel;
        let lies = slave.view.statuses.iter().find_map(|(key, status)| {
            let (pid, process) = kernel.living(key).next().filter(|_| says_dead(status.phase))?;
            let promise = if process.main { 9 } else { 11 };
            Some((promise, format!("{key} on host {host} is shown as {} while pid {pid} of it lives", status.phase)))
        });
        lies.into_iter().for_each(|(promise, what)| self.fail(promise, what));
    }

    fn judge_generations(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let held = slave.view.revision.0;
        // What is shown for the first time may have begun under anything that came in since the last time.
        let shown_before = self.oracles.revisions.shown(host);
        let mut wrong = None;
        let shown: Vec<(InstanceKey, u64)> =
            slave.view.statuses.iter().map(|(key, status)| (key.clone(), status.generation.0)).collect();
        self.oracles.seen.0.retain(|(other, key), _| *other != host || slave.view.statuses.contains_key(key));
        for (key, generation) in shown {
            let last = self.oracles.seen.0.entry((host, key.clone())).or_insert((generation, shown_before));
            // What an old incarnation runs is shown until its end, under whatever is held by then.
            let (before, since) =
                if last.0 == generation { continue } else { std::mem::replace(last, (generation, shown_before)) };
            if before < generation {
                continue;
            }
            let items = self.oracles.model.items_between(host, place_of(&key), since, held.max(since));
            if items.iter().all(Option::is_some) {
                wrong = Some(format!("{key} on host {host} is shown at generation {generation} after {before}"));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(9, what));
    }

    /// Once a second: what slaves show as running runs, and what is to run again begins.
    pub fn look(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(slave) = self.hosts[host].slave.as_ref().filter(|slave| slave.paused_until <= self.now) else {
                continue;
            };
            let lies = slave.view.statuses.iter().find_map(|(key, status)| {
                let gone_ms = self.gone_for(host, key).filter(|_| says_alive(status.phase))?;
                (gone_ms > SEEN_MS_MAX + slave.slept(self.now - gone_ms, self.now))
                    .then(|| format!("{key} on host {host} is shown as {} and is gone for {gone_ms} ms", status.phase))
            });
            lies.into_iter().for_each(|what| self.fail(9, what));
            self.judge_waits(host);
        }
    }

    /// For how long no program of an instance has lived.
    fn gone_for(&self, host: usize, key: &InstanceKey) -> Option<u64> {
        let kernel = &self.hosts[host].kernel;
        if kernel.living(key).any(|(_, process)| process.main) {
            return None;
        }
        let starts = (key.clone(), Incarnation::ZERO)..=(key.clone(), Incarnation(u64::MAX));
        let ends = kernel.truths.range(starts).map(|(_, truth)| truth.ended_at);
        Some(self.now.saturating_sub(ends.max()?))
    }

    /// For how long a program of an instance has lived without a break.
    fn alive_for(&self, host: usize, key: &InstanceKey) -> Option<u64> {
        let kernel = &self.hosts[host].kernel;
        let (_, process) = kernel.living(key).find(|(_, process)| process.main)?;
        Some(self.now.saturating_sub(kernel.truths.get(&process.leaf)?.began_at))
    }

    /// What a leader would tell a user now.
    pub fn judge_shown(&mut self, manager: usize) {
        let known = &self.managers[manager];
        let Some(silence) = &known.fleet.silence else { return };
        // A leader that got no time itself counts no silence from before it woke.
        let away = known.paused_until > 0 && self.now < known.paused_until + SHOWN_MS_MAX;
        let shown_ms_max = SHOWN_MS_MAX + if away { 8_000 } else { 0 };
        let mut wrong = None;
        for (name, entry) in &known.fleet.hosts {
            let host = Self::host_number(name);
            let standing = silence.standing(name, self.now);
            let (slave, observed) = (self.hosts[host].slave.as_ref(), &entry.observed);
            let taken = observed.revision >= known.state.assignment_revision(name);
            let registered = known.state.host(name).is_some();
            for (key, item) in known.state.items(name) {
                let status = observed.statuses.get(key);
                let mut shown = show(item, status, &standing, taken, observed.complete, registered).phase;
                if self.planted == Some(Planted::LostShownStopped) && shown == Phase::Lost {
                    shown = Phase::Stopped;
                }
                let silent = standing.condition == Condition::Lost && registered;
                let connected = standing.condition == Condition::Connected && status.is_some();
                let slept = |ms: u64| slave.map_or(0, |slave| slave.slept(self.now - ms, self.now));
                let shown_ms_max = |ms: u64| shown_ms_max + slept(ms).saturating_sub(PAUSE_MS_MAX);
                let long = |ms: Option<u64>| ms.is_some_and(|ms| ms > shown_ms_max(ms));
                let lie = (silent && shown != Phase::Lost)
                    || (connected && says_dead(shown) && long(self.alive_for(host, key)))
                    || (connected && says_alive(shown) && long(self.gone_for(host, key)));
                if lie {
                    wrong = Some(format!(
                        "manager {manager} shows {key} on host {host}, which it calls {}, as {shown}; alive for {:?} ms, \
                         gone for {:?} ms",
                        standing.condition.word(),
                        self.alive_for(host, key),
                        self.gone_for(host, key)
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.fail(9, what));
    }
}
