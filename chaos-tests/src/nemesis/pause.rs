//! SIGSTOP: whoever wakes again believes that no time has passed.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Nemesis, Outcome, a_while, is_stopped, nothing};
use crate::{Chance, Lease, Needs, World};

pub(super) const NEMESES: [Nemesis; 3] = [
    Nemesis { name: "pause-leader", needs: Needs::Leader, weight: 4, lacks: nothing, run: pause_manager },
    Nemesis { name: "pause-follower", needs: Needs::Follower, weight: 2, lacks: nothing, run: pause_manager },
    Nemesis { name: "pause-slave", needs: Needs::Host, weight: 3, lacks: nothing, run: pause_slave },
];

fn pause_manager(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let manager = &world.managers[lease.managers[0]];
        let pid = manager.program().pid();
        pause(&manager.name, pid, chance).await
    }
    .boxed()
}

fn pause_slave(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let host = &world.hosts[lease.hosts[0]];
        let pid = host.slave().pid();
        pause(&host.node, pid, chance).await
    }
    .boxed()
}

async fn pause(name: &str, pid: u32, mut chance: Chance) -> Outcome {
    let pid = Pid::from_raw(pid as i32);
    if kill(pid, Signal::SIGSTOP).is_err() {
        return Outcome::Unclear(format!("{name} was not there"));
    }
    let time = a_while(&mut chance, 100..10_000).await;
    let stopped = is_stopped(pid.as_raw() as u32);
    let _ = kill(pid, Signal::SIGCONT);
    match stopped {
        true => Outcome::Installed(format!("{name} for {time:.1?}")),
        false => Outcome::Unclear(format!("{name} did not stop")),
    }
}
