//! Clocks that are set while programs run, by seconds, hours and years, forward and back.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while};
use crate::{Chance, Lease, Needs, World};

/// Seconds.
const STEPS: [i64; 8] = [-1, 1, -60, 60, -3_600, 3_600, -315_360_000, 315_360_000];
/// The library looks at its file once a second.
const BELIEVED_WITHIN_MS: u64 = 1_100;
/// A slave that was cut off meanwhile reports again within this.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_secs(2);

pub(super) const NEMESES: [Nemesis; 2] = [
    Nemesis { name: "clock-of-manager", needs: Needs::Nothing, weight: 2, lacks, run: manager },
    Nemesis { name: "clock-of-slave", needs: Needs::Host, weight: 2, lacks, run: slave },
];

fn lacks(world: &World) -> Option<String> {
    world.lacks().clock.clone()
}

fn manager(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let members = world.members();
        let number = members[chance.below(members.len() as u64) as usize];
        let manager = &world.managers[number];
        let step = STEPS[chance.below(STEPS.len() as u64) as usize];
        manager.set_clock(step);
        a_while(&mut chance, BELIEVED_WITHIN_MS..5_000).await;
        let said = until_said(&world, number, step).await;
        manager.set_clock(0);
        drop(lease);
        match said {
            Ok(()) => Outcome::Installed(format!("{} by {step} s", manager.name)),
            Err(Some(other)) => Outcome::Unclear(format!("{} is {other} s off, not {step} s", manager.name)),
            Err(None) => Outcome::Unclear(format!("{} does not say what time it is", manager.name)),
        }
    }
    .boxed()
}

fn slave(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let host = &world.hosts[lease.hosts[0]];
        let step = STEPS[chance.below(STEPS.len() as u64) as usize];
        host.set_clock(step);
        a_while(&mut chance, BELIEVED_WITHIN_MS..5_000).await;
        let shown = until_shown(&world, &host.name, step).await;
        host.set_clock(0);
        match shown {
            Ok(()) => Outcome::Installed(format!("{} by {step} s", host.node)),
            Err(other) => Outcome::Unclear(format!("{} is shown {other:?} ms off, not {step} s", host.node)),
        }
    }
    .boxed()
}

/// Waits until a manager says a time so many seconds beside this machine's. It may be dead or stopped for a while.
async fn until_said(world: &World, number: usize, step: i64) -> Result<(), Option<i64>> {
    let begin = Instant::now();
    loop {
        let said = world.client_of(number).with_deadline(SHORT).managers(true).await;
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let status = said.ok().and_then(|reply| reply.managers.into_iter().next());
        let believed = status.map(|status| (status.wall_ms as i64 - real) / 1_000);
        if believed.is_some_and(|believed| (believed - step).abs() <= 2) {
            return Ok(());
        }
        if begin.elapsed() > SHOWN_WITHIN {
            return Err(believed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until a host is shown so many seconds beside the leader's clock, which may be set as well. What is shown comes with
/// a slave's reports, and whom one asks may be cut off from them.
async fn until_shown(world: &World, name: &str, step: i64) -> Result<(), Option<i64>> {
    let begin = Instant::now();
    loop {
        let said = world.client_from(0).with_deadline(SHORT).host(name).await;
        let offset = said.ok().and_then(|reply| reply.host?.clock_offset_ms);
        if offset.is_some_and(|offset| (offset / 1_000 - step).abs() <= 2) {
            return Ok(());
        }
        if begin.elapsed() > SHOWN_WITHIN {
            return Err(offset);
        }
        tokio::time::sleep(LOOK).await;
    }
}
