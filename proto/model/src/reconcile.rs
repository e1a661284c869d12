//! The one function that says what is owed between an assignment and what a slave sees. The slave acts on it, the
//! leader waits for it to become empty, `plan` and the simulator show it.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    assignment::{Assignment, Item, Wanted},
    id::InstanceKey,
    report::{InstanceStatus, Phase},
};

/// What an instance still owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwedWhy {
    /// It should run and does not yet.
    Start,
    /// It should not run and still does.
    Stop,
    /// It runs something else than it should: another spec, or from before a restart order.
    Replace,
    /// It is no longer assigned and still there.
    Remove,
    /// A signal has not been delivered.
    Signal,
    /// It gave up, or ended and its policy wants no restart; nothing more will happen by itself.
    Failed,
}

/// One instance that is not as assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Which instance.
    pub key: InstanceKey,
    /// What it owes.
    pub why: OwedWhy,
}

/// Everything `seen` owes to `assignment`, in order of keys. Empty means converged.
///
/// A process that ended by its own policy (`Exited`) owes nothing if it ended cleanly under the wanted spec: that is
/// what its policy asks for. `Fatal` is owed as [`OwedWhy::Failed`], which a waiting person wants to know at once.
pub fn reconcile(assignment: &Assignment, seen: &BTreeMap<InstanceKey, InstanceStatus>) -> Vec<Owed> {
    let mut owed: Vec<Owed> = Vec::new();
    for (key, item) in &assignment.items {
        if let Some(why) = owed_by(item, seen.get(key)) {
            owed.push(Owed { key: key.clone(), why });
        }
    }
    for key in seen.keys().filter(|key| !assignment.items.contains_key(key)) {
        owed.push(Owed { key: key.clone(), why: OwedWhy::Remove });
    }
    owed.sort_by(|one, other| one.key.cmp(&other.key));
    owed
}

fn owed_by(item: &Item, status: Option<&InstanceStatus>) -> Option<OwedWhy> {
    let Some(status) = status else {
        return Some(match item.wanted {
            Wanted::Running => OwedWhy::Start,
            Wanted::Stopped => OwedWhy::Stop,
        });
    };
    match item.wanted {
        Wanted::Stopped => (status.phase != Phase::Stopped).then_some(OwedWhy::Stop),
        Wanted::Running => {
            let current = status.spec == item.spec && status.restart_at >= item.restart_at;
            let signalled = item.signal.is_none_or(|order| status.signal_at >= order.revision);
            match status.phase {
                _ if !current => Some(OwedWhy::Replace),
                Phase::Running | Phase::Ready | Phase::Exited if !signalled => Some(OwedWhy::Signal),
                Phase::Running | Phase::Ready => None,
                Phase::Exited | Phase::Fatal if status.retry_at < item.retry_at => Some(OwedWhy::Start),
                Phase::Exited => None,
                Phase::Fatal => Some(OwedWhy::Failed),
                Phase::Pending
                | Phase::Starting
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Backoff
                | Phase::Lost
                | Phase::Unknown => Some(OwedWhy::Start),
            }
        }
    }
}
