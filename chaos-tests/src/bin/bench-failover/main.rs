//! `bench-failover`: how long writers get no answer when the leader is killed and when it hands over, beside etcd in the
//! same run, at its defaults and tuned.
//!
//! Both get the same writers: ten, each with one write under way and twenty a second, 50 ms of patience, then the next
//! member. A gap is the longest time between two acknowledged writes, of whichever writers. The first argument is how
//! many kills and how many hand-overs. Without an etcd on the PATH (or in `MINDER_ETCD`) only Minder is measured.
#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape, Etcd, Gaps, Spread, eventually};
use minder_client::v1;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

const ROUNDS: usize = 30;
const WRITERS: usize = 10;
/// Of each writer.
const PERIOD: Duration = Duration::from_millis(50);
/// Of a writer with one member, as the research's measurements had it.
const PATIENCE: Duration = Duration::from_millis(50);
/// Writes before each fault, and after it before anything else is done.
const SETTLED: usize = 60;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let rounds = std::env::args().nth(1).map_or(ROUNDS, |text| text.parse().unwrap());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "machine: {cores} cores, load {}; {WRITERS} writers, {} writes/s, {rounds} kills and {rounds} hand-overs each",
        load(),
        WRITERS * 1_000 / PERIOD.as_millis() as usize
    );
    let (kills, transfers) = minder(rounds).await;
    report("minder", kills, transfers);
    match Etcd::version() {
        None => println!("peer: no etcd on the PATH nor in MINDER_ETCD; Minder alone"),
        Some(version) => {
            println!("peer: {version}");
            for (name, more) in [
                ("etcd, defaults (100/1000 ms)", &[][..]),
                ("etcd, tuned (25/250 ms)", &["--heartbeat-interval", "25", "--election-timeout", "250"][..]),
            ] {
                let (kills, transfers) = etcd(rounds, more).await;
                report(name, kills, transfers);
            }
        }
    }
    println!("load at the end {}", load());
}

fn report(who: &str, kills: Vec<Duration>, transfers: Vec<Duration>) {
    println!("{who:<30}  leader killed: {}", Spread(kills));
    println!("{:<30}  handed over:   {}", "", Spread(transfers));
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

async fn minder(rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let writers = Writers::start(&cluster.addresses, minder_write);
    let (mut kills, mut transfers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let leader = cluster.leader().await;
        kills.push(writers.gap(async { cluster.managers[leader].kill() }).await);
        cluster.managers[leader].start();
        cluster.wait_until_answering().await;

        let client = cluster.client();
        transfers.push(writers.gap(async { drop(client.transfer_leader(0).await.unwrap()) }).await);
    }
    writers.stop().await;
    (kills, transfers)
}

async fn etcd_write(channel: Channel, number: u64) -> Result<(), tonic::Status> {
    Etcd::put(channel, format!("bench-{}", number % 1_000), "x".repeat(64)).await
}

async fn etcd(rounds: usize, more: &[&str]) -> (Vec<Duration>, Vec<Duration>) {
    let mut etcd = Etcd::start(more).await;
    let writers = Writers::start(&etcd.addresses(), etcd_write);
    let (mut kills, mut transfers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let leader = etcd.leader().await;
        kills.push(writers.gap(async { etcd.kill(leader) }).await);
        etcd.restart(leader);
        etcd.wait_until_answering().await;
        transfers.push(writers.gap(etcd.move_leader()).await);
    }
    writers.stop().await;
    (kills, transfers)
}

/// A process spec under a name of its own, with the request id that makes repeating it safe.
async fn minder_write(channel: Channel, number: u64) -> Result<(), tonic::Status> {
    let spec = v1::ProcessSpec {
        name: format!("bench-{}", number % 1_000),
        command: "/bin/true".into(),
        ..Default::default()
    };
    let options = v1::WriteOptions { request_id: format!("bench-failover-{number}"), ..Default::default() };
    let request = v1::ApplyRequest { specs: vec![spec], options: Some(options) };
    v1::control_client::ControlClient::new(channel).apply(request).await.map(drop)
}

/// Writers that never rest.
struct Writers {
    gaps: Arc<Gaps>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start<F>(addresses: &[String], write: impl Fn(Channel, u64) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), tonic::Status>> + Send + 'static,
    {
        let (gaps, stop) = (Arc::new(Gaps::default()), Arc::new(AtomicBool::new(false)));
        let tasks = (0..WRITERS).map(|writer| {
            let channels = addresses.iter().map(|address| {
                Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true).connect_lazy()
            });
            tokio::spawn(one_writer(writer, channels.collect(), gaps.clone(), stop.clone(), write.clone()))
        });
        let tasks = tasks.collect();
        Self { gaps, stop, tasks }
    }

    /// The longest gap from `fault` until writes have gone on for a while.
    async fn gap(&self, fault: impl Future<Output = ()>) -> Duration {
        self.settle().await;
        let begin = Instant::now();
        fault.await;
        self.settle().await;
        self.gaps.longest_since(begin)
    }

    async fn settle(&self) {
        let before = self.gaps.count();
        eventually("writes go on", || async { (self.gaps.count() > before + SETTLED).then_some(()) }).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn one_writer<F>(
    writer: usize,
    channels: Vec<Channel>,
    gaps: Arc<Gaps>,
    stop: Arc<AtomicBool>,
    write: impl Fn(Channel, u64) -> F,
) where
    F: Future<Output = Result<(), tonic::Status>>,
{
    // Spread over the period, so that there is an acknowledgement every few milliseconds.
    tokio::time::sleep(PERIOD / WRITERS as u32 * writer as u32).await;
    let mut member = writer % channels.len();
    let mut number = writer as u64;
    let mut beats = tokio::time::interval(PERIOD);
    // Else a fault would bring all writers into step, and the gaps between their steps would be measured.
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !stop.load(Ordering::Relaxed) {
        beats.tick().await;
        number += WRITERS as u64;
        loop {
            let sent = Instant::now();
            match tokio::time::timeout(PATIENCE, write(channels[member].clone(), number)).await {
                Ok(Ok(())) => break gaps.acknowledged(),
                Ok(Err(_)) | Err(_) if stop.load(Ordering::Relaxed) => return,
                Ok(Err(_)) | Err(_) => member = (member + 1) % channels.len(),
            }
            // What is refused at once is not asked again in the same millisecond.
            tokio::time::sleep(Duration::from_millis(2).saturating_sub(sent.elapsed())).await;
        }
    }
}
