//! Promise 4: a process outlives slaves, managers and network; only its spec, its operator, its policy or its machine ends
//! it.

use crate::{
    ask::place_of,
    kernel::{End, Leaf},
    model::Item,
    world::World,
};

impl World {
    /// A slave tells an incarnation to end: there must be a reason in what it holds.
    pub fn judge_told(&mut self, host: usize, leaf: &Leaf) {
        let Some(intent) = self.oracles.intents.get(&(host, leaf.clone())).cloned() else { return };
        let Some(slave) = &self.hosts[host].slave else { return };
        let held = slave.ledger.assignment.revision.0;
        let stopped_here = self.oracles.local_stops.contains_key(&(host, leaf.0.clone()))
            || slave.units.get(&leaf.0).is_some_and(|unit| unit.supervisor.record().local_stop.is_some())
            || self.oracles.restarts.had_local_word(host, &leaf.0, intent.at);
        let place = place_of(&leaf.0);
        let begun = intent.item;
        let reason = |item: &Option<Item>| match (item, begun) {
            (Some(item), Some(begun)) => {
                !item.running || item.run.launched() != begun.run.launched() || item.restart_at > begun.restart_at
            }
            (None, _) | (_, None) => true,
        };
        let items = self.oracles.model.items_between(host, place, intent.revision, held.max(intent.revision));
        if !stopped_here && !items.iter().any(reason) {
            let what = format!(
                "{} start {} on host {host} is told to end, and nothing from revision {} to {held} says so",
                leaf.0, leaf.1, intent.revision
            );
            self.fail(4, what);
        }
    }

    /// A process ended.
    pub fn judge_end(&mut self, host: usize, leaf: &Leaf, main: bool) {
        let Some(truth) = self.hosts[host].kernel.truths.get(leaf) else { return };
        if main && truth.end == Some(End::Signal(9)) && !truth.told && !truth.killed {
            let what = format!("{} start {} on host {host} was killed, and nobody had said so", leaf.0, leaf.1);
            self.fail(4, what);
        }
    }
}
