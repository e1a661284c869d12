//! At most one live incarnation of an instance, and none begun twice, at whatever step the slave is killed.

use std::{collections::BTreeSet, fs, time::Duration};

use minder_model::{InstanceKey, Millis, Wanted};
use minder_proto::v1;

use crate::stage::{Stage, host, item, spec};

/// Slaves killed one after another, each a little later in its work than the one before.
const KILLS: u64 = 40;
/// Instances that end and are restarted all the time.
const INSTANCES: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_step_the_slave_is_killed_at() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let account = stage.folder.path().join("account");
    // The lock is held by everything that this incarnation is, and by nothing that it left.
    let script = "exec 9>>\"$0.$1\"; flock -n 9 || echo \"DOUBLE $1 $2\" >> \"$0\"; \
                  echo \"$1 $2\" >> \"$0\"; sleep 0.01; exit 1";
    let mut app = spec("app", "/bin/sh", &["-c", script, account.to_str().unwrap(), "${instance}", "${incarnation}"]);
    app.restart.delay = Millis(10);

    app.restart.delay_max = Millis(10);
    app.restart.limit = 100_000;
    let app = app.resolve(&host());
    stage
        .want(&[&app], |assignment| {
            for index in 1..=INSTANCES {
                let key = InstanceKey::new(app.spec().name.clone(), index);
                assignment.items.insert(key, item(app.digest(), Wanted::Running));
            }
        })
        .await;
    for kill in 0..KILLS {
        stage.kill_slave();
        stage.start_slave_alone();
        tokio::time::sleep(Duration::from_millis(kill)).await;
    }
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    let all_went_on = |stage: &Stage| {
        let ran = fs::read_to_string(&account).unwrap_or_default();
        let seen = stage.seen.values().filter(|status| status.phase() != v1::Phase::Unknown);
        let newest = seen.filter(|status| ran.contains(&format!("{} {}\n", status.index, status.incarnation)));
        (newest.count() == INSTANCES as usize).then_some(ran)
    };
    let ran = stage.until("every instance goes on", all_went_on).await;
    assert!(!ran.contains("DOUBLE"), "{ran}");
    let starts: BTreeSet<&str> = ran.lines().collect();
    assert_eq!(starts.len(), ran.lines().count(), "an incarnation began twice: {ran}");
    println!("{} starts under {KILLS} kills", starts.len());
}
