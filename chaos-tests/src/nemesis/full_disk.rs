//! A disk that is full: below its floor a manager refuses writes as a leader, and goes on by itself when there is room.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, disks};
use crate::{Chance, Lease, Needs, World};

/// Below the floor in the managers' configuration, and enough for what is under way.
const LEFT_MIB: u64 = 32;

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "full-disk", needs: Needs::ManagerAndWrites, weight: 2, lacks: disks, run }];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let manager = &world.managers[lease.managers[0]];
        let disk = manager.disk.as_ref().unwrap();
        let filled = tokio::task::block_in_place(|| disk.fill(LEFT_MIB));
        let time = a_while(&mut chance, 1_000..6_000).await;
        disk.empty();
        match filled {
            Ok(()) => Outcome::Installed(format!("{} for {time:.1?}", manager.name)),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}
