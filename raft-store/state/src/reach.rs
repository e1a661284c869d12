//! How many instances a command reaches, before it is proposed: every manager applies a command in one step, so one that
//! reaches too many is refused where it comes in, and never has to be refused by the log.

use minder_model::{ProcessName, Spec};

use crate::{
    proposal::{Command, Order},
    state::State,
};

/// To compare a host's labels costs a small part of what an instance costs.
const LOOKS_PER_INSTANCE: u64 = 16;

impl State {
    /// Instances that the command writes, removes or gives an order to, those that stay as they are included; counted up
    /// to `enough`, at a cost that `enough` bounds as well. What a host brings with it is bounded by the host's own limit
    /// and counts nothing.
    pub fn reach(&self, command: &Command, enough: u64) -> u64 {
        match command {
            Command::Apply(specs) => sum(specs.iter().map(|spec| self.reach_of_spec(spec, enough)), enough),
            Command::Delete(names) => sum(names.iter().map(|name| self.instances_of(name, enough)), enough),
            Command::Order(order) => self.reach_of_order(order, enough),
            Command::CreateCluster(..)
            | Command::RegisterHost(..)
            | Command::LabelHost(..)
            | Command::RemoveHost(_)
            | Command::RaiseVersion(_) => 0,
        }
    }

    /// What is there is updated or removed, and what is wanted is there or added. Hosts that a selector looks at and does
    /// not mean cost something, too.
    fn reach_of_spec(&self, spec: &Spec, enough: u64) -> u64 {
        let there = self.instances_of(&spec.name, enough);
        let named = spec.hosts.iter().map(|host| u64::from(spec.instances_on(host)));
        if spec.selector.is_empty() {
            return sum(named, enough).max(there);
        }
        let looked_at = self.hosts.size() as u64 / LOOKS_PER_INSTANCE;
        let meant = self.hosts().filter(|(_, record)| record.has_labels(&spec.selector));
        let selected = meant.map(|(host, _)| u64::from(spec.instances_on(host)));
        sum(core::iter::once(looked_at).chain(named).chain(selected), enough).max(there)
    }

    fn instances_of(&self, process: &ProcessName, enough: u64) -> u64 {
        sum(self.hosts_of(process).map(|host| self.keys_of(process, host).count() as u64), enough)
    }

    fn reach_of_order(&self, order: &Order, enough: u64) -> u64 {
        // One that cannot be read is refused when it is applied.
        let Ok(selection) = order.selection() else { return 0 };
        let enough_of_them = usize::try_from(enough).unwrap_or(usize::MAX);
        self.selected(&selection).take(enough_of_them).count() as u64
    }
}

/// The sum, or `enough` as soon as it is reached.
fn sum(mut counts: impl Iterator<Item = u64>, enough: u64) -> u64 {
    let added = counts.try_fold(0_u64, |sum, count| match sum.saturating_add(count) {
        more if more >= enough => Err(enough),
        less => Ok(less),
    });
    added.unwrap_or_else(|enough| enough)
}
