//! The managers change while they work: one is replaced by the one that stands by; a vote is taken and given back.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use minder_client::Error;

use super::{Nemesis, Outcome, nothing};
use crate::{Chance, Lease, Needs, World};

/// Exit code of a manager that was removed.
const REMOVED: i32 = 20;
/// A change may meet other faults, and is said again until this is over.
pub(super) const CHANGED_WITHIN: Duration = Duration::from_secs(60);
/// A removed manager finds out by itself.
const GONE_WITHIN: Duration = Duration::from_secs(20);

pub(super) const NEMESES: [Nemesis; 2] = [
    Nemesis { name: "replace-manager", needs: Needs::Manager, weight: 2, lacks: nothing, run: replace },
    Nemesis { name: "demote-and-promote", needs: Needs::Follower, weight: 1, lacks: nothing, run: demote },
];

fn replace(world: Arc<World>, lease: Lease, _: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let _alone = world.changing.lock().await;
        let Some(new) = (0..world.managers.len()).find(|one| !world.managers[*one].is_member()) else {
            return Outcome::Unclear("nobody stands by".into());
        };
        let (old, new) = (&world.managers[lease.managers[0]], &world.managers[new]);
        let client = world.client_from(lease.managers[0] + 1);
        let done = until_done(|| async {
            client.add_manager(new.peer_address.clone(), old.peer_address.clone(), |_| ()).await.map(drop)
        });
        if let Err(why) = done.await {
            return Outcome::Broken(format!("{} was not replaced by {}: {why}", old.name, new.name));
        }
        new.set_member(true);
        old.set_member(false);
        let gone = async {
            loop {
                if let Some(code) = old.program().ended() {
                    break code;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(GONE_WITHIN, gone).await {
            Ok(REMOVED) => {}
            Ok(code) => return Outcome::Broken(format!("{} was removed and ended with {code}", old.name)),
            Err(_) => return Outcome::Broken(format!("{} was removed and runs {GONE_WITHIN:?} later", old.name)),
        }
        let _ = std::fs::remove_dir_all(&old.data);
        match old.start() {
            Ok(_) => Outcome::Installed(format!("{} by {}", old.name, new.name)),
            Err(not_ready) => Outcome::Broken(format!("{} does not start empty: {not_ready:?}", old.name)),
        }
    }
    .boxed()
}

fn demote(world: Arc<World>, lease: Lease, _: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let _alone = world.changing.lock().await;
        let manager = &world.managers[lease.managers[0]];
        let client = world.client_from(lease.managers[0] + 1);
        let address = || manager.peer_address.clone();
        let demoted = until_done(|| async { client.demote_manager(address(), |_| ()).await.map(drop) }).await;
        let promoted = until_done(|| async { client.promote_manager(address(), |_| ()).await.map(drop) }).await;
        match demoted.and(promoted) {
            Ok(()) => Outcome::Installed(manager.name.clone()),
            Err(why) => Outcome::Broken(format!("{} was not demoted and promoted: {why}", manager.name)),
        }
    }
    .boxed()
}

/// Says it again until it is done; what was cut off goes on where it stood.
pub(super) async fn until_done<F: Future<Output = Result<(), Error>>>(
    mut change: impl FnMut() -> F,
) -> Result<(), String> {
    let begin = tokio::time::Instant::now();
    loop {
        match change().await {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > CHANGED_WITHIN => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
