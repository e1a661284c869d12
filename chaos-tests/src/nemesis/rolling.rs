//! Every manager is restarted in order, one after the other, as an upgrade does it.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, nothing};
use crate::{Chance, Lease, Needs, World};

/// The next one is stopped when the last one follows, or after this.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "rolling-restart", needs: Needs::EachManager, weight: 1, lacks: nothing, run }];

fn run(world: Arc<World>, lease: Lease, _: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        for number in &lease.managers {
            let manager = &world.managers[*number];
            let code = tokio::task::block_in_place(|| manager.program().stop());
            if code != Some(0) {
                return Outcome::Broken(format!("{} was told to end and ended with {code:?}", manager.name));
            }
            if let Err(not_ready) = manager.start() {
                return Outcome::Broken(format!("{} does not come back: {not_ready:?}", manager.name));
            }
            let follows = async {
                let client = world.client_of(*number);
                while !client.managers(true).await.is_ok_and(|reply| follows(&reply.managers)) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            if tokio::time::timeout(FOLLOWS_WITHIN, follows).await.is_err() {
                return Outcome::Broken(format!("{} follows nobody {FOLLOWS_WITHIN:?} after its start", manager.name));
            }
        }
        Outcome::Installed(world.nodes(&lease.managers).join(" "))
    }
    .boxed()
}

fn follows(managers: &[minder_client::v1::ManagerStatus]) -> bool {
    managers.first().is_some_and(|manager| matches!(manager.role.as_str(), "leader" | "follower"))
}
