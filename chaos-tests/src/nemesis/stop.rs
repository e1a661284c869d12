//! An orderly stop of a manager: a leader hands over first.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while, nothing};
use crate::{Chance, Lease, Needs, World};

pub(super) const NEMESES: [Nemesis; 2] = [
    Nemesis { name: "stop-leader", needs: Needs::Leader, weight: 2, lacks: nothing, run },
    Nemesis { name: "stop-follower", needs: Needs::Follower, weight: 1, lacks: nothing, run },
];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let manager = &world.managers[lease.managers[0]];
        let code = tokio::task::block_in_place(|| manager.program().stop());
        if code != Some(0) {
            return Outcome::Broken(format!("{} was told to end and ended with {code:?}", manager.name));
        }
        let away = a_while(&mut chance, 100..3_000).await;
        match manager.start() {
            Ok(_) => Outcome::Installed(format!("{} away for {away:.1?}", manager.name)),
            Err(not_ready) => Outcome::Broken(format!("{} does not come back: {not_ready:?}", manager.name)),
        }
    }
    .boxed()
}
