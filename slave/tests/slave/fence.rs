//! What the slave takes from whom.

use minder_model::{Assignment, Digest, InstanceKey, Revision, RunSpec, Wanted};
use minder_proto::v1::{self, from_slave::Message as FromSlave, to_slave::Message as ToSlave};

use crate::stage::{CLUSTER, Programs, Stage, host, is_alive, item, spec};

fn run_spec(arg: &str) -> RunSpec {
    spec("app", "/bin/sleep", &[arg]).resolve(&host())
}

fn assignment(revision: u64, spec: Digest, wanted: Wanted) -> Assignment {
    let mut assignment = Assignment::empty(host());
    assignment.revision = Revision(revision);
    assignment.items.insert(InstanceKey::parse("app").unwrap(), item(spec, wanted));
    assignment
}

/// Waits for a report that the slave acts on this revision.
async fn taken(stage: &mut Stage, revision: u64) {
    stage
        .hear(|message| match message {
            FromSlave::Report(report) => (report.assignment_revision == revision).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_the_contradictory_and_the_stale_are_refused() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let spec = run_spec("1000");
    let first = assignment(10, spec.digest(), Wanted::Running);
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &first, None, &[&spec]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;

    let older = assignment(9, spec.digest(), Wanted::Stopped);
    let contradiction = assignment(10, spec.digest(), Wanted::Stopped);
    let newer = assignment(11, spec.digest(), Wanted::Stopped);
    for (offered, base, why) in [
        (&older, None, "older"),
        (&contradiction, None, "same revision, other content"),
        (&newer, Some(&older), "other base"),
    ] {
        let nonce = stage.fresh_nonce().await;
        stage.assign(nonce, offered, base, &[]).await;
        assert_eq!(stage.refused().await, why);
    }
    let stale = stage.nonce;
    while stage.fresh_nonce().await < stale + 2 {}
    stage.assign(stale, &newer, None, &[]).await;
    assert_eq!(stage.refused().await, "stale nonce");
    assert!(is_alive(pid), "nothing refused has touched the process");

    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &newer, Some(&first), &[]).await;
    taken(&mut stage, 11).await;
    stage.phase("app", v1::Phase::Stopped).await;
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_spec_is_asked_for_and_then_started() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let spec = run_spec("1001");
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &assignment(5, spec.digest(), Wanted::Running), None, &[]).await;
    let wanted = stage
        .hear(|message| if let FromSlave::SpecsWanted(wanted) = message { Some(wanted.digests) } else { None })
        .await;
    assert_eq!(wanted, [spec.digest().0.to_vec()]);
    stage.say(ToSlave::Specs(v1::RunSpecs { run_specs: vec![spec.to_bytes().into()] })).await;
    assert!(stage.phase("app", v1::Phase::Running).await.pid > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_slave_says_what_it_holds_and_keeps_its_cluster() {
    let mut stage = Stage::set().await;
    assert_eq!(stage.open(1).await.cluster_id, "");
    let spec = run_spec("1002");
    let held = assignment(7, spec.digest(), Wanted::Running);
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &held, None, &[&spec]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    stage.kill_slave();
    stage.start_slave();
    let hello = stage.open(2).await;
    assert_eq!((hello.cluster_id.as_str(), hello.assignment_revision), (CLUSTER, 7));
    assert_eq!(hello.assignment_digest, held.digest().0.to_vec());
    // Nothing was sent again, and the process is the same.
    let newer = Assignment { revision: Revision(8), ..held.clone() };
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &newer, Some(&held), &[]).await;
    taken(&mut stage, 8).await;
    assert_eq!(stage.phase("app", v1::Phase::Running).await.pid, pid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_leader_is_neither_obeyed_nor_believed() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let run_spec = run_spec("1003");
    stage.start(&[&run_spec]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    stage.kill_slave();
    stage.start_slave();
    stage.lead(99, "cluster-2").await;
    assert_eq!(stage.refused().await, "other cluster");
    // There is no session, so this is passed over; the next word on the stream shows that it was read.
    let newer = assignment(100, run_spec.digest(), Wanted::Stopped);
    stage.assign(1, &newer, None, &[]).await;
    // Its term was not believed: the true leader of a lower one is welcome.
    let hello = stage.claim(2, CLUSTER).await;
    assert_eq!(hello.assignment_revision, 1);
    stage.until("the true leader sees it run", |stage| stage.seen.get("app:1").filter(|s| s.pid == pid).cloned()).await;
    assert!(is_alive(pid));
}

/// The one before was cut off from the others and did not know yet. Its welcome ended the hello to the new one, whose
/// welcome was then passed over, and the slave stayed without a session for as long as that one led.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_before_does_not_come_between_a_slave_and_the_new_one() {
    let mut before = Stage::set_without_slave(Programs::present(), "").await;
    let mut new = Stage::set_without_slave(Programs::present(), "").await;
    before.start_slave_with(&format!("{},{}", before.address, new.address));
    before.next_stream().await;
    new.next_stream().await;
    new.claim_only(2).await;
    before.claim(1, CLUSTER).await;
    before.hear(|message| matches!(message, FromSlave::Report(_)).then_some(())).await;
    new.welcome(CLUSTER).await;
    new.hear(|message| matches!(message, FromSlave::Report(_)).then_some(())).await;
}
