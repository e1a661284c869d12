//! Promise 5: nothing moves a host to an older revision, neither a manager nor a restart.

use std::collections::BTreeMap;

use crate::world::World;

/// The latest revision that each host has shown.
#[derive(Debug, Default)]
pub struct Revisions(BTreeMap<usize, u64>);

impl Revisions {
    /// What a host has shown last.
    pub fn shown(&self, host: usize) -> u64 {
        self.0.get(&host).copied().unwrap_or_default()
    }
}

impl World {
    /// A host shows what it acts on.
    pub(super) fn judge_revision(&mut self, host: usize) {
        let Some(slave) = &self.hosts[host].slave else { return };
        let shown = slave.view.revision.0;
        let before = self.oracles.revisions.0.insert(host, shown).unwrap_or_default();
        if shown < before {
            self.fail(5, format!("host {host} acts on revision {shown} and has shown {before} before"));
        }
    }
}
