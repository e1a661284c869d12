//! The order of the host's processes. What it says is decided in [`minder_supervisor::keep_order`].

use minder_supervisor::keep_order;

use super::{Host, Owed};

impl Host {
    /// At the end of a turn, when everything that came in has been taken in: those whose turn it is start or stop, and
    /// the others learn what they wait for. A host without any order pays one look at each instance.
    pub(super) fn keep_order(&mut self, owed: &mut Owed) {
        if self.units.values().any(|unit| unit.supervisor.is_ordered()) {
            for (key, event) in keep_order(self.units.values().map(|unit| unit.supervisor.standing())) {
                self.step(&key, event, owed);
            }
        }
    }
}
