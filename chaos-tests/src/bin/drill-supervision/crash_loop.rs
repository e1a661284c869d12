//! A thousand processes that end as soon as they are started: with the delays that specs have by default, and without any
//! delay at all. What it costs must not grow, and another process of the host must start as ever.

use std::time::{Duration, Instant};

use minder_chaos_tests::{Cluster, ClusterShape, Spread, eventually_within, named};
use minder_client::{Write, v1};
use minder_model::{Bytes, Millis, Restart, Spec};

use crate::{
    PATIENCE, Shape,
    cost::{Cost, mib, size_of},
    probe::Probe,
    spec,
};

/// Another process that is started meanwhile begins within this.
const PROBE_MAX: Duration = Duration::from_millis(50);

/// What is left on the disk of each process' output, for either stream.
const LOG_BYTES: u64 = 64 * 1_024;
const LOG_FILES: u64 = 2;
/// A ledger is written anew before this, whatever happens.
const LEDGER_BYTES_MAX: u64 = 32 << 20;
/// A bundle has fewer files, and a process one or two bundles.
const BUNDLE_FILES_MAX: u64 = 16;
/// A slave with a thousand processes stays below this.
const SLAVE_BYTES_MAX: u64 = 64 << 20;

/// Runs it with both delays.
pub async fn run(shape: Shape) {
    let none = Restart {
        delay: Millis(0),
        delay_max: Millis(0),
        limit: 0,
        policy: minder_model::RestartPolicy::Always,
        ..Restart::default()
    };
    looped(shape, "the default delays", Restart::default()).await;
    looped(shape, "no delay", none).await;
}

async fn looped(shape: Shape, name: &str, restart: Restart) {
    println!("\n{} processes in a crash loop for {} s, {name}", shape.processes, shape.seconds);
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let client = cluster.client();
    let probe = Probe::begin(&cluster).await;
    client.apply(&[crashing(shape.processes, restart)], &Write::default()).await.unwrap();
    let begin = Instant::now();
    // What the first starts cost is another drill's business.
    tokio::time::sleep(Duration::from_secs(shape.seconds) / 12).await;
    let before = Cost::of(&cluster);
    let half = Duration::from_secs(shape.seconds / 2);
    let mut took = probe.starts_for(half).await;
    let middle = Cost::of(&cluster);
    took.extend(probe.starts_for(half).await);
    let after = Cost::of(&cluster);
    let restarts = restarts(&cluster).await;
    let slave = cluster.path().join("slave-1");
    let [(bundles, bundle_files), (logs, _)] = ["run", "logs"].map(|folder| size_of(&slave.join(folder)));
    let ledger = std::fs::metadata(slave.join("ledger")).unwrap().len();
    println!("restarts {restarts} in {:.0?}", begin.elapsed());
    for (half, before, after) in [("first", before, middle), ("second", middle, after)] {
        let seconds = (after.at - before.at).as_secs_f64();
        println!(
            "{half} half: slave CPU {:.1} %, manager CPU {:.1} %, machine {:.0} %, written by the slave {} a second, wire {:.0} KiB a second, \
             memory of slave {} and manager {}",
            (after.slave_cpu - before.slave_cpu).as_secs_f64() / seconds * 100.0,
            (after.manager_cpu - before.manager_cpu).as_secs_f64() / seconds * 100.0,
            (after.machine_cpu - before.machine_cpu).as_secs_f64() / seconds * 100.0,
            mib(((after.slave_disk_bytes - before.slave_disk_bytes) as f64 / seconds) as u64),
            (after.wire_bytes - before.wire_bytes) as f64 / seconds / 1024.0,
            mib(after.slave_rss_bytes),
            mib(after.manager_rss_bytes),
        );
    }
    println!("on disk: ledger {}, {bundle_files} files of bundles {}, logs {}", mib(ledger), mib(bundles), mib(logs));
    let late = took.iter().filter(|took| **took > PROBE_MAX).count();
    println!("another process starts meanwhile: {}, over {PROBE_MAX:?}: {late}", Spread(took));
    let count = shape.processes as u64;
    assert!(ledger < LEDGER_BYTES_MAX, "the ledger grows: {ledger}");
    assert!(logs < count * LOG_BYTES * LOG_FILES, "logs grow: {logs}");
    assert!(bundle_files < count * BUNDLE_FILES_MAX, "bundles stay behind: {bundle_files}");
    assert!(after.slave_rss_bytes < SLAVE_BYTES_MAX, "the slave grows: {}", after.slave_rss_bytes);
    let begin = Instant::now();
    client.order(v1::OrderKind::Stop, 0, named(&["crashing"]), &Write::default()).await.unwrap();
    eventually_within(PATIENCE, "all are stopped", || async {
        let seen = client.instances(named(&["crashing"])).await.ok()?.instances;
        seen.iter().all(|one| one.owed.is_empty()).then_some(())
    })
    .await;
    println!("all stopped {:.0?} after the order", begin.elapsed());
}

fn crashing(count: usize, restart: Restart) -> Spec {
    let mut spec = spec("crashing", "", std::path::Path::new("/"), 0);
    spec.command = "/bin/sh".into();
    spec.args = vec!["-c".into(), "echo it cannot be; exit 1".into()];
    spec.instances = count as u32;
    spec.restart = restart;
    (spec.logs.max_size, spec.logs.max_files) = (Bytes(LOG_BYTES), LOG_FILES as u32);
    spec
}

async fn restarts(cluster: &Cluster) -> u64 {
    let seen = cluster.client().instances(named(&["crashing"])).await.unwrap().instances;
    seen.iter().filter_map(|one| one.status.as_ref()).map(|status| status.incarnation.saturating_sub(1)).sum()
}
