//! Thousands of objects a write: a directory of documents that is applied as a whole, new ones and changed ones.
//!
//! Each row has a fresh cluster of three. What is timed is the client library's call, from specs to the acknowledgement:
//! encoding, the leader's checks, three logs on one disk, and the table on all three.

use std::time::{Duration, Instant};

use futures::future::join_all;
use minder_chaos_tests::{Cluster, ClusterShape, Program};
use minder_client::{Client, Write};
use minder_model::{HostName, ProcessName, Spec};

use crate::{load::cpu_time, single::VALUE_BYTES};

/// Objects of each row.
const OBJECTS: usize = 60_000;
/// Hosts that they are placed on.
const HOSTS: usize = 100;
/// Writers at once and objects of each write.
const ROWS: [(usize, usize); 5] = [(1, 1_000), (4, 1_000), (1, 10_000), (2, 10_000), (1, 100)];

pub async fn run() {
    println!("batched apply of {OBJECTS} objects on {HOSTS} hosts, durable on three managers");
    println!(
        "{:>8}{:>9}  {:>8}  {:>10}  {:>8}  {:>16}  {:>10}",
        "writers", "a write", "", "objects/s", "MiB/s", "write p50, max", "cpu/object"
    );
    for (writers, size) in ROWS {
        row(writers, size).await;
    }
}

async fn row(writers: usize, size: usize) {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let leader = cluster.leader().await;
    let members: Vec<u32> = cluster.managers.iter().map(Program::pid).collect();
    for (what, value) in [("new", "a"), ("changed", "b")] {
        let batches = batches(size, value);
        let bytes: usize = batches.iter().flatten().map(minicbor::len).sum();
        let cpu_before = cpu_time(&members);
        let begin = Instant::now();
        let mut shares: Vec<Vec<Vec<Spec>>> = vec![Vec::new(); writers];
        batches.into_iter().enumerate().for_each(|(at, batch)| shares[at % writers].push(batch));
        let all = shares.into_iter().map(|share| tokio::spawn(write_all(cluster.client_from(leader), share)));
        let mut took: Vec<Duration> = join_all(all).await.into_iter().flat_map(Result::unwrap).collect();
        let whole = begin.elapsed().as_secs_f64();
        took.sort();
        let cpu = (cpu_time(&members) - cpu_before) / OBJECTS as u32;
        println!(
            "{writers:>8}{size:>9}  {what:>8}  {:>10.0}  {:>8.1}  {:>16}  {cpu:>10.1?}",
            OBJECTS as f64 / whole,
            bytes as f64 / whole / f64::from(1 << 20),
            format!("{:.0?}, {:.0?}", took[took.len() / 2], took[took.len() - 1]),
        );
    }
    cluster.wait_until_in_step().await;
    let resident: Vec<String> = members.iter().map(|pid| format!("{} MiB", resident_mib(*pid))).collect();
    println!("          the managers hold {} then", resident.join(", "));
}

async fn write_all(client: Client, batches: Vec<Vec<Spec>>) -> Vec<Duration> {
    let client = client.with_deadline(Duration::from_secs(60));
    let mut took = Vec::new();
    for batch in batches {
        let begin = Instant::now();
        client.apply(&batch, &Write::default()).await.unwrap();
        took.push(begin.elapsed());
    }
    took
}

fn batches(size: usize, value: &str) -> Vec<Vec<Spec>> {
    let spec = |number: usize| {
        let name = ProcessName::new(format!("bench-{number}")).unwrap();
        let value = format!("{value}{number:0>width$}", width = VALUE_BYTES - 1);
        Spec {
            env: [("VALUE".to_owned(), value)].into(),
            hosts: vec![HostName::new(format!("host-{}", number % HOSTS)).unwrap()],
            ..Spec::new(name, "/bin/true")
        }
    };
    let numbers: Vec<usize> = (0..OBJECTS).collect();
    numbers.chunks(size).map(|chunk| chunk.iter().map(|number| spec(*number)).collect()).collect()
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1_024
}
