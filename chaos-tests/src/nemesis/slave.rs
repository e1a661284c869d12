//! `kill -9` of slaves: what they supervise must not notice.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, nothing};
use crate::{Chance, Lease, Needs, World, is_alive};

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "kill-slave", needs: Needs::Host, weight: 5, lacks: nothing, run }];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let host = &world.hosts[lease.hosts[0]];
        let pid = host.slave().pid();
        host.kill();
        if is_alive(pid) {
            return Outcome::Unclear(format!("{} lives on", host.node));
        }
        let away = a_while(&mut chance, 50..4_000).await;
        match host.start() {
            Ok(_) => Outcome::Installed(format!("{} away for {away:.1?}", host.node)),
            Err(not_ready) => Outcome::Broken(format!("{} does not come back: {not_ready:?}", host.node)),
        }
    }
    .boxed()
}
