//! Links that are bad rather than cut.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, network};
use crate::{
    Chance, Lease, Needs, World,
    net::{LOST_PERCENT, Obstacle},
};

/// A leader sends some tens of these a second when nothing happens at all.
const SLOW_KBIT: u32 = 512;
const DELAY_MS: u32 = 80;
/// In and out so often.
const FLAPS: u64 = 6;

pub(super) const NEMESES: [Nemesis; 5] = [
    Nemesis { name: "slow-manager-link", needs: Needs::Manager, weight: 2, lacks: network, run: slow },
    Nemesis { name: "delayed-manager-link", needs: Needs::Manager, weight: 2, lacks: no_delay, run: delayed },
    Nemesis { name: "lossy-manager-link", needs: Needs::Manager, weight: 2, lacks: network, run: lossy_manager },
    Nemesis { name: "lossy-slave-link", needs: Needs::Host, weight: 2, lacks: network, run: lossy_slave },
    Nemesis { name: "flapping-link", needs: Needs::Manager, weight: 2, lacks: network, run: flapping },
];

/// Many small kernels have no netem; one that has it shows so on a node that is there anyway.
fn no_delay(world: &World) -> Option<String> {
    network(world).or_else(|| {
        let node = &world.managers[0].name;
        let tried = world.network().delay(node, 1).and_then(|()| world.network().unshape(node));
        tried.err().map(|why| format!("no delays: {why}"))
    })
}

fn slow(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let node = &world.managers[lease.managers[0]].name;
        let done = world.network().shape(node, SLOW_KBIT);
        let time = a_while(&mut chance, 500..6_000).await;
        match done.and_then(|()| world.network().unshape(node)) {
            Ok(()) => Outcome::Installed(format!("{node} at {SLOW_KBIT} kbit/s for {time:.1?}")),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}

fn delayed(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let node = &world.managers[lease.managers[0]].name;
        let done = world.network().delay(node, DELAY_MS);
        let time = a_while(&mut chance, 500..6_000).await;
        match done.and_then(|()| world.network().unshape(node)) {
            Ok(()) => Outcome::Installed(format!("{node} {DELAY_MS} ms away for {time:.1?}")),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}

fn lossy_manager(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let node = world.managers[lease.managers[0]].name.clone();
    lossy(world, lease, chance, node)
}

fn lossy_slave(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let node = world.hosts[lease.hosts[0]].node.clone();
    lossy(world, lease, chance, node)
}

fn lossy(world: Arc<World>, lease: Lease, mut chance: Chance, node: String) -> BoxFuture<'static, Outcome> {
    async move {
        let some = [node.clone()];
        let ways = world.ways(&some, &world.nodes_but(&some));
        let done = world.network().put(Obstacle::Lossy, &ways);
        let time = a_while(&mut chance, 500..8_000).await;
        let healed = world.network().take(Obstacle::Lossy, &ways);
        drop(lease);
        match done.and(healed) {
            Ok(()) => Outcome::Installed(format!("{node} loses {LOST_PERCENT} % for {time:.1?}")),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}

fn flapping(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let node = &world.managers[lease.managers[0]].name;
        let mut done = Ok(());
        for into in (0..FLAPS).flat_map(|_| [false, true]) {
            done = done.and(world.network().plug(node, into));
            tokio::time::sleep(Duration::from_millis(50 + chance.below(300))).await;
        }
        match done {
            Ok(()) => Outcome::Installed(format!("{node}, {FLAPS} times")),
            Err(why) => Outcome::Unclear(why),
        }
    }
    .boxed()
}
