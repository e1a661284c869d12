//! What a small cluster costs while nothing happens: three managers, three real slaves with some processes.

use std::time::Duration;

use minder_chaos_tests::{
    Cluster, ClusterShape, Program, all,
    usage::{cpu_time, resident_bytes},
};
use minder_client::Write;

use crate::specs::spec;

const SLAVES: usize = 3;
/// Processes of each slave.
const PROCESSES: usize = 5;
/// What starting left to do is over by then.
const SETTLE: Duration = Duration::from_secs(15);

/// Prints CPU and memory of each program.
pub async fn measure(window: Duration) {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: SLAVES }).await;
    let specs: Vec<_> = (0..PROCESSES).map(idler).collect();
    cluster.client().apply(&specs, &Write::default()).await.unwrap();
    cluster.wait_until_running(all(), SLAVES * PROCESSES).await;
    let leader = cluster.leader().await;
    tokio::time::sleep(SETTLE).await;
    let pids: Vec<u32> = cluster.managers.iter().chain(&cluster.slaves).map(Program::pid).collect();
    let before: Vec<Duration> = pids.iter().map(|pid| cpu_time(*pid)).collect();
    tokio::time::sleep(window).await;
    println!("idle, 3 managers, {SLAVES} slaves with {PROCESSES} processes each, {} s:", window.as_secs());
    for (number, (pid, before)) in pids.iter().zip(before).enumerate() {
        let who = match number {
            _ if number == leader => "leader",
            0..3 => "follower",
            _ => "slave",
        };
        let share = (cpu_time(*pid) - before).as_secs_f64() / window.as_secs_f64() * 100.0;
        println!("  {who:<9} {share:>5.2} % of a core, {:>4} MiB", resident_bytes(*pid) >> 20);
    }
}

fn idler(number: usize) -> minder_model::Spec {
    let mut idler = spec(&format!("idler-{number}"), 0);
    (idler.command, idler.args) = ("/bin/sleep".into(), vec!["1000000".into()]);
    idler.hosts = (1..=SLAVES).map(minder_chaos_tests::crowd_host).collect();
    idler
}
