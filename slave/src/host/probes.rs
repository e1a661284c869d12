//! From a supervisor's question to one that can be asked here: its variables filled in, its place known.

use std::time::Duration;

use minder_model::{Incarnation, InstanceKey, Probe};
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
        let Some(unit) = self.units.get_mut(key) else { return };
        let Some(live) = unit.supervisor.record().live else { return };
        let files = self.folders.bundle(key, incarnation).files();
        let has_files = self.ledger.run_spec(&live.spec).is_some_and(|run_spec| !run_spec.spec().files.is_empty());
        let place = Place {
            host: &self.settings.name,
            key,
            generation: live.generation,
            incarnation,
            revision: self.ledger.assignment().revision,
            files: Some(files.as_path()).filter(|_| has_files),
        };
        let question = Question {
            key: key.clone(),
            incarnation,
            kind,
            number,
            target: probe.map(|text| expand(text, &place)).target(),
            limit: Duration::from_millis(timeout_ms),
            bundle: self.folders.bundle(key, incarnation).path().into(),
        };
        // A question that is still under way by the same check belongs to a probe of before, and is withdrawn.
        unit.asked.insert(kind, self.probes.ask(question));
    }
}
