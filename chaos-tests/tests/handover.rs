//! Leadership moves in order: on request, and when the leader is told to stop. A writer sees at most one retry.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape, Gaps, Spread, eventually};
use minder_client::{Client, Write};
use minder_model::{ProcessName, Spec};

/// Of each kind.
const ROUNDS: usize = 5;
/// A write that takes longer than this waited for an election or a time-out. Typical is a tenth of it.
const SLOWEST: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_hardly_notice_when_a_leader_stops_in_order_or_hands_over() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let (gaps, stop) = (Arc::new(Gaps::default()), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> =
        (0..3).map(|at| tokio::spawn(write(cluster.client_from(at), at, gaps.clone(), stop.clone()))).collect();
    let (mut stops, mut transfers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let leader = cluster.leader().await;
        settle(&gaps).await;
        let begin = Instant::now();
        assert_eq!(cluster.managers[leader].stop(), Some(0), "{}", cluster.managers[leader].log());
        settle(&gaps).await;
        stops.push(gaps.longest_since(begin));
        cluster.managers[leader].start();
        cluster.wait_until_answering().await;

        settle(&gaps).await;
        let begin = Instant::now();
        cluster.client().transfer_leader(0).await.unwrap();
        settle(&gaps).await;
        transfers.push(gaps.longest_since(begin));
    }
    stop.store(true, Ordering::Relaxed);
    let mut slowest = Vec::new();
    for writer in writers {
        slowest.push(writer.await.unwrap());
    }
    println!("orderly stop of the leader, longest gap of all writers: {}", Spread(stops));
    println!("transfer of leadership, longest gap of all writers: {}", Spread(transfers));
    println!("slowest write of each writer meanwhile: {slowest:?}");
    assert!(slowest.iter().all(|took| *took < SLOWEST), "{slowest:?}");
}

async fn settle(gaps: &Gaps) {
    let before = gaps.count();
    eventually("writes go on", || async { (gaps.count() > before + 60).then_some(()) }).await;
}

/// Writes all the time; every write must succeed in one call of the library. Gives the longest that one took.
async fn write(client: Client, writer: usize, gaps: Arc<Gaps>, stop: Arc<AtomicBool>) -> Duration {
    let mut slowest = Duration::ZERO;
    for at in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let spec = Spec::new(ProcessName::new(format!("w{writer}-{}", at % 50)).unwrap(), "/bin/true");
        let begin = Instant::now();
        client.apply(std::slice::from_ref(&spec), &Write::default()).await.unwrap();
        slowest = slowest.max(begin.elapsed());
        gaps.acknowledged();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    slowest
}
