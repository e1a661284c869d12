//! `bench-writes`: durable single-object writes on three managers, beside etcd on three members in the same run.
//!
//! Both sync every write on every member, on one disk; nothing is turned off. Rounds alternate, medians are compared,
//! and what else the machine did is printed. Without an etcd on the PATH (or in `MINDER_ETCD`) only Minder is measured.
#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    time::{Duration, Instant},
};

use futures::future::join_all;
use minder_chaos_tests::{Cluster, ClusterShape, Etcd, Program};
use minder_client::v1;
use tonic::transport::{Channel, Endpoint};

/// Writers at once, unless the command line says others.
const WRITERS: [usize; 5] = [1, 16, 64, 128, 256];
/// Rounds of each; the median counts.
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(700);
const MEASURED: Duration = Duration::from_secs(3);
/// Names written to, and bytes of each value.
const NAMES: u64 = 10_000;
const VALUE_BYTES: usize = 256;
/// Syncs that show what the disk costs.
const SYNCS: usize = 500;
/// `USER_HZ`, which is 100 on every Linux that matters.
const TICKS_PER_SECOND: u64 = 100;
/// One connection carries this many writers.
const WRITERS_PER_CONNECTION: usize = 10;

struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// CPU time of all three members together for one write.
    cpu: Duration,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    println!("machine: {} cores, load {}", cores(), load());
    for at_once in [1, 3] {
        let (p50, p99) = sync_cost(folder.path(), at_once);
        println!("disk: 4 KiB append + fdatasync, {at_once} at once: p50 {p50:.0?}, p99 {p99:.0?}");
    }
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let etcd = match Etcd::version() {
        Some(version) => {
            println!("peer: {version}");
            Some(Etcd::start(&[]).await)
        }
        None => {
            println!("peer: no etcd on the PATH nor in MINDER_ETCD; Minder alone");
            None
        }
    };
    println!("{:>8}  {:>32}  {:>32}  ratio", "writers", "minder /s (p50, p99, cpu)", "etcd /s (p50, p99, cpu)");
    let asked: Vec<usize> = std::env::args().skip(1).map(|writers| writers.parse().unwrap()).collect();
    for writers in if asked.is_empty() { WRITERS.to_vec() } else { asked } {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let leader = cluster.addresses[cluster.leader().await].clone();
            let pids: Vec<u32> = cluster.managers.iter().map(Program::pid).collect();
            ours.push(measure(writers, &leader, &pids, minder_write).await);
            if let Some(etcd) = &etcd {
                let leader = &etcd.addresses()[etcd.leader().await];
                theirs.push(measure(writers, leader, &etcd.pids(), etcd_write).await);
            }
        }
        let ours = median(ours).unwrap();
        let theirs = median(theirs);
        let ratio = theirs.as_ref().map_or("-".into(), |theirs| format!("{:.2}", ours.per_second / theirs.per_second));
        println!("{writers:>8}  {:>32}  {:>32}  {ratio}", text(Some(&ours)), text(theirs.as_ref()));
    }
    println!("load at the end {}", load());
}

fn text(round: Option<&Round>) -> String {
    round.map_or("-".into(), |round| {
        format!("{:.0} ({:.2?}, {:.1?}, {:.0?})", round.per_second, round.p50, round.p99, round.cpu)
    })
}

fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    let middle = rounds.len() / 2;
    (!rounds.is_empty()).then(|| rounds.swap_remove(middle))
}

async fn measure<F: Future<Output = ()> + Send>(
    writers: usize,
    address: &str,
    members: &[u32],
    write: impl Fn(Channel, u64) -> F + Clone + Send + Sync + 'static,
) -> Round {
    let connections = join_all((0..writers.div_ceil(WRITERS_PER_CONNECTION)).map(|_| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
        async move { endpoint.connect().await.unwrap() }
    }))
    .await;
    let cpu_before = cpu_time(members);
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURED;
    let tasks = (0..writers).map(|writer| {
        let (channel, write) = (connections[writer / WRITERS_PER_CONNECTION].clone(), write.clone());
        tokio::spawn(async move {
            let (mut took, mut writes) = (Vec::new(), 0);
            let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(writer as u64 + 1);
            loop {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let sent = Instant::now();
                write(channel.clone(), random >> 20).await;
                writes += 1;
                let now = Instant::now();
                if now >= end {
                    return (took, writes);
                }
                if sent >= begin {
                    took.push(now - sent);
                }
            }
        })
    });
    let (took, writes): (Vec<_>, Vec<u32>) = join_all(tasks).await.into_iter().map(Result::unwrap).unzip();
    let cpu = (cpu_time(members) - cpu_before) / writes.iter().sum();
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    Round { per_second: took.len() as f64 / MEASURED.as_secs_f64(), p50: at(50), p99: at(99), cpu }
}

/// What these processes have used, all together.
fn cpu_time(pids: &[u32]) -> Duration {
    let ticks = pids.iter().map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // After the name, which may hold anything: state, ten other fields, utime, stime.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS_PER_SECOND)
}

/// A process spec with a value that is another one each time.
async fn minder_write(channel: Channel, random: u64) {
    let value = format!("{random:0>width$}", width = VALUE_BYTES);
    let spec = v1::ProcessSpec {
        name: format!("bench-{}", random % NAMES),
        command: "/bin/true".into(),
        env: [("VALUE".to_owned(), value)].into(),
        ..Default::default()
    };
    let options = v1::WriteOptions { request_id: uuid::Uuid::now_v7().to_string(), ..Default::default() };
    let request = v1::ApplyRequest { specs: vec![spec], options: Some(options) };
    v1::control_client::ControlClient::new(channel).apply(request).await.unwrap();
}

async fn etcd_write(channel: Channel, random: u64) {
    let (key, value) = (format!("bench-{}", random % NAMES), format!("{random:0>width$}", width = VALUE_BYTES));
    Etcd::put(channel, key, value).await.unwrap();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn load() -> String {
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
