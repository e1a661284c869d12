//! A disk that does not answer for a while, or answers now and then: the file system is frozen, so every write and every
//! sync waits, and nobody can tell it from a disk that hangs.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, disks};
use crate::{Chance, Lease, Needs, World};

/// Hangs of a slow disk, one after the other.
const HANGS: u64 = 12;

pub(super) const NEMESES: [Nemesis; 2] = [
    Nemesis { name: "hung-disk", needs: Needs::Manager, weight: 2, lacks: disks, run: hung },
    Nemesis { name: "slow-disk", needs: Needs::Manager, weight: 2, lacks: disks, run: slow },
];

fn hung(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let manager = &world.managers[lease.managers[0]];
        let disk = manager.disk.as_ref().unwrap();
        let frozen = tokio::task::block_in_place(|| disk.freeze());
        let time = a_while(&mut chance, 500..5_000).await;
        disk.thaw();
        match frozen {
            Ok(()) => Outcome::Installed(format!("{} for {time:.1?}", manager.name)),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}

fn slow(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let manager = &world.managers[lease.managers[0]];
        let disk = manager.disk.as_ref().unwrap();
        let mut frozen = Ok(());
        for _ in 0..HANGS {
            frozen = frozen.and(tokio::task::block_in_place(|| disk.freeze()));
            tokio::time::sleep(Duration::from_millis(50 + chance.below(250))).await;
            disk.thaw();
            tokio::time::sleep(Duration::from_millis(20 + chance.below(60))).await;
        }
        match frozen {
            Ok(()) => Outcome::Installed(format!("{}, {HANGS} hangs", manager.name)),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}
