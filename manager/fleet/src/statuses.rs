//! The statuses of one host's instances, in as little room as they need: a leader holds those of the whole fleet.

use alloc::{vec, vec::Vec};

use minder_model::{InstanceKey, InstanceStatus};

/// Statuses by their keys, which stand in them and nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses {
    /// In the order of their keys, none of them twice.
    sorted: Vec<InstanceStatus>,
}

impl Statuses {
    /// Of these; the last one of a key counts.
    pub fn of(mut statuses: Vec<InstanceStatus>) -> Self {
        if !statuses.is_sorted_by(|one, other| one.key < other.key) {
            statuses.sort_by(|one, other| one.key.cmp(&other.key));
            statuses.reverse();
            statuses.dedup_by(|later, kept| later.key == kept.key);
            statuses.reverse();
        }
        statuses.shrink_to_fit();
        Self { sorted: statuses }
    }

    /// The status of an instance.
    pub fn get(&self, key: &InstanceKey) -> Option<&InstanceStatus> {
        self.at(key).ok().map(|at| &self.sorted[at])
    }

    /// Puts one in; gives what it takes the place of.
    pub fn insert(&mut self, status: InstanceStatus) -> Option<InstanceStatus> {
        match self.at(&status.key) {
            Ok(at) => Some(core::mem::replace(&mut self.sorted[at], status)),
            Err(at) => {
                // One more and not twice as many: it seldom happens, and what is left over would lie there for good.
                self.sorted.reserve_exact(1);
                self.sorted.insert(at, status);
                None
            }
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, key: &InstanceKey) -> Option<InstanceStatus> {
        self.at(key).ok().map(|at| self.sorted.remove(at))
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> core::slice::Iter<'_, InstanceStatus> {
        self.sorted.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    fn at(&self, key: &InstanceKey) -> Result<usize, usize> {
        self.sorted.binary_search_by(|status| status.key.cmp(key))
    }
}

impl<'a> IntoIterator for &'a Statuses {
    type Item = &'a InstanceStatus;
    type IntoIter = core::slice::Iter<'a, InstanceStatus>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Statuses {
    type Item = InstanceStatus;
    type IntoIter = vec::IntoIter<InstanceStatus>;

    fn into_iter(self) -> Self::IntoIter {
        self.sorted.into_iter()
    }
}
