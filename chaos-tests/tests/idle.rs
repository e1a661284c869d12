//! A cluster with nothing to do wakes up for its heartbeats and little else.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    fs,
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape};

/// Wake-ups of a manager in a second: a tick of consensus each 10 ms, some for each heartbeat, and the rest in tens.
/// Somebody who looks at the clock each millisecond costs nine hundred more.
const WAKE_UPS_MAX: f64 = 600.0;
const WINDOW: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_at_rest_rests() {
    // One that is alone leads at once, while the rest of it still begins.
    for managers in [1, 3] {
        rests(managers).await;
    }
}

async fn rests(managers: usize) {
    let cluster = Cluster::start(ClusterShape { managers, slaves: 1 }).await;
    cluster.leader().await;
    let before: Vec<u64> = cluster.managers.iter().map(|manager| wake_ups(manager.pid())).collect();
    let begin = Instant::now();
    // Not a wait for anything: what is counted is counted over a time.
    tokio::time::sleep(WINDOW).await;
    for (manager, before) in cluster.managers.iter().zip(before) {
        let a_second = (wake_ups(manager.pid()) - before) as f64 / begin.elapsed().as_secs_f64();
        assert!(a_second < WAKE_UPS_MAX, "manager {} wakes up {a_second:.0} times a second", manager.pid());
    }
}

/// How often threads of the process have gone to sleep by themselves.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    status.map(count).sum()
}
