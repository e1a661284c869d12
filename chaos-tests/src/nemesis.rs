//! The faults, one kind per file. Each says whether this machine can have it, takes what it hurts, makes sure that it really
//! happened, and leaves everything as it was. A fault that could not be seen to happen is unclear, never passed over.

mod clock;
mod crash_storm;
mod damage;
mod full_disk;
mod hung_disk;
mod kill;
mod link;
mod membership;
mod partition;
mod pause;
mod power_cut;
mod program;
mod reboot;
mod rolling;
mod slave;
mod stop;

use std::{ops::Range, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{Chance, Lease, Needs, World};

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, was seen to happen, and is over; whom it met.
    Installed(String),
    /// It may not have happened.
    Unclear(String),
    /// What must follow it did not: a promise is broken.
    Broken(String),
}

type Run = fn(Arc<World>, Lease, Chance) -> BoxFuture<'static, Outcome>;

/// A kind of fault.
pub struct Nemesis {
    /// What it is called in schedules and reports.
    pub name: &'static str,
    /// What it takes.
    pub needs: Needs,
    /// How often it is drawn beside the others.
    pub weight: u64,
    /// Why this machine cannot have it.
    pub lacks: fn(&World) -> Option<String>,
    /// Does it, waits, and makes it good again.
    pub run: Run,
}

/// All kinds.
pub fn nemeses() -> Vec<&'static Nemesis> {
    let all: [&'static [Nemesis]; 16] = [
        &kill::NEMESES,
        &stop::NEMESES,
        &pause::NEMESES,
        &partition::NEMESES,
        &link::NEMESES,
        &clock::NEMESES,
        &full_disk::NEMESES,
        &hung_disk::NEMESES,
        &power_cut::NEMESES,
        &damage::NEMESES,
        &membership::NEMESES,
        &rolling::NEMESES,
        &slave::NEMESES,
        &reboot::NEMESES,
        &program::NEMESES,
        &crash_storm::NEMESES,
    ];
    all.into_iter().flatten().collect()
}

/// Every machine can have it.
fn nothing(_: &World) -> Option<String> {
    None
}

fn network(world: &World) -> Option<String> {
    world.lacks().network.clone()
}

fn disks(world: &World) -> Option<String> {
    world.lacks().disks.clone()
}

/// Waits a time drawn from these milliseconds, short ones more often; gives it.
async fn a_while(chance: &mut Chance, ms: Range<u64>) -> Duration {
    let part = chance.below(1_000) * chance.below(1_000);
    let time = Duration::from_millis(ms.start + (ms.end - ms.start) * part / 1_000_000);
    tokio::time::sleep(time).await;
    time
}

/// Whether a process is stopped by a signal.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
