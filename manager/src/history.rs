//! The latest changes of the desired state, for watches: every manager keeps its own ring, fed by what it applies, so
//! a watch can be served by any of them and resumed at any other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use minder_model::{HostName, Revision};
use minder_state::Change;
use tokio::sync::watch;

/// Revisions kept: a watcher that is ten seconds away under a thousand writes a second can still resume.
const REVISIONS_KEPT_MAX: usize = 10_000;

/// And their bytes, for a thousand of the largest writes would be a gigabyte: ordinary ones are far from it.
const BYTES_KEPT_MAX: usize = 64 * 1_024 * 1_024;
/// What a change takes beside the record of a process.
const CHANGE_BYTES: usize = 256;

/// What changed in one revision, with the records as they were then.
#[derive(Debug, Clone)]
pub struct Step {
    /// The revision.
    pub revision: Revision,
    /// What changed, in order.
    pub changes: Arc<[Change]>,
}

/// A watcher asked for changes that are not kept any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Changes after this revision can still be had.
    pub kept_after: Revision,
}

/// The ring.
pub struct History {
    ring: Mutex<Ring>,
    /// Wakes watchers. What it leads to is in the ring, so that changes and how far they lead are seen together.
    newest: watch::Sender<Revision>,
}

struct Ring {
    /// Everything after this revision is in `steps`.
    kept_after: Revision,
    /// The newest applied revision, which may have changed nothing.
    newest: Revision,
    /// Each with its weight, for finding that out means walking its records.
    steps: VecDeque<(Step, usize)>,
    bytes: usize,
}

impl Ring {
    fn is_too_much(&self) -> bool {
        self.steps.len() > REVISIONS_KEPT_MAX || self.bytes > BYTES_KEPT_MAX
    }
}

/// About what these changes take in memory.
fn weight(changes: &[Change]) -> usize {
    let one = |change: &Change| match change {
        Change::ProcessPut(record, hosts) => minicbor::len(&**record) + hosts.len() * size_of::<HostName>(),
        Change::ProcessDeleted(_) | Change::HostPut(..) | Change::HostDeleted(_) => 0,
    };
    changes.iter().map(|change| one(change) + CHANGE_BYTES).sum()
}

impl History {
    /// An empty ring of a manager whose state stands at `applied`.
    pub fn new(applied: Revision) -> Self {
        let ring = Ring { kept_after: applied, newest: applied, steps: VecDeque::new(), bytes: 0 };
        Self { ring: Mutex::new(ring), newest: watch::channel(applied).0 }
    }

    /// Notes what was applied, and tells watchers once. Called in order of revisions.
    pub fn push(&self, applied: impl IntoIterator<Item = (Revision, Vec<Change>)>) {
        let mut ring = crate::lock(&self.ring);
        for (revision, changes) in applied {
            ring.newest = revision;
            if changes.is_empty() {
                continue;
            }
            let bytes = weight(&changes);
            ring.bytes += bytes;
            ring.steps.push_back((Step { revision, changes: changes.into() }, bytes));
            while ring.is_too_much()
                && let Some((oldest, bytes)) = ring.steps.pop_front()
            {
                ring.bytes -= bytes;
                ring.kept_after = oldest.revision;
            }
        }
        let newest = ring.newest;
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// The state jumped to `revision` by a snapshot: what led there cannot be told.
    pub fn jump(&self, revision: Revision) {
        let mut ring = crate::lock(&self.ring);
        ring.steps.clear();
        ring.bytes = 0;
        ring.kept_after = revision;
        ring.newest = revision;
        drop(ring);
        self.newest.send_replace(revision);
    }

    /// The changes after `after`, and the revision they lead to.
    pub fn after(&self, after: Revision) -> Result<(Vec<Step>, Revision), Compacted> {
        let ring = crate::lock(&self.ring);
        if after < ring.kept_after {
            return Err(Compacted { kept_after: ring.kept_after });
        }
        let begin = ring.steps.partition_point(|(step, _)| step.revision <= after);
        Ok((ring.steps.range(begin..).map(|(step, _)| step.clone()).collect(), ring.newest))
    }

    /// Changes with each revision that is applied, when it can be had.
    pub fn newest(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Generation, ProcessName, RequestId, Spec, Wanted};
    use minder_state::{Command, Expect, ProcessRecord, Proposal, State};

    use super::*;

    fn put(state: &mut State, history: &History, revision: u64) {
        let spec = Spec::new(ProcessName::new(format!("p{revision}")).unwrap(), "x");
        let proposal = Proposal {
            request: RequestId::new(format!("r{revision}")).unwrap(),
            time_ms: 0,
            actor: String::new(),
            expect: Expect::Anything,
            command: Command::apply([spec]),
        };
        let applied = state.apply(Revision(revision), &proposal);
        history.push([(Revision(revision), applied.changes)]);
    }

    #[test]
    fn resuming_gives_every_change_once_or_says_that_it_cannot() {
        let (mut state, history) = (State::default(), History::new(Revision(10)));
        assert_eq!(history.after(Revision(9)).unwrap_err(), Compacted { kept_after: Revision(10) });
        for revision in [11, 13, 14] {
            put(&mut state, &history, revision);
        }
        let revisions = |after| -> Vec<u64> {
            history.after(Revision(after)).unwrap().0.iter().map(|step| step.revision.0).collect()
        };
        assert_eq!(revisions(10), [11, 13, 14]);
        assert_eq!(revisions(12), [13, 14]);
        assert_eq!(revisions(14), [] as [u64; 0]);
        history.jump(Revision(20));
        assert!(history.after(Revision(14)).is_err());
        assert_eq!(revisions(20), [] as [u64; 0]);
    }

    /// A watch goes on after what it was told it has reached: less than it was sent, and it would be sent that again.
    #[test]
    fn what_was_reached_is_never_before_the_last_change_that_is_given() {
        const PUSHES: u64 = 20_000;
        let history = History::new(Revision(0));
        let changes = || vec![Change::ProcessDeleted(ProcessName::new("p").unwrap())];
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=PUSHES).for_each(|revision| history.push([(Revision(revision), changes())])));
            let mut from = Revision(0);
            while from < Revision(PUSHES) {
                // One that was overtaken by the ring begins again.
                from = match history.after(from) {
                    Err(Compacted { kept_after }) => kept_after,
                    Ok((steps, reached)) => {
                        let last = steps.last().map_or(from, |step| step.revision);
                        assert!(reached >= last, "{last:?} was given and only {reached:?} was reached");
                        reached
                    }
                };
            }
        });
    }

    #[test]
    fn the_ring_is_bounded() {
        let (mut state, history) = (State::default(), History::new(Revision(0)));
        for revision in 1..=(REVISIONS_KEPT_MAX as u64 + 5) {
            put(&mut state, &history, revision);
        }
        assert_eq!(history.after(Revision(4)).unwrap_err(), Compacted { kept_after: Revision(5) });
        assert_eq!(history.after(Revision(5)).unwrap().0.len(), REVISIONS_KEPT_MAX);
    }

    #[test]
    fn large_changes_fill_it_sooner() {
        let history = History::new(Revision(0));
        let mut spec = Spec::new(ProcessName::new("large").unwrap(), "x");
        // Not the largest allowed, but a mebibyte all the same.
        spec.args = vec!["x".repeat(1_024 * 1_024)];
        for revision in (1..=100).map(Revision) {
            let record = ProcessRecord {
                spec: spec.clone().into(),
                generation: Generation(revision.0),
                revision,
                wanted: Wanted::Running,
                created_at_ms: 0,
                changed_at_ms: 0,
                changed_by: String::new(),
            };
            history.push([(revision, vec![Change::ProcessPut(Arc::new(record), Vec::new())])]);
        }
        let kept_after = crate::lock(&history.ring).kept_after;
        assert_eq!(history.after(kept_after).unwrap().0.len(), 63);
    }
}
