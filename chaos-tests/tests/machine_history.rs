//! The last hour of a machine is there while its slave lives, and a new leader has it again.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_chaos_tests::{Cluster, ClusterShape, eventually};
use minder_client::v1;

async fn samples(cluster: &Cluster) -> Option<Vec<v1::MachineSample>> {
    let reply = cluster.client().host_history("host-1").await.ok()?;
    assert_eq!((reply.host.as_str(), reply.step_seconds), ("host-1", 15));
    Some(reply.samples).filter(|samples| !samples.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_has_the_samples_of_the_old_one() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 1 }).await;
    let config = cluster.path().join("slave.toml");
    std::fs::write(&config, "machine_interval_ms = 200\n").unwrap();
    cluster.slaves[0].kill();
    cluster.slaves[0].add_arg("--config", config.to_str().unwrap());
    cluster.slaves[0].start();
    let before = eventually("a step of 15 s is over", || samples(&cluster)).await;
    assert!(before[0].memory_used_mib > 0 && before[0].at_s.is_multiple_of(15), "{before:?}");

    let leader = cluster.leader().await;
    cluster.managers[leader].kill();
    let after = eventually("the new leader has samples", || samples(&cluster)).await;
    assert_eq!(after[0], before[0]);
}
