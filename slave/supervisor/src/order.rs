//! The order of a host's processes: who may start or stop now, and what the others wait for.
//!
//! A start waits for the processes it comes after to be up, a stop for those that come after it and are to stop as well.
//! A process that runs is never ended because of another. Of a ring of processes that wait for each other none starts,
//! and its stops wait for nothing.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use minder_model::{InstanceKey, Phase, ProcessName, Spec, Wanted, order_ring, order_ring_said};

use crate::event::{Event, Gate};

/// How one instance stands, as far as the order goes.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Which.
    pub key: &'a InstanceKey,
    /// What is wanted of it; absent when nothing is any more.
    pub wanted: Option<Wanted>,
    /// Its phase.
    pub phase: Phase,
    /// It runs, and is ready where it has a ready check.
    pub is_up: bool,
    /// It has a live incarnation whose tree was not told to die yet.
    pub holds_others: bool,
    /// It is to start, or with a live incarnation to stop, and does so when it is let.
    pub asks: bool,
    /// What it was last told it waits for.
    pub waits: Option<&'a str>,
    /// It asks before it stops.
    pub is_needed: bool,
    /// What the live incarnation runs, or else the next one.
    pub spec: Option<&'a Spec>,
}

impl Standing<'_> {
    fn comes_after(&self) -> impl Iterator<Item = &ProcessName> {
        self.spec.into_iter().flat_map(Spec::comes_after)
    }
}

/// What each is to be told, of all instances of one host.
pub fn keep_order<'a>(all: impl Iterator<Item = Standing<'a>>) -> Vec<(InstanceKey, Event)> {
    let host = Host::new(all);
    let mut events = Vec::new();
    for standing in host.processes.values().flatten() {
        let is_needed = host.needed_by.contains_key(&standing.key.process);
        if is_needed != standing.is_needed {
            events.push((standing.key.clone(), Event::Needed(is_needed)));
        }
        if standing.asks {
            let waits_for = if standing.holds_others { host.stop_waits(standing) } else { host.start_waits(standing) };
            // What it knows need not be said again.
            if waits_for.is_none() || waits_for.as_deref() != standing.waits {
                let gate = waits_for.map_or(Gate::Open, Gate::Wait);
                events.push((standing.key.clone(), Event::Gate(gate)));
            }
        }
    }
    events
}

struct Host<'a> {
    processes: BTreeMap<&'a ProcessName, Vec<Standing<'a>>>,
    /// The instances that come after each process.
    needed_by: BTreeMap<&'a ProcessName, Vec<Standing<'a>>>,
}

impl<'a> Host<'a> {
    fn new(all: impl Iterator<Item = Standing<'a>>) -> Self {
        let mut host = Self { processes: BTreeMap::new(), needed_by: BTreeMap::new() };
        for standing in all {
            host.processes.entry(&standing.key.process).or_default().push(standing);
            for name in standing.spec.into_iter().flat_map(Spec::comes_after) {
                host.needed_by.entry(name).or_default().push(standing);
            }
        }
        host
    }

    fn of(&self, process: &ProcessName) -> &[Standing<'a>] {
        self.processes.get(process).map_or(&[], Vec::as_slice)
    }

    /// Its instances that are to run.
    fn wanted(&self, process: &ProcessName) -> impl Iterator<Item = &Standing<'a>> {
        self.of(process).iter().filter(|standing| standing.wanted == Some(Wanted::Running))
    }

    fn start_waits(&self, standing: &Standing<'a>) -> Option<String> {
        let spec = standing.spec?;
        let ring = order_ring(&standing.key.process, |name| {
            let specs = self.wanted(name).filter_map(|standing| standing.spec);
            specs.flat_map(Spec::comes_after).filter(|before| self.wanted(before).next().is_some()).collect()
        });
        if let Some(ring) = ring {
            return Some(format!("waits for {}", order_ring_said(&ring[1..])));
        }
        let required = spec.requires.iter().find_map(|name| self.missing(name, true));
        required.or_else(|| spec.after.iter().find_map(|name| self.missing(name, false)))
    }

    /// Why a process is not there yet. Where it is only an order, one that will not come by itself is not waited for.
    fn missing(&self, process: &ProcessName, required: bool) -> Option<String> {
        let assigned = self.of(process).iter().any(|standing| standing.wanted.is_some());
        let why = match self.wanted(process).next() {
            None if !required => return None,
            None if assigned => "which is not wanted running",
            None => "which is not assigned to this host",
            Some(_) => {
                let comes_still = |standing: &&Standing<'a>| {
                    !standing.is_up && (required || !matches!(standing.phase, Phase::Fatal | Phase::Exited))
                };
                match self.wanted(process).find(comes_still)?.phase {
                    Phase::Fatal => "which has given up",
                    Phase::Exited => "which has ended",
                    Phase::Running => "which is not ready yet",
                    Phase::Pending
                    | Phase::Starting
                    | Phase::Ready
                    | Phase::Stopping
                    | Phase::Stopped
                    | Phase::Backoff
                    | Phase::Lost
                    | Phase::Unknown => "which is not running yet",
                }
            }
        };
        Some(format!("waits for {process}, {why}"))
    }

    fn stop_waits(&self, standing: &Standing<'a>) -> Option<String> {
        let process = &standing.key.process;
        let others = self.needed_by.get(process)?;
        let first = others.iter().find(|other| {
            let leaves = other.holds_others && other.wanted != Some(Wanted::Running);
            leaves && !self.lead_to(process, &other.key.process)
        })?;
        Some(format!("stops after {}, which comes after it and stops first", first.key))
    }

    /// Whether `process` comes after `other`, over whatever lies between.
    fn lead_to(&self, process: &ProcessName, other: &ProcessName) -> bool {
        let mut seen: Vec<&ProcessName> = Vec::new();
        let mut open: Vec<&ProcessName> = self.of(process).iter().flat_map(Standing::comes_after).collect();
        while let Some(name) = open.pop() {
            if name == other {
                return true;
            }
            if !seen.contains(&name) {
                seen.push(name);
                open.extend(self.of(name).iter().flat_map(Standing::comes_after));
            }
        }
        false
    }
}
