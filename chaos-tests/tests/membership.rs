//! All managers are replaced, one after the other: slaves and clients that knew only the first ones follow, also after
//! their own restart, and no process notices.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_chaos_tests::{Cluster, ClusterShape, bin, eventually, named};
use minder_client::{Write, v1};
use minder_model::{HostName, ProcessName, Spec};

const REMOVED: Option<i32> = Some(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slaves_and_clients_follow_when_all_managers_are_replaced() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 2 }).await;
    let mut spec = Spec::new(ProcessName::new("witness").unwrap(), bin("minder-witness").to_str().unwrap());
    spec.args = vec![cluster.path().join("account").to_str().unwrap().into()];
    spec.hosts = (1..=2).map(|number| HostName::new(format!("host-{number}")).unwrap()).collect();
    let client = cluster.client();
    client.apply(&[spec], &Write::default()).await.unwrap();
    let before = pids(&cluster.wait_until_running(named(&["witness"]), 2).await);

    for old in 1..=3_u64 {
        let peer = cluster.start_manager();
        let mut told = Vec::new();
        let last = client.add_manager(peer, old.to_string(), |step| told.push(step.step)).await.unwrap();
        assert!(last.voter && last.member.is_some_and(|member| member.id > 5), "{told:?}");
        cluster.addresses.remove(0);
        assert_eq!(cluster.managers.remove(0).wait_for_exit(), REMOVED);
        // This client was made for the first three.
        client.processes(named(&["witness"]), false).await.unwrap();
    }
    assert_eq!(client.managers(false).await.unwrap().managers.len(), 3);
    cluster.wait_until_in_step().await;

    // Its own configuration names nobody who is still there.
    cluster.slaves[0].kill();
    cluster.slaves[0].start();
    // And this one moves as well.
    cluster.slaves[1].kill();
    cluster.slaves[1].set_arg("--address", "127.0.0.1:9999");
    cluster.slaves[1].start();
    cluster.wait_for_sessions(2).await;
    eventually("the second host is known by its new address", || async {
        let host = client.host("127.0.0.1:9999").await.ok()?.host?;
        (host.name == "host-2").then_some(())
    })
    .await;
    let gone = client.host("127.0.0.1:9002").await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(pids(&cluster.wait_until_running(named(&["witness"]), 2).await), before, "a process was restarted");
}

fn pids(instances: &[v1::Instance]) -> Vec<u32> {
    instances.iter().map(|instance| instance.status.as_ref().unwrap().pid).collect()
}
