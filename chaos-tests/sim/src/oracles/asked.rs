//! Promise 3: what was stopped stays stopped, what was not asked for does not run. A start must be what the table says at
//! the revision that the slave holds, and what it takes must not be older than what was decided when it last gave a sign of
//! life (the fence): else a start could overtake a stop that somebody was told of.

use std::collections::{BTreeMap, BTreeSet};

use minder_model::InstanceKey;

use crate::{
    ask::place_of,
    kernel::Leaf,
    model::Item,
    network::Node,
    world::{World, say},
};

/// What a slave had in mind when its supervisor asked for a start.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The assignment it held.
    pub revision: u64,
    /// What that says.
    pub item: Option<Item>,
    /// When.
    pub at: u64,
}

/// Instances that were stopped on their machines: when, under which revision, and the last start order that came before.
pub type LocalStops = BTreeMap<(usize, InstanceKey), (u64, u64, u64)>;

impl World {
    /// A supervisor asks for a start.
    pub fn note_intent(&mut self, host: usize, leaf: &Leaf) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let revision = slave.ledger.assignment.revision.0;
        let item = self.oracles.model.item(host, place_of(&leaf.0), revision);
        self.oracles.intents.insert((host, leaf.clone()), Intent { revision, item, at: self.now });
    }

    /// A program begins.
    pub fn judge_start(&mut self, host: usize, leaf: &Leaf) {
        self.oracles.starts += 1;
        self.judge_alone(host, leaf);
        let Some(intent) = self.oracles.intents.get(&(host, leaf.clone())).cloned() else { return };
        let launched = self.hosts[host].kernel.truths[leaf].launched;
        let asked = intent.item.is_some_and(|item| item.running && item.run.launched() == launched);
        if !asked {
            let what = format!(
                "{} start {} on host {host} begins under revision {}, which says {:?}",
                leaf.0, leaf.1, intent.revision, intent.item
            );
            return self.fail(3, what);
        }
        let local = self.oracles.local_stops.get(&(host, leaf.0.clone())).copied();
        if let Some((stopped_at, since, start_at)) = local.filter(|(stopped_at, ..)| *stopped_at < intent.at) {
            let items = self.oracles.model.items_between(host, place_of(&leaf.0), since, intent.revision.max(since));
            if items.iter().any(|item| item.is_none_or(|item| item.start_at > start_at)) {
                self.forget_local(host, &leaf.0);
                return self.judge_restart(host, leaf, &intent);
            }
            let what = format!("{} on host {host} was stopped there and begins start {} by itself", leaf.0, leaf.1);
            say!(self, Node::Host(host), "it was stopped there at {stopped_at}");
            return self.fail(3, what);
        }
        self.judge_restart(host, leaf, &intent);
    }

    /// A local stop, said while that revision was held, is carried out and durable.
    pub fn judge_local_stop(&mut self, host: usize, key: &InstanceKey, revision: u64) {
        let start_at = self.oracles.model.item(host, place_of(key), revision).map_or(0, |item| item.start_at);
        self.oracles.local_stops.entry((host, key.clone())).or_insert((self.now, revision, start_at));
    }

    /// An instance is gone from a machine, and what was said of it there with it.
    pub fn forget_local(&mut self, host: usize, key: &InstanceKey) {
        self.oracles.local_stops.remove(&(host, key.clone()));
    }

    /// A slave's fence lets an assignment through.
    pub fn judge_fresh(&mut self, host: usize, connection: u64, revision: u64) {
        let Some(since) = self.oldest_fresh_heartbeat(host, connection) else { return };
        let decided = self.agreement.decided_at.partition_point(|at| *at < since) as u64;
        let (expected, _) = self.oracles.model.slice(host, decided);
        if revision < expected {
            let what = format!(
                "host {host} lets revision {revision} through, but revision {expected} was decided before the \
                 heartbeats of {:.3} s that it answers to",
                since as f64 / 1_000.0
            );
            self.fail(3, what);
        }
    }

    /// A signal of an order reaches a program.
    pub fn judge_signal(&mut self, host: usize, leaf: &Leaf) {
        let Some(intent) = self.oracles.intents.get(&(host, leaf.clone())) else { return };
        let Some(slave) = &self.hosts[host].slave else { return };
        let held = slave.ledger.assignment.revision.0;
        let items = self.oracles.model.items_between(host, place_of(&leaf.0), intent.revision, held);
        let mut orders: BTreeSet<u64> = items.into_iter().flatten().map(|item| item.signal_at).collect();
        orders.remove(&intent.item.map_or(0, |item| item.signal_at));
        let sent = self.hosts[host].kernel.truths.get(leaf).map_or(0, |truth| truth.signals);
        if sent > orders.len() as u64 {
            let what =
                format!("{} start {} on host {host} got {sent} signals for {} orders", leaf.0, leaf.1, orders.len());
            self.fail(3, what);
        }
    }
}
