//! What one slave has reported: the statuses of its instances and the assignment it acts on.

use alloc::{collections::BTreeMap, vec::Vec};

use minder_model::{Digest, InstanceKey, InstanceStatus, Phase, Revision};

/// The latest report of one host, put together from full and partial ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every instance the slave knows.
    pub statuses: BTreeMap<InstanceKey, InstanceStatus>,
    /// Revision of the assignment it acts on.
    pub revision: Revision,
    /// Digest of that assignment.
    pub digest: Digest,
    /// A full report has come in; until then nothing can be said of instances that are not in here.
    pub complete: bool,
}

/// One instance whose phase is another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// Which instance.
    pub key: InstanceKey,
    /// Its phase before, if it was known.
    pub before: Option<Phase>,
    /// Its status now; `None` when it is gone.
    pub now: Option<InstanceStatus>,
}

impl Observed {
    /// Takes in a report. Gives the instances whose phase changed, in order of keys.
    pub fn take(
        &mut self,
        full: bool,
        statuses: Vec<InstanceStatus>,
        gone: &[InstanceKey],
        revision: Revision,
        digest: Digest,
    ) -> Vec<PhaseChange> {
        let before = self.statuses.clone();
        if full {
            self.statuses.clear();
            self.complete = true;
        }
        self.statuses.extend(statuses.into_iter().map(|status| (status.key.clone(), status)));
        for key in gone {
            self.statuses.remove(key);
        }
        (self.revision, self.digest) = (revision, digest);
        self.changes_since(&before)
    }

    fn changes_since(&self, before: &BTreeMap<InstanceKey, InstanceStatus>) -> Vec<PhaseChange> {
        let changed = self.statuses.iter().filter_map(|(key, now)| {
            let phase_before = before.get(key).map(|status| status.phase);
            (phase_before != Some(now.phase)).then(|| PhaseChange {
                key: key.clone(),
                before: phase_before,
                now: Some(now.clone()),
            })
        });
        let gone = before
            .iter()
            .filter(|(key, _)| !self.statuses.contains_key(*key))
            .map(|(key, status)| PhaseChange { key: key.clone(), before: Some(status.phase), now: None });
        let mut changes: Vec<PhaseChange> = changed.chain(gone).collect();
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        changes
    }
}
