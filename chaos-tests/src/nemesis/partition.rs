//! Ways that are cut, seen to be cut by a connection that does not come about.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, network};
use crate::{
    Chance, Lease, Needs, World,
    net::{Obstacle, Way},
};

const CLIENT_PORT: u16 = 7701;
const PEER_PORT: u16 = 7702;

pub(super) const NEMESES: [Nemesis; 8] = [
    kind("isolate-leader", Needs::Leader, 4, isolate_leader),
    kind("isolate-minority", Needs::Manager, 2, isolate_whole),
    kind("cut-leader-out", Needs::Leader, 2, cut_leader_out),
    kind("cut-leader-in", Needs::Leader, 2, cut_leader_in),
    kind("bridge", Needs::Manager, 2, bridge),
    kind("shatter", Needs::AllManagers, 1, shatter),
    kind("cut-slave", Needs::Host, 3, cut_slave),
    kind("cut-client", Needs::Nothing, 2, cut_client),
];

const fn kind(name: &'static str, needs: Needs, weight: u64, run: super::Run) -> Nemesis {
    Nemesis { name, needs, weight, lacks: network, run }
}

/// The leader sees no manager; slaves and clients see it.
fn isolate_leader(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let leader = world.nodes(&lease.managers);
    let ways = world.ways(&leader, &world.nodes(&world.members()));
    cut(world, lease, chance, ways, PEER_PORT)
}

/// A manager sees nobody at all.
fn isolate_whole(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let alone = world.nodes(&lease.managers);
    let ways = world.ways(&alone, &world.nodes_but(&alone));
    cut(world, lease, chance, ways, PEER_PORT)
}

/// What the leader says is not heard by the managers, but it hears them.
fn cut_leader_out(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let leader = world.nodes(&lease.managers);
    let mut ways = world.ways(&leader, &world.nodes(&world.members()));
    ways.retain(|(from, _)| *from == leader[0]);
    cut(world, lease, chance, ways, PEER_PORT)
}

/// It hears no manager, but is heard.
fn cut_leader_in(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let leader = world.nodes(&lease.managers);
    let mut ways = world.ways(&leader, &world.nodes(&world.members()));
    ways.retain(|(_, to)| *to == leader[0]);
    cut(world, lease, chance, ways, PEER_PORT)
}

/// Two halves that do not see each other, and one manager that sees both.
fn bridge(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let others: Vec<usize> = world.members().into_iter().filter(|one| *one != lease.managers[0]).collect();
    let (one, other) = others.split_at(others.len() / 2);
    let ways = world.ways(&world.nodes(one), &world.nodes(other));
    cut(world, lease, chance, ways, PEER_PORT)
}

/// No manager sees another.
fn shatter(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let all = world.nodes(&lease.managers);
    let mut ways = world.ways(&all, &all);
    ways.sort();
    ways.dedup();
    cut(world, lease, chance, ways, PEER_PORT)
}

/// A machine sees no manager.
fn cut_slave(world: Arc<World>, lease: Lease, chance: Chance) -> BoxFuture<'static, Outcome> {
    let all: Vec<usize> = (0..world.managers.len()).collect();
    let ways = world.ways(&[world.hosts[lease.hosts[0]].node.clone()], &world.nodes(&all));
    cut(world, lease, chance, ways, CLIENT_PORT)
}

/// Users do not see one of the managers.
fn cut_client(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    let members = world.members();
    let one = members[chance.below(members.len() as u64) as usize];
    let ways = world.ways(&[world.client_node()], &world.nodes(&[one]));
    cut(world, lease, chance, ways, CLIENT_PORT)
}

fn cut(world: Arc<World>, lease: Lease, mut chance: Chance, ways: Vec<Way>, port: u16) -> BoxFuture<'static, Outcome> {
    async move {
        let network = world.network();
        if ways.is_empty() {
            return Outcome::Unclear("there is nobody to be cut off from".into());
        }
        if let Err(why) = network.put(Obstacle::Cut, &ways) {
            return Outcome::Unclear(why);
        }
        // Either way of a cut one lets no connection come about, so the first one tells.
        let (from, to) = &ways[0];
        let reached = tokio::task::block_in_place(|| network.reaches(from, to, port));
        let time = a_while(&mut chance, 300..8_000).await;
        let healed = network.take(Obstacle::Cut, &ways);
        drop(lease);
        match (reached, healed) {
            (_, Err(why)) => Outcome::Unclear(why),
            (true, _) => Outcome::Unclear(format!("{from} reaches {to} all the same")),
            (false, Ok(())) => {
                Outcome::Installed(format!("{from} and {to} and {} more ways for {time:.1?}", ways.len() - 1))
            }
        }
    }
    .boxed()
}
