//! Watches of the desired state, after manager/src/history.rs and manager/src/control/watch.rs: each manager keeps a ring
//! of what it applied, and a watcher resumes at any manager from where it was.

use std::collections::{BTreeMap, VecDeque};

use minder_model::Revision;
use minder_state::Change;

use crate::{
    ask::{ZONE, number_of},
    model::Page,
    operators::page_of,
    planted::Planted,
    world::{Event, World},
};

/// Revisions that a ring keeps; few, so that watchers fall out of it.
const KEPT_MAX: usize = 12;

/// One manager's latest changes.
#[derive(Debug, Default)]
pub struct Ring {
    kept_after: Revision,
    newest: Revision,
    steps: VecDeque<(Revision, Vec<Change>)>,
}

impl Ring {
    /// An empty one of a manager whose state stands there.
    pub fn new(applied: Revision) -> Self {
        Self { kept_after: applied, newest: applied, steps: VecDeque::new() }
    }

    /// Notes what was applied.
    pub fn push(&mut self, revision: Revision, changes: Vec<Change>) {
        self.newest = revision;
        if changes.is_empty() {
            return;
        }
        self.steps.push_back((revision, changes));
        if self.steps.len() > KEPT_MAX
            && let Some((oldest, _)) = self.steps.pop_front()
        {
            self.kept_after = oldest;
        }
    }

    /// The state jumped by a snapshot.
    pub fn jump(&mut self, revision: Revision) {
        *self = Self::new(revision);
    }

    fn after(&self, after: Revision) -> Option<Vec<(Revision, Vec<Change>)>> {
        let found = || self.steps.iter().filter(|(revision, _)| *revision > after).cloned().collect();
        (after >= self.kept_after).then(found)
    }
}

/// Somebody who follows the table.
#[derive(Debug, Default)]
pub struct Watcher {
    manager: usize,
    after: Revision,
    page: Page,
    /// Steps it was told of, for what a run did.
    pub steps: u64,
}

impl World {
    /// A watcher hears what is new.
    pub fn watch(&mut self, watcher: usize) {
        let wait = self.chance.of(100..2_500);
        self.after(self.paced(wait), Event::Watch { watcher });
        if self.chance.percent(20) {
            self.watchers[watcher].manager = self.chance.below(self.managers.len());
        }
        let known = &mut self.watchers[watcher];
        let manager = &self.managers[known.manager];
        if !manager.up {
            return;
        }
        let from = match self.planted {
            Some(Planted::WatchResumesAt) => Revision(known.after.0.saturating_sub(1)),
            _ => known.after,
        };
        let Some(mut steps) = manager.ring.after(from) else {
            // It lists again, at the manager's own position, if that is not behind what it knows.
            if manager.applied as u64 >= known.after.0 {
                known.after = Revision(manager.applied as u64);
                known.page = page_of(&manager.state);
            }
            return self.judge_watch(watcher);
        };
        if self.planted == Some(Planted::WatchSkips) && steps.len() > 2 {
            steps.remove(1);
        }
        let before = known.after;
        let mut doubled = None;
        for (revision, changes) in steps {
            doubled = doubled.or((revision <= known.after).then_some(revision));
            known.after = revision;
            known.steps += 1;
            changes.iter().for_each(|change| take(&mut known.page, change));
        }
        known.after = known.after.max(manager.ring.newest).max(before);
        if let Some(revision) = doubled {
            self.fail(1, format!("watcher {watcher} was told of revision {revision} twice"));
        }
        self.judge_watch(watcher);
    }

    fn judge_watch(&mut self, watcher: usize) {
        let known = &self.watchers[watcher];
        let expected = self.oracles.model.page(known.after.0);
        if known.after > Revision::ZERO && expected != Some(&known.page) {
            let what = format!(
                "watcher {watcher} follows the table at revision {}: it has {:?}, the log says {expected:?}",
                known.after, known.page
            );
            return self.fail(1, what);
        }
        self.oracles.acknowledged.told(known.after.0);
    }
}

fn take((processes, hosts): &mut Page, change: &Change) {
    match change {
        Change::ProcessPut(record, _) => {
            let running = record.wanted == minder_model::Wanted::Running;
            let entry = (record.generation.0, record.revision.0, running);
            processes.insert(number_of(record.spec.name.as_str()), entry);
        }
        Change::ProcessDeleted(name) => drop(processes.remove(&number_of(name.as_str()))),
        Change::HostPut(host, record) => {
            let labels: BTreeMap<String, String> = record.labels();
            let zone = labels.get(ZONE).and_then(|zone| zone.parse().ok());
            hosts.insert(number_of(host.as_str()), (zone, record.revision.0));
        }
        Change::HostDeleted(host) => drop(hosts.remove(&number_of(host.as_str()))),
    }
}
