//! A leader that is frozen, not dead, is the hard case of the fence: it wakes with its streams open and the wish of
//! yesterday in hand. What somebody was told is stopped must stay stopped, and what it answers must not be the past.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use minder_chaos_tests::{Cluster, ClusterShape, Spread, bin, eventually, named};
use minder_client::{Client, Write, v1};
use minder_model::{HostName, ProcessName, Spec};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

/// How long after an order was sent its leader freezes; each round freezes another one.
const FREEZE_AFTER_MS: [u64; 4] = [0, 2, 4, 8];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_wakes_again_starts_nothing_and_tells_nothing_old() {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 1 }).await;
    let account = cluster.path().join("account");
    let mut spec = Spec::new(ProcessName::new("switched").unwrap(), bin("minder-witness").to_str().unwrap());
    spec.args = vec![account.to_str().unwrap().into()];
    spec.hosts = vec![HostName::new("host-1").unwrap()];
    cluster.client().apply(&[spec], &Write::default()).await.unwrap();
    let starts = || std::fs::read_to_string(&account).unwrap_or_default().lines().count();
    let (mut acknowledged, mut carried_out) = (Vec::new(), Vec::new());
    for freeze_after in FREEZE_AFTER_MS {
        cluster.wait_until_running(named(&["switched"]), 1).await;
        let frozen = cluster.leader().await;
        let restart = restart_once(&cluster, frozen).await;
        tokio::time::sleep(Duration::from_millis(freeze_after)).await;
        cluster.managers[frozen].signal(Signal::SIGSTOP);
        let frozen_at = Instant::now();

        let others = cluster.client_without(frozen);
        let stopped = eventually("the others take the stop", || async {
            others.order(v1::OrderKind::Stop, 0, named(&["switched"]), &Write::default()).await.ok()
        })
        .await;
        acknowledged.push(frozen_at.elapsed());
        let stopped = stopped.position.unwrap().revision;
        wait_for_phase(&others, v1::Phase::Stopped).await;
        carried_out.push(frozen_at.elapsed());
        let started = starts();

        cluster.managers[frozen].signal(Signal::SIGCONT);
        let woken = cluster.client_of(frozen);
        let told = eventually("the woken manager answers", || async {
            woken.processes(named(&["switched"]), false).await.ok()
        })
        .await;
        assert!(told.position.unwrap().revision >= stopped, "the woken manager's first answer is the past");
        let _ = restart.await;
        cluster.wait_until_in_step().await;
        cluster.wait_for_sessions(1).await;
        wait_for_phase(&cluster.client(), v1::Phase::Stopped).await;
        assert_eq!(starts(), started, "it was started after somebody was told that it is stopped");
        cluster.client().order(v1::OrderKind::Start, 0, named(&["switched"]), &Write::default()).await.unwrap();
    }
    println!("frozen leader: stop acknowledged after {}", Spread(acknowledged));
    println!("frozen leader: stop carried out after {}", Spread(carried_out));
}

/// Sends a restart to one manager and does not wait for its answer. It holds for the process as it is now, so that it
/// can come to nothing, but never take effect after a later stop.
async fn restart_once(cluster: &Cluster, manager: usize) -> JoinHandle<()> {
    let client = cluster.client_of(manager);
    // This also connects, so that the order itself is on its way at once.
    let now = client.processes(named(&["switched"]), false).await.unwrap().processes;
    let write = Write { expect_revision: Some(now[0].revision), ..Write::default() };
    tokio::spawn(async move {
        // Done, refused or lost: each of them is right.
        let _ = client.order(v1::OrderKind::Restart, 0, named(&["switched"]), &write).await;
    })
}

async fn wait_for_phase(client: &Client, phase: v1::Phase) {
    eventually("the process is in the phase", || async {
        let instances = client.instances(named(&["switched"])).await.ok()?.instances;
        (instances[0].status.as_ref()?.phase() == phase).then_some(())
    })
    .await;
}
