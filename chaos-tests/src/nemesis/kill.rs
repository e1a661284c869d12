//! `kill -9` of managers.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, nothing};
use crate::{Chance, Lease, Needs, World, is_alive};

pub(super) const NEMESES: [Nemesis; 3] = [
    Nemesis { name: "kill-leader", needs: Needs::Leader, weight: 6, lacks: nothing, run },
    Nemesis { name: "kill-follower", needs: Needs::Follower, weight: 3, lacks: nothing, run },
    Nemesis { name: "kill-all-managers", needs: Needs::AllManagers, weight: 1, lacks: nothing, run },
];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let mut names = Vec::new();
        for manager in &lease.managers {
            let manager = &world.managers[*manager];
            let pid = manager.program().pid();
            manager.kill();
            if is_alive(pid) {
                return Outcome::Unclear(format!("{} lives on", manager.name));
            }
            names.push(manager.name.clone());
        }
        let away = a_while(&mut chance, 100..3_000).await;
        for manager in &lease.managers {
            let manager = &world.managers[*manager];
            if let Err(not_ready) = manager.start() {
                return Outcome::Broken(format!("{} does not come back after a kill: {not_ready:?}", manager.name));
            }
        }
        Outcome::Installed(format!("{} away for {away:.1?}", names.join(" ")))
    }
    .boxed()
}
