//! `bench-steady`: a stream of durable writes that does not end for minutes, looked at window by window: the first ten
//! seconds and the tenth minute should look alike. What drifts is named: throughput, latency, memory, disk.
//!
//! Flags: `--seconds N --writers N --names N --window SECONDS`. Writers write as fast as they are answered.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use minder_chaos_tests::{
    Chance, Cluster, ClusterShape, Program,
    usage::{conditions, cpu_time, load, percentile, resident_bytes},
};
use minder_client::v1;
use tonic::transport::{Channel, Endpoint};

/// Bytes of each value.
const VALUE_BYTES: usize = 256;
/// One connection carries this many writers.
const WRITERS_PER_CONNECTION: usize = 10;
/// What starting left to do is over by then, and connections are warm.
const WARM_UP: Duration = Duration::from_secs(2);
/// A window whose throughput is further from the first one's than this is called a drift.
const DRIFT_PERCENT: f64 = 15.0;

struct Options {
    run: Duration,
    window: Duration,
    writers: usize,
    names: u64,
}

impl Options {
    fn read() -> Self {
        let (mut run, mut window, mut writers, mut names) = (600, 30, 64, 10_000);
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let number = args.next().and_then(|value| value.parse::<u64>().ok());
            let number = number.unwrap_or_else(|| panic!("{flag} wants a number"));
            match flag.as_str() {
                "--seconds" => run = number,
                "--window" => window = number,
                "--writers" => writers = number as usize,
                "--names" => names = number,
                _ => panic!("{flag} is no flag of bench-steady"),
            }
        }
        Self { run: Duration::from_secs(run), window: Duration::from_secs(window.max(1)), writers, names }
    }
}

/// What writers and the clock share.
#[derive(Default)]
struct Shared {
    took: Mutex<Vec<Duration>>,
    stop: AtomicBool,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = Options::read();
    let folder = tempfile::tempdir().unwrap();
    println!("machine: {}", conditions(folder.path()));
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let address = cluster.addresses[cluster.leader().await].clone();
    let shared = Arc::new(Shared::default());
    let mut writers = Vec::new();
    for first in (0..options.writers).step_by(WRITERS_PER_CONNECTION) {
        let channel =
            Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true).connect().await.unwrap();
        for writer in first..options.writers.min(first + WRITERS_PER_CONNECTION) {
            writers.push(tokio::spawn(write(writer as u64, options.names, channel.clone(), shared.clone())));
        }
    }
    tokio::time::sleep(WARM_UP).await;
    println!("{} writers, {} names, a window is {} s", options.writers, options.names, options.window.as_secs());
    println!(
        "{:>7} {:>9} {:>9} {:>9} {:>9} {:>12}  memory, disk",
        "seconds", "writes/s", "p50", "p99", "worst", "CPU a write"
    );
    let rates = windows(&options, &cluster, &shared).await;
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    report(&rates);
    println!("load at the end {}", load());
}

async fn windows(options: &Options, cluster: &Cluster, shared: &Shared) -> Vec<f64> {
    let pids: Vec<u32> = cluster.managers.iter().map(Program::pid).collect();
    let cpu = || pids.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let (start, mut rates) = (Instant::now(), Vec::new());
    shared.took.lock().unwrap().clear();
    while start.elapsed() < options.run {
        let (begin, cpu_before) = (Instant::now(), cpu());
        tokio::time::sleep(options.window).await;
        let took = std::mem::take(&mut *shared.took.lock().unwrap());
        let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
        let each = (cpu() - cpu_before) / took.len().max(1) as u32;
        let memory: Vec<String> = pids.iter().map(|pid| (resident_bytes(*pid) >> 20).to_string()).collect();
        println!(
            "{:>7} {rate:>9.0} {:>9.2?} {:>9.2?} {:>9.1?} {each:>12.0?}  {} MiB, {} MiB",
            start.elapsed().as_secs(),
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
            memory.join(" "),
            disk_bytes(cluster.path()) >> 20,
        );
        rates.push(rate);
    }
    rates
}

fn report(rates: &[f64]) {
    let Some(first) = rates.first() else { return };
    let off = |rate: &f64| (rate / first - 1.0) * 100.0;
    let drifts = rates.iter().filter(|rate| off(rate).abs() > DRIFT_PERCENT).count();
    let last = rates.last().map_or(0.0, off);
    println!(
        "the last window is {last:+.1} % off the first; {drifts} of {} are more than {DRIFT_PERCENT} % off",
        rates.len()
    );
}

async fn write(writer: u64, names: u64, channel: Channel, shared: Arc<Shared>) {
    let mut chance = Chance::new(writer);
    let mut control = v1::control_client::ControlClient::new(channel);
    while !shared.stop.load(Ordering::Relaxed) {
        let random = chance.below(u64::MAX);
        let spec = v1::ProcessSpec {
            name: format!("bench-{}", random % names),
            command: "/bin/true".into(),
            env: [("VALUE".to_owned(), format!("{random:0>VALUE_BYTES$}"))].into(),
            ..Default::default()
        };
        let options = v1::WriteOptions { request_id: uuid::Uuid::now_v7().to_string(), ..Default::default() };
        let sent = Instant::now();
        control.apply(v1::ApplyRequest { specs: vec![spec], options: Some(options) }).await.unwrap();
        shared.took.lock().unwrap().push(sent.elapsed());
    }
}

/// What lies below a folder. Files that go while it is looked at count as nothing.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
