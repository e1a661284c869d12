//! Two hundred processes at once, and what the slave itself costs.

use std::time::Instant;

use minder_model::{Assignment, InstanceKey, Revision, Wanted};
use minder_proto::v1;

use crate::stage::{Stage, host, item, spec};

/// A slave with two hundred processes stays below this.
const RESIDENT_BYTES_MAX: u64 = 30 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_start_at_once_and_the_slave_stays_small() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let many = spec("many", "/bin/sleep", &["1000"]).resolve(&host());
    let all = |assignment: &mut Assignment, wanted: Wanted| {
        for index in 1..=200 {
            let key = InstanceKey::new(many.spec().name.clone(), index);
            assignment.items.insert(key, item(many.digest(), wanted));
        }
    };
    let mut running = Assignment { revision: Revision(1), ..Assignment::empty(host()) };
    all(&mut running, Wanted::Running);
    let nonce = stage.fresh_nonce().await;
    let begin = Instant::now();
    stage.assign(nonce, &running, None, &[&many]).await;
    let have_pids = |stage: &Stage| stage.seen.values().filter(|status| status.pid > 0).count() == 200;
    stage.until("all have a pid", |stage| have_pids(stage).then_some(())).await;
    println!("200 processes have a pid {:.0?} after the assignment was sent", begin.elapsed());
    let of_phase = |stage: &Stage, phase| stage.seen.values().filter(|status| status.phase() == phase).count();
    stage.until("all run", |stage| (of_phase(stage, v1::Phase::Running) == 200).then_some(())).await;

    let machine = stage
        .until("the machine is reported", |stage| stage.machine.clone().filter(|usage| usage.processes.len() == 200))
        .await;
    assert!(
        machine.processes.iter().all(|usage| usage.threads == 1 && usage.resident_bytes > 0 && usage.open_files > 0)
    );
    assert!(machine.memory_available_bytes > 0 && machine.uptime_seconds > 0);
    let slave = minder_shim::identity::stat(stage.slave.as_ref().unwrap().id()).unwrap();
    let resident = slave.resident_pages * rustix::param::page_size() as u64;
    println!("the slave's resident memory: {} KiB", resident >> 10);
    assert!(resident < RESIDENT_BYTES_MAX, "{resident}");

    let mut stopped = Assignment { revision: Revision(2), ..running.clone() };
    all(&mut stopped, Wanted::Stopped);
    let nonce = stage.fresh_nonce().await;
    let begin = Instant::now();
    stage.assign(nonce, &stopped, Some(&running), &[]).await;
    stage.until("all are stopped", |stage| (of_phase(stage, v1::Phase::Stopped) == 200).then_some(())).await;
    println!("200 processes are stopped {:.0?} after the order was sent", begin.elapsed());

    // One by one, among two hundred others.
    let mut took = Vec::new();
    let mut before = stopped;
    for index in 1..=20 {
        let mut next = Assignment { revision: Revision(before.revision.0 + 1), ..before.clone() };
        let key = InstanceKey::new(many.spec().name.clone(), index);
        next.items.insert(key.clone(), item(many.digest(), Wanted::Running));
        let nonce = stage.fresh_nonce().await;
        let begin = Instant::now();
        stage.assign(nonce, &next, Some(&before), &[]).await;
        let key = format!("many:{index}");
        stage.until("it has a pid", |stage| (stage.seen.get(&key)?.pid > 0).then_some(())).await;
        took.push(begin.elapsed());
        before = next;
    }
    took.sort_unstable();
    println!("assignment sent to a reported pid: median {:.1?}, worst {:.1?}", took[10], took[19]);
}

/// More end at once than the slave takes note of in one turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_forgotten_among_eight_hundred_that_end_together() {
    const COUNT: u32 = 800;
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let many = spec("many", "/bin/sleep", &["1000"]).resolve(&host());
    let all = |assignment: &mut Assignment, wanted: Wanted| {
        for index in 1..=COUNT {
            let key = InstanceKey::new(many.spec().name.clone(), index);
            assignment.items.insert(key, item(many.digest(), wanted));
        }
    };
    let of_phase = |stage: &Stage, phase| stage.seen.values().filter(|status| status.phase() == phase).count();
    stage.want(&[&many], |assignment| all(assignment, Wanted::Running)).await;
    stage.until("all run", |stage| (of_phase(stage, v1::Phase::Running) == COUNT as usize).then_some(())).await;
    stage.want(&[], |assignment| all(assignment, Wanted::Stopped)).await;
    stage.until("all are stopped", |stage| (of_phase(stage, v1::Phase::Stopped) == COUNT as usize).then_some(())).await;
    let late = stage.seen.values().filter(|status| status.exits.iter().any(|exit| exit.killed_after_grace)).count();
    assert_eq!(late, 0, "an end was not taken note of in time");
}
