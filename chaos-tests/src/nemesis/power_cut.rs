//! A power cut: the process is gone, and so is what its disk was not told to keep.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use nix::sys::signal::Signal;

use super::{Nemesis, Outcome, a_while, disks};
use crate::{Chance, Lease, Needs, World};

pub(super) const NEMESES: [Nemesis; 2] = [
    Nemesis { name: "power-cut-manager", needs: Needs::Manager, weight: 2, lacks: disks, run },
    Nemesis { name: "power-cut-all-managers", needs: Needs::AllManagers, weight: 1, lacks: disks, run },
];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let mut cut = Ok(());
        // Frozen first: nothing may be answered after the disk has begun to forget.
        for manager in lease.managers.iter().map(|manager| &world.managers[*manager]) {
            manager.program().signal(Signal::SIGSTOP);
        }
        for manager in lease.managers.iter().map(|manager| &world.managers[*manager]) {
            let disk = manager.disk.as_ref().unwrap();
            cut = cut.and(disk.cut_power());
            manager.kill();
            cut = cut.and(tokio::task::block_in_place(|| disk.mount_again()));
        }
        // Without its disk none can come back, and that says nothing of it.
        if let Err(why) = cut {
            return Outcome::Unclear(why);
        }
        a_while(&mut chance, 100..2_000).await;
        let mut names = Vec::new();
        for manager in lease.managers.iter().map(|manager| &world.managers[*manager]) {
            if let Err(not_ready) = manager.start() {
                return Outcome::Broken(format!(
                    "{} does not come back after a power cut: {not_ready:?}",
                    manager.name
                ));
            }
            names.push(manager.name.clone());
        }
        Outcome::Installed(names.join(" "))
    }
    .boxed()
}
