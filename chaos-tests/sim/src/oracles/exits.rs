//! Promise 8: the cause of an exit is known, or shown as unknown, and then nobody can have known it.

use std::collections::BTreeMap;

use minder_model::{ExitRecord, ExitStatus, InstanceKey};

use crate::{
    kernel::{End, Truth},
    world::World,
};

/// The last exit of each instance that was judged.
#[derive(Debug, Default)]
pub struct Exits(BTreeMap<(usize, InstanceKey), (u64, u64)>);

impl World {
    /// A host shows the exits of its instances.
    pub(super) fn judge_exits(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let mut wrong = None;
        for (key, status) in &slave.view.statuses {
            let Some(exit) = status.exits.last() else { continue };
            let mark = (exit.incarnation.0, exit.ended_at_ms);
            if self.oracles.exits.0.insert((host, key.clone()), mark) == Some(mark) {
                continue;
            }
            let truth = self.hosts[host].kernel.truths.get(&(key.clone(), exit.incarnation));
            if !is_true(exit, truth) {
                wrong = Some(format!(
                    "{key} start {} on host {host} is shown as ended by {:?}; in truth: {truth:?}",
                    exit.incarnation, exit.status
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(8, what));
    }
}

fn is_true(exit: &ExitRecord, truth: Option<&Truth>) -> bool {
    match (exit.status, truth) {
        _ if exit.start_failure.is_some() => truth.is_none_or(|truth| truth.unseen),
        (ExitStatus::Unknown, None) => true,
        (_, None) => false,
        (ExitStatus::Code(code), Some(truth)) => truth.end == Some(End::Code(code)),
        (ExitStatus::Signal(signal, _), Some(truth)) => truth.end == Some(End::Signal(signal.number())),
        // Without its shim nobody can tell an end before a reboot from one by it.
        (ExitStatus::Reboot, Some(truth)) => truth.end == Some(End::Reboot) || truth.unseen,
        (ExitStatus::Unknown, Some(truth)) => truth.unseen || truth.end == Some(End::Reboot),
        (ExitStatus::OutOfMemory, Some(_)) => false,
    }
}
