//! `bench-writes`: what three managers do with durable writes and linearizable reads, beside etcd on three members in the
//! same run.
//!
//! Both sync every write on every member, on one disk; nothing is turned off. Rounds alternate, medians are compared,
//! and what else the machine did is printed. Without an etcd on the PATH (or in `MINDER_ETCD`) only Minder is measured.
//!
//! `bench-writes [PART...] [CLIENTS...]`: parts are `single` (one object a write), `batched` (thousands) and `reads`; all of
//! them unless some are named.
#![allow(clippy::unwrap_used)]

mod batched;
mod floor;
mod load;
mod reads;
mod single;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use load::{Round, median};
use minder_chaos_tests::{Cluster, ClusterShape, Etcd, Program};

/// Clients at once, unless the command line says others.
const CLIENTS: [usize; 5] = [1, 16, 64, 128, 256];
/// Rounds of each; the median counts.
const ROUNDS: usize = 3;
/// Syncs that show what the disk costs.
const SYNCS: usize = 500;

/// The two of them, in one run.
pub struct Both {
    cluster: Cluster,
    etcd: Option<Etcd>,
}

impl Both {
    async fn start() -> Self {
        let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
        let etcd = if Etcd::version().is_some() { Some(Etcd::start(&[]).await) } else { None };
        Self { cluster, etcd }
    }

    /// Where Minder's leader is, and the managers' processes.
    pub async fn ours(&self) -> (String, Vec<u32>) {
        let leader = self.cluster.addresses[self.cluster.leader().await].clone();
        (leader, self.cluster.managers.iter().map(Program::pid).collect())
    }

    /// The same of etcd, where there is one.
    pub async fn theirs(&self) -> Option<(String, Vec<u32>)> {
        let etcd = self.etcd.as_ref()?;
        Some((etcd.addresses()[etcd.leader().await].clone(), etcd.pids()))
    }

    /// How long the managers' own latest syncs took, as they say: half of each one's took no longer. A disk that is asked
    /// now and then, from processes that were asleep, is another one than the disk in a loop.
    pub async fn syncs(&self) -> String {
        let statuses = self.cluster.statuses().await;
        let syncs: Vec<String> =
            statuses.iter().map(|status| format!("{:.0?}", Duration::from_micros(status.fsync_p50_us))).collect();
        syncs.join(", ")
    }
}

/// Prints one line: so many clients, both, and how many times as much Minder does.
pub fn print_line(clients: usize, ours: Vec<Round>, theirs: Vec<Round>) {
    let (ours, theirs) = (median(ours).unwrap(), median(theirs));
    let ratio = theirs.as_ref().map_or("-".into(), |theirs| format!("{:.2}", ours.per_second / theirs.per_second));
    let theirs = theirs.map_or("-".into(), |theirs| theirs.to_string());
    println!("{clients:>8}  {:>32}  {theirs:>32}  {ratio}", ours.to_string());
}

fn main() {
    match floor::is_asked_for() {
        true => floor::run(),
        false => measure(),
    }
}

#[tokio::main(worker_threads = 2)]
async fn measure() {
    let (numbers, parts): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.parse::<usize>().is_ok());
    let asked: Vec<usize> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let clients = if asked.is_empty() { CLIENTS.to_vec() } else { asked };
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    let folder = tempfile::tempdir().unwrap();
    println!("machine: {} cores, load {}", cores(), load_average());
    for at_once in [1, 3] {
        let (p50, p99) = sync_cost(folder.path(), at_once);
        println!("disk: 4 KiB append + fdatasync, {at_once} at once: p50 {p50:.0?}, p99 {p99:.0?}");
    }
    let (p50, p99) = floor::measure(folder.path());
    println!("floor: a bare write on two of three, {} bytes: p50 {p50:.0?}, p99 {p99:.0?}", floor::ENTRY_BYTES);
    println!(
        "peer: {}",
        Etcd::version().unwrap_or_else(|| "no etcd on the PATH nor in MINDER_ETCD; Minder alone".into())
    );
    if wanted("single") {
        single::run(&Both::start().await, &clients).await;
    }
    if wanted("batched") {
        batched::run().await;
    }
    if wanted("reads") {
        reads::run(&Both::start().await, &clients).await;
    }
    println!("load at the end {}", load_average());
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What one synced append costs on this disk, alone or with as many at once as there are members here.
fn sync_cost(folder: &std::path::Path, at_once: usize) -> (Duration, Duration) {
    let append = |number: usize| -> Vec<Duration> {
        let mut file = std::fs::File::create(folder.join(format!("sync-cost-{number}"))).unwrap();
        let mut one = || {
            let begin = Instant::now();
            file.write_all(&[0x5a; 4_096]).unwrap();
            nix::unistd::fdatasync(&file).unwrap();
            begin.elapsed()
        };
        (0..SYNCS).map(|_| one()).collect()
    };
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|number| scope.spawn(move || append(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    took.sort();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}
