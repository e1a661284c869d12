//! A read is answered by a leader that knows that it still leads, and by nobody else.
#![allow(clippy::unwrap_used, missing_docs)]

mod raft_cluster;

use minder_proto::v1;
use raft_cluster::{Manager, eventually, follower::Follower, run};

/// Everything there is, as of now.
async fn read(manager: &Manager) -> Result<v1::GetProcessesReply, tonic::Status> {
    let request = v1::GetProcessesRequest {
        selection: Some(v1::Selection { all: true, ..Default::default() }),
        options: Some(v1::ReadOptions { stale: false }),
    };
    manager.control().get_processes(request).await.map(tonic::Response::into_inner)
}

/// A leader of two followers, which reads.
async fn led() -> (Manager, Follower, Follower) {
    let (one, other) = (Follower::start().await, Follower::start().await);
    let manager = Manager::start("");
    let peers = vec![manager.peer_listen.clone(), one.address.clone(), other.address.clone()];
    manager.init(peers).await.unwrap();
    eventually("it leads and reads", || async { read(&manager).await.is_ok() }).await;
    (manager, one, other)
}

/// openraft takes the answer to some entries for one to all later requests that add nothing to them: a leader that had been cut
/// off, and replaced meanwhile, committed with one follower's old answer, told the other of it, took that one's old answer
/// for a new one, and answered reads.
#[test]
fn answers_from_before_prove_nothing() {
    run(async {
        let (manager, one, other) = led().await;
        one.fall_silent();
        other.fall_silent();
        let asked = async {
            let written = async { manager.write("late").await.unwrap() };
            let (_, answer) = tokio::join!(written, read(&manager));
            answer
        };
        let answered = async {
            eventually("the entry has come in, and questions after it", || async {
                [&one, &other].iter().all(|follower| follower.entries() > 0 && follower.beats() > 3)
            })
            .await;
            one.answer_entries();
            eventually("it is committed, and the other is told", || async { other.news() > 0 }).await;
            other.answer_entries();
        };
        let (answer, ()) = tokio::join!(asked, answered);
        assert!(answer.is_err(), "nobody has said that it leads: {answer:?}");

        one.answer_all();
        other.answer_all();
        eventually("it reads again", || async { read(&manager).await.is_ok() }).await;
    });
}

/// A leader that gives leadership away stops its heartbeats, so that the others elect if nobody takes it. Those who read from
/// it kept it in office when their questions were heartbeats.
#[test]
fn questions_are_no_signs_of_life() {
    run(async {
        let (manager, one, other) = led().await;
        let beats = || one.beats() + other.beats();
        let hands_over = async {
            // Nobody takes it, which it says after a while.
            let mut control = manager.control();
            assert!(control.transfer_leader(v1::TransferLeaderRequest { to: 0 }).await.is_err());
        };
        let reads = async {
            let asked = || async { one.was_asked_to_lead() || other.was_asked_to_lead() };
            eventually("it hands over", asked).await;
            let before = beats();
            for _ in 0..20 {
                read(&manager).await.unwrap();
            }
            let more = beats() - before;
            assert!(more <= 2, "{more}: one may have been under way to each");
        };
        tokio::join!(hands_over, reads);
    });
}
