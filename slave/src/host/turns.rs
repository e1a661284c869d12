//! Restarts that nobody wants but a policy have their turn one after the other. A thousand crash loops then make a queue of
//! names, and not one of half-started processes before which everybody else has to wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minder_model::InstanceKey;
use minder_supervisor::{Event, Gate};

use super::{Host, Owed};
use crate::clock::mono_ms;

/// Restarts under way at a time, for each core: one is mostly waiting for the disk or another process.
const PER_CORE: usize = 2;
const AT_ONCE_MIN: usize = 4;
/// A restart that has not shown its program by now counts no longer: its hook or its file system is slow, and nobody else
/// waits for that.
const COUNTS_MS: u64 = 100;

/// Who waits for a turn and who has one.
pub struct Turns {
    at_once: usize,
    waiting: VecDeque<InstanceKey>,
    queued: BTreeSet<InstanceKey>,
    /// Under way, and until when they count.
    under_way: BTreeMap<InstanceKey, u64>,
}

impl Turns {
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            at_once: (cores * PER_CORE).max(AT_ONCE_MIN),
            waiting: VecDeque::new(),
            queued: BTreeSet::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// It would restart.
    pub fn ask(&mut self, key: &InstanceKey) {
        if self.queued.insert(key.clone()) {
            self.waiting.push_back(key.clone());
        }
    }

    /// Its restart is not under way any more.
    pub fn done(&mut self, key: &InstanceKey) {
        self.under_way.remove(key);
    }

    fn next(&mut self, now_ms: u64) -> Option<InstanceKey> {
        self.under_way.retain(|_, until| *until > now_ms);
        if self.under_way.len() >= self.at_once {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.queued.remove(&next);
        Some(next)
    }

    /// When the next one may have its turn although nobody is done; none while nobody waits.
    fn due(&self) -> Option<u64> {
        self.under_way.values().min().copied().filter(|_| !self.waiting.is_empty())
    }
}

impl Host {
    /// At the end of a turn of the host: as many restart as may be under way.
    pub(super) fn give_turns(&mut self, owed: &mut Owed) {
        let now_ms = mono_ms();
        while let Some(key) = self.turns.next(now_ms) {
            // Meanwhile it may have been stopped, or started by somebody's word.
            if self.units.get(&key).is_some_and(|unit| unit.supervisor.asks_for_turn()) {
                self.turns.under_way.insert(key.clone(), now_ms + COUNTS_MS);
                self.step(&key, Event::Gate(Gate::Turn), owed);
            }
        }
        if let Some(at) = self.turns.due() {
            self.wakes.entry(at).or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_and_the_others_in_the_order_in_which_they_asked() {
        let keys = ["a", "b", "c", "d"].map(|name| InstanceKey::parse(name).unwrap());
        let mut turns = Turns { at_once: 2, ..Turns::new() };
        keys.iter().chain(&keys).for_each(|key| turns.ask(key));
        let give = |turns: &mut Turns, now_ms: u64| {
            let key = turns.next(now_ms)?;
            turns.under_way.insert(key.clone(), now_ms + COUNTS_MS);
            Some(key)
        };
        assert_eq!(give(&mut turns, 0).as_ref(), Some(&keys[0]));
        assert_eq!(turns.due(), Some(COUNTS_MS));
        assert_eq!(give(&mut turns, 1).as_ref(), Some(&keys[1]));
        assert_eq!(give(&mut turns, 2), None);
        turns.done(&keys[1]);
        assert_eq!(give(&mut turns, 3).as_ref(), Some(&keys[2]));
        assert_eq!(give(&mut turns, COUNTS_MS - 1), None);
        assert_eq!(give(&mut turns, COUNTS_MS).as_ref(), Some(&keys[3]), "one hangs and holds up nobody");
        assert_eq!((give(&mut turns, COUNTS_MS), turns.due()), (None, None));
    }
}
