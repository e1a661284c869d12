//! A managed program is stopped for a while, as a debugger would: it runs, so nothing follows.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use nix::sys::signal::Signal;

use super::{Nemesis, Outcome, a_while, is_stopped, nothing};
use crate::{Chance, Lease, Needs, World};

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "pause-program", needs: Needs::Nothing, weight: 2, lacks: nothing, run }];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let programs = world.programs(|name| name.starts_with("steady:"));
        drop(lease);
        if programs.is_empty() {
            return Outcome::Unclear("no program runs".into());
        }
        let program = &programs[chance.below(programs.len() as u64) as usize];
        program.signal(Signal::SIGSTOP);
        let time = a_while(&mut chance, 100..5_000).await;
        let stopped = is_stopped(program.pid);
        program.signal(Signal::SIGCONT);
        match stopped {
            true => Outcome::Installed(format!("{} for {time:.1?}", program.instance)),
            // Its machine may have been switched off meanwhile.
            false => Outcome::Unclear(format!("{} did not stop", program.instance)),
        }
    }
    .boxed()
}
