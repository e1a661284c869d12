//! A machine is switched off and on: everything on it is gone at once, and it has another boot id.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Nemesis, Outcome, a_while};
use crate::{Chance, Lease, Needs, World, pids_with_variable};

pub(super) const NEMESES: [Nemesis; 1] = [Nemesis { name: "reboot", needs: Needs::Host, weight: 2, lacks, run }];

fn lacks(world: &World) -> Option<String> {
    world.lacks().machines.clone()
}

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let host = &world.hosts[lease.hosts[0]];
        world.journal.reboot(&host.name);
        host.switch_off();
        let accounts = world.accounts();
        let left = pids_with_variable(&format!("MINDER_HOST={}", host.name));
        let left: Vec<u32> = left.into_iter().filter(|pid| is_of(*pid, accounts.to_str().unwrap())).collect();
        let away = a_while(&mut chance, 100..4_000).await;
        if let Err(why) = host.switch_on() {
            return Outcome::Unclear(why);
        }
        match host.start() {
            Err(not_ready) => Outcome::Broken(format!("{} does not come back: {not_ready:?}", host.node)),
            Ok(_) if !left.is_empty() => Outcome::Unclear(format!("{left:?} outlived the machine {}", host.node)),
            Ok(_) => Outcome::Installed(format!("{} off for {away:.1?}", host.node)),
        }
    }
    .boxed()
}

/// Other worlds have hosts of the same names.
fn is_of(pid: u32, folder: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(folder)
}
