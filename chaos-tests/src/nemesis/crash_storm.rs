//! Many programs of a machine are killed at once; all of them must come back, by their policy.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use nix::sys::signal::Signal;

use super::{Nemesis, Outcome, nothing};
use crate::{Chance, Lease, Needs, World, is_alive};

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "crash-storm", needs: Needs::Host, weight: 3, lacks: nothing, run }];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let host = &world.hosts[lease.hosts[0]];
        let here = format!("@{}", host.name);
        // One in two, so that some that are left alone stand beside them.
        let mut programs = world.programs(|name| name.ends_with(&here));
        programs.retain(|_| chance.below(2) == 0);
        for program in &programs {
            // Noted before, for it may be started again at once.
            world.journal.killed(&program.instance);
            program.signal(Signal::SIGKILL);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let left = programs.iter().filter(|program| is_alive(program.pid)).count();
        match (programs.len(), left) {
            (0, _) => Outcome::Unclear(format!("no program runs on {}", host.node)),
            (_, 0) => Outcome::Installed(format!("{} programs on {}", programs.len(), host.node)),
            (_, left) => Outcome::Unclear(format!("{left} programs on {} live on", host.node)),
        }
    }
    .boxed()
}
