//! `bench-supervision`: what supervising costs, beside supervisord, runit and a bare loop of waitid and spawn, in the same
//! run and with the same child program.
//!
//! First one process each, killed again and again at a restart delay of 0, or of the least the peer allows; the peers
//! take turns. Then a thousand processes each, one peer after the other: started, left alone for 30 seconds, stopped.
//! Peers that are not installed are left out, and that is said.
//!
//! `bench-supervision [PART...]`: parts are `kills` and `many`; both unless one is named.
#![allow(clippy::unwrap_used)]

mod cost;
mod floor;
mod peer;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use minder_chaos_tests::{eventually_within, mono_now};

use crate::{
    cost::Cost,
    peer::{Kind, Running},
};

/// Kills of each peer's process.
const KILLS: usize = 60;
/// runit makes a child wait that lived shorter than a second; nobody is killed before that.
const LIFE: Duration = Duration::from_millis(1_100);
/// Before each kill the machine is left alone for this long: whoever comes after a busy peer would find caches filled and
/// processors awake.
const QUIET: Duration = Duration::from_millis(100);
/// Processes of the second part.
const MANY: usize = 1_000;
/// And how long they are left alone.
const IDLE: Duration = Duration::from_secs(30);
/// Nobody takes longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(worker_threads = 2)]
async fn main() {
    if floor::is_asked_for() {
        return floor::run();
    }
    println!("machine: {}", conditions());
    let kinds = Kind::installed();
    for missing in Kind::ALL.iter().filter(|kind| !kinds.contains(kind)) {
        println!("{} is not installed; `deploy/setup/supervisors` installs it", missing.name());
    }
    let folder = tempfile::tempdir().unwrap();
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    if wanted("kills") {
        kills(&kinds, folder.path()).await;
    }
    if wanted("many") {
        many(&kinds, folder.path()).await;
    }
    println!("load at the end {}", load());
}

/// From just before the kill to the first act of the next process.
async fn kills(kinds: &[Kind], folder: &Path) {
    println!("\nkill -9 to running again, {KILLS} kills each, in turns");
    let mut peers = Vec::new();
    for kind in kinds {
        let mut peer = kind.start(1, &folder.join(format!("one-{}", kind.name()))).await;
        wait_for_starts(&mut peer, 1).await;
        peers.push((peer, Vec::new()));
    }
    for kill in 1..=KILLS {
        tokio::time::sleep(LIFE).await;
        for (peer, took) in &mut peers {
            tokio::time::sleep(QUIET).await;
            let pid = peer.starts().last().unwrap().1;
            let begin = mono_now();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
            wait_for_starts(peer, kill + 1).await;
            took.push(peer.starts().last().unwrap().0.saturating_sub(begin));
        }
    }
    println!("{:<12}  {:>10}  {:>10}  {:>10}  {:>8}", "", "median", "p99", "worst", "x floor");
    let medians: Vec<Duration> = peers.iter_mut().map(|(_, took)| at(took, 50)).collect();
    let floor = peers.iter().zip(&medians).find(|((peer, _), _)| peer.kind == Kind::Floor).map(|(_, median)| *median);
    for ((peer, took), median) in peers.iter_mut().zip(&medians) {
        let times = floor.map_or(0.0, |floor| median.as_secs_f64() / floor.as_secs_f64());
        let (p99, worst) = (at(took, 99), at(took, 100));
        println!("{:<12}  {median:>10.2?}  {p99:>10.2?}  {worst:>10.2?}  {times:>8.1}", peer.kind.name());
    }
    for (peer, _) in &mut peers {
        peer.stop().await;
    }
}

fn at(took: &mut [Duration], percent: usize) -> Duration {
    took.sort();
    took[(took.len() * percent).div_ceil(100).max(1) - 1]
}

/// Start, memory, idle CPU and stop of many.
async fn many(kinds: &[Kind], folder: &Path) {
    println!("\n{MANY} processes, idle for {} s", IDLE.as_secs());
    println!(
        "{:<12}  {:>10}  {:>10}  {:>12}  {:>12}  {:>12}  {:>9}  {:>9}",
        "", "all run", "stopped", "main RSS", "others PSS", "PSS each", "main CPU", "all CPU"
    );
    for kind in kinds {
        let begin = mono_now();
        let mut peer = kind.start(MANY, &folder.join(format!("many-{}", kind.name()))).await;
        wait_for_starts(&mut peer, MANY).await;
        let began = peer.began.unwrap_or(begin);
        let running = peer.starts().iter().map(|(at, _)| *at).max().unwrap().saturating_sub(began);
        // What a start leaves to do is not idling.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = Cost::of(&peer);
        tokio::time::sleep(IDLE).await;
        let after = Cost::of(&peer);
        let begin = Instant::now();
        peer.stop().await;
        let stopped = begin.elapsed();
        let percent = |before: Duration, after: Duration| {
            format!("{:.2}%", (after.saturating_sub(before)).as_secs_f64() / IDLE.as_secs_f64() * 100.0)
        };
        println!(
            "{:<12}  {running:>10.2?}  {stopped:>10.2?}  {:>12}  {:>12}  {:>12}  {:>9}  {:>9}",
            kind.name(),
            mib(after.main_rss_bytes),
            mib(after.others_pss_bytes),
            mib(after.others_pss_bytes / after.others.max(1)),
            percent(before.main_cpu, after.main_cpu),
            percent(before.all_cpu, after.all_cpu),
        );
    }
}

async fn wait_for_starts(peer: &mut Running, count: usize) {
    let name = peer.kind.name();
    let account = peer.account.clone();
    eventually_within(PATIENCE, &format!("{name} has started {count}"), || async {
        (peer::starts(&account).len() >= count).then_some(())
    })
    .await;
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / (1 << 20) as f64)
}

fn conditions() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, kernel {}, load {}", kernel.trim(), load())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}
