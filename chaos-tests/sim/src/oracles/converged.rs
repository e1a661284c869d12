//! Promise 10: once faults end, the fleet converges by itself. Judged by the table and the kernels, and by what the leader
//! has heard: both must say the same. Nothing of what is over is left behind, or a machine would fill up in time.

use std::collections::BTreeMap;

use minder_model::{InstanceStatus, OwedWhy, Phase, Revision, reconcile};

use crate::{
    ask::{host_name, place_of, process_name},
    world::World,
};

impl World {
    /// What is still not as it should be.
    pub fn not_converged(&self) -> Option<String> {
        let index = self.agreement.log.len();
        if let Some(behind) = self.managers.iter().position(|manager| !manager.up || manager.applied < index) {
            return Some(format!("manager {behind} has applied {} of {index}", self.managers[behind].applied));
        }
        let leader = self.agreement.leader?;
        if self.managers[leader].leading != Some(self.agreement.term) || !self.managers[leader].ready {
            return Some(format!("manager {leader} does not serve yet"));
        }
        (0..self.hosts.len()).find_map(|host| self.host_not_converged(leader, host))
    }

    fn host_not_converged(&self, leader: usize, host: usize) -> Option<String> {
        let Some(slave) = &self.hosts[host].slave else { return Some(format!("host {host} has no slave")) };
        let (revision, slice) = self.oracles.model.slice(host, self.oracles.model.index());
        if slave.view.revision.0 != revision && !(slice.is_empty() && slave.view.revision == Revision::ZERO) {
            return Some(format!("host {host} acts on revision {} and should on {revision}", slave.view.revision));
        }
        let kernel = &self.hosts[host].kernel;
        for (place, item) in &slice {
            let key = minder_model::InstanceKey::new(process_name(place.0), place.1);
            let Some(status) = slave.view.statuses.get(&key) else {
                if item.running {
                    return Some(format!("{key} on host {host} is not begun with"));
                }
                continue;
            };
            let mains: Vec<_> = kernel.living(&key).filter(|(_, process)| process.main).collect();
            let right = mains.len() == 1 && kernel.truths[&mains[0].1.leaf].launched == item.run.launched();
            let given_up = matches!(status.phase, Phase::Exited | Phase::Fatal) && mains.is_empty();
            if item.running && !(right && status.phase == Phase::Running) && !given_up {
                return Some(format!("{key} on host {host} should run: {}, {} programs", status.phase, mains.len()));
            }
        }
        let unwanted = kernel
            .processes
            .iter()
            .find(|(_, process)| slice.get(&place_of(&process.leaf.0)).is_none_or(|item| !item.running));
        if let Some((pid, process)) = unwanted {
            return Some(format!("pid {pid} of {} lives on host {host} and nobody wants it", process.leaf.0));
        }
        self.left_behind(host).or_else(|| self.leader_does_not_know(leader, host))
    }

    /// What a host still keeps of an incarnation that is over, or of an instance that nobody wants.
    fn left_behind(&self, host: usize) -> Option<String> {
        let slave = self.hosts[host].slave.as_ref()?;
        let kernel = &self.hosts[host].kernel;
        let over = kernel.bundles.keys().find(|leaf| kernel.members(leaf).next().is_none());
        if let Some((key, incarnation)) = over {
            return Some(format!("the bundle of {key} start {incarnation} is left on host {host}, which is over"));
        }
        let assigned = &slave.ledger.assignment.items;
        let unit = slave.units.keys().find(|key| !assigned.contains_key(*key))?;
        Some(format!("{unit} is not assigned to host {host} and not forgotten there"))
    }

    fn leader_does_not_know(&self, leader: usize, host: usize) -> Option<String> {
        let name = host_name(host);
        let state = &self.managers[leader].state;
        let Some(known) = self.managers[leader].fleet.hosts.get(&name) else {
            return Some(format!("manager {leader} has not heard of host {host}"));
        };
        let told = known.observed.statuses.iter().map(|status| (status.key.clone(), status.clone()));
        let statuses: BTreeMap<_, InstanceStatus> = told.collect();
        let owed = reconcile(&state.assignment(&name), &statuses);
        let open = owed.iter().find(|owed| !matches!(owed.why, OwedWhy::Failed));
        if let Some(owed) = open {
            let phase = statuses.get(&owed.key).map(|status| status.phase);
            return Some(format!("{} on host {host} owes {:?} to manager {leader}, {phase:?}", owed.key, owed.why));
        }
        let slave = self.hosts[host].slave.as_ref()?;
        let same = statuses.len() == slave.view.statuses.len()
            && statuses.iter().all(|(key, status)| slave.view.statuses.get(key).is_some_and(|own| **own == *status));
        (!same).then(|| format!("manager {leader} has other statuses of host {host} than the host itself"))
    }
}
