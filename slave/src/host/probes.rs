//! From a supervisor's question to one that can be asked here: its variables filled in, its place known.

use std::time::Duration;

use minder_model::{Incarnation, InstanceKey, Probe, Spec};
use minder_supervisor::ProbeKind;

use super::Host;
use crate::{
    os::launch::{Place, expand},
    probe::Question,
};

impl Host {
    /// Asks; the answer comes as news.
    pub(super) fn ask(
        &mut self,
        key: &InstanceKey,
        incarnation: Incarnation,
        (kind, number): (ProbeKind, u64),
        probe: &Probe,
        timeout_ms: u64,
    ) {
        let target = |_: &Spec, place: &Place<'_>| probe.map(|text| expand(text, place)).target();
        let Some(target) = self.filled(key, incarnation, target) else { return };
        let question = Question {
            key: key.clone(),
            incarnation,
            kind,
            number,
            target,
            limit: Duration::from_millis(timeout_ms),
            bundle: self.folders.bundle(key, incarnation).path().into(),
        };
        // A question that is still under way by the same check belongs to a probe of before, and is withdrawn.
        let asked = self.probes.ask(question);
        if let Some(unit) = self.units.get_mut(key) {
            unit.asked.insert(kind, asked);
        }
    }
}
