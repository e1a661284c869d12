//! Promises 2 and 11: at most one live incarnation of an instance, and an end is the end of the whole tree. The kernel
//! judges: nobody asks the slave.

use crate::{kernel::Leaf, world::World};

impl World {
    /// A program begins.
    pub(super) fn judge_alone(&mut self, host: usize, leaf: &Leaf) {
        let kernel = &self.hosts[host].kernel;
        let own = kernel.bundles.get(leaf).and_then(|bundle| bundle.record.as_ref()).map(|record| record.main_pid);
        let other = kernel.living(&leaf.0).find(|(pid, _)| Some(*pid) != own);
        if let Some((pid, process)) = other {
            let (before, main) = (process.leaf.1, process.main);
            let promise = if main { 2 } else { 11 };
            let what = format!(
                "{} start {} on host {host} begins while {} of start {before} lives as pid {pid}",
                leaf.0,
                leaf.1,
                if main { "the program" } else { "a child" }
            );
            self.fail(promise, what);
        }
    }
}
