//! Consensus between managers that are real processes: born once, never losing what was acknowledged, never led astray
//! by a manager that lost its folder or does not answer.
#![allow(clippy::unwrap_used, missing_docs)]

mod raft_cluster;

use std::time::{Duration, Instant};

use minder_proto::v1;
use raft_cluster::{Cluster, Manager, eventually, muffle::Muffle, run};
use rustix::process::Signal;
use tonic::Code;

#[test]
fn a_cluster_is_born_once() {
    run(async {
        let cluster = Cluster::form("").await;
        cluster.check_in_step().await;
        let peers: Vec<String> = cluster.managers.iter().map(|manager| manager.peer_address().to_owned()).collect();
        for manager in &cluster.managers {
            let again = manager.init(peers.clone()).await.unwrap_err();
            assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
        }
        // Somebody who names a member beside two newcomers must not tear the cluster apart.
        let newcomers = [Manager::start(""), Manager::start("")];
        for (at, member) in peers.iter().enumerate() {
            let mut wrong: Vec<String> = newcomers.iter().map(|manager| manager.peer_address().to_owned()).collect();
            wrong.insert(at, member.clone());
            let refused = newcomers[0].init(wrong).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        }
        for newcomer in &newcomers {
            assert_eq!(newcomer.status().await.unwrap().role, "no cluster");
        }
        for (count, addresses) in [(2, peers[..2].to_vec()), (4, [peers.clone(), vec!["h:1".into()]].concat())] {
            let refused = newcomers[0].init(addresses).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{count}: {refused}");
        }
    });
}

#[test]
fn an_init_that_died_half_way_is_said_again() {
    run(async {
        let mut managers: Vec<Manager> = (0..3).map(|_| Manager::start("")).collect();
        let peers: Vec<String> = managers.iter().map(|manager| manager.peer_address().to_owned()).collect();
        // The last one vanishes after it was described and before it is adopted: about as bad as it gets.
        managers[2].signal(Signal::STOP);
        let failed = managers[0].init(peers.clone()).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable, "{failed}");
        managers[2].signal(Signal::CONT);
        managers[0].kill();
        managers[0].restart();
        let mut reordered = peers.clone();
        reordered.swap(0, 2);
        managers[1].init(reordered).await.unwrap();
        for manager in &managers {
            eventually("every manager has a leader", || async {
                manager.status().await.is_ok_and(|status| matches!(status.role.as_str(), "leader" | "follower"))
            })
            .await;
        }
    });
}

#[test]
fn any_manager_takes_a_write_and_all_hold_it() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        for at in 0..3 {
            let position = cluster.managers[at].write(&format!("through-{at}")).await.unwrap();
            assert!(position.leader_id > 0 && position.revision > 0, "{position:?}");
        }
        cluster.check_in_step().await;
    });
}

#[test]
fn a_killed_leader_loses_nothing_and_comes_back_as_a_follower() {
    run(async {
        let mut cluster = Cluster::form("").await;
        for _ in 0..3 {
            cluster.write_many(20).await;
            let leader = cluster.leader().await;
            cluster.managers[leader].kill();
            let took = cluster.write().await;
            assert!(took < Duration::from_secs(2), "{took:?} until the next acknowledged write");
            cluster.managers[leader].restart();
            cluster.write_many(5).await;
            cluster.check_in_step().await;
        }
    });
}

#[test]
fn a_frozen_leader_is_not_waited_for_once_somebody_else_leads() {
    run(async {
        let cluster = Cluster::form("").await;
        let frozen = cluster.leader().await;
        let follower = &cluster.managers[cluster.followers().await[0]];
        follower.write("before").await.unwrap();
        cluster.managers[frozen].signal(Signal::STOP);
        // Its connection stays open, so only a change of leaders can end these.
        let mut control = follower.control();
        let (write, read) =
            tokio::join!(follower.write("during"), control.get_processes(v1::GetProcessesRequest::default()));
        for refused in [write.err(), read.err()].into_iter().flatten() {
            assert!(refused.message().contains("leads no longer"), "{refused}");
        }
        eventually("the same write is taken", || async { follower.write("during").await.is_ok() }).await;
        cluster.managers[frozen].signal(Signal::CONT);
        cluster.check_in_step().await;
        assert_eq!(follower.names().await, ["before", "during"]);
    });
}

#[test]
fn a_manager_that_missed_more_than_is_kept_is_sent_a_snapshot() {
    run(async {
        let mut cluster = Cluster::form("[raft]\nsnapshot_every_entries = 20\nkeep_entries = 5").await;
        let away = cluster.followers().await[0];
        cluster.write_many(5).await;
        cluster.check_in_step().await;
        let stood_at = cluster.managers[away].status().await.unwrap().last_log_index;
        cluster.managers[away].kill();
        cluster.write_many(150).await;
        let leader = cluster.leader().await;
        eventually("the leader has forgotten what the absent one needs", || async {
            cluster.managers[leader].status().await.unwrap().purged_index > stood_at
        })
        .await;
        cluster.managers[away].restart();
        cluster.check_in_step().await;
        assert!(cluster.managers[away].status().await.unwrap().snapshot_index > stood_at);
        // And what it was sent outlives it.
        cluster.managers[away].kill();
        cluster.managers[away].restart();
        cluster.write().await;
        cluster.check_in_step().await;
    });
}

#[test]
fn leadership_moves_on_request_and_before_a_stop() {
    run(async {
        let mut cluster = Cluster::form("").await;
        let to = cluster.followers().await[0];
        let id = cluster.managers[to].status().await.unwrap().member.unwrap().id;
        let request = v1::TransferLeaderRequest { to: id };
        let reply = cluster.managers[to].control().transfer_leader(request).await.unwrap().into_inner();
        assert_eq!(reply.leader_id, id);
        assert_eq!(cluster.leader().await, to);
        let unknown = v1::TransferLeaderRequest { to: 77 };
        let refused = cluster.managers[to].control().transfer_leader(unknown).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");

        cluster.managers[to].stop();
        let took = cluster.write().await;
        assert!(took < Duration::from_millis(300), "{took:?} although the leader stopped in order");
        cluster.managers[to].restart();
        cluster.check_in_step().await;
    });
}

#[test]
fn leadership_is_not_given_to_a_manager_that_does_not_answer() {
    run(async {
        let mut cluster = Cluster::form("").await;
        let to = cluster.followers().await[0];
        let leader = cluster.leader().await;
        let id = cluster.managers[to].status().await.unwrap().member.unwrap().id;
        cluster.managers[to].kill();
        eventually("the transfer is refused", || async {
            let request = v1::TransferLeaderRequest { to: id };
            let refused = cluster.managers[leader].control().transfer_leader(request).await;
            refused.is_err_and(|status| status.code() == Code::FailedPrecondition)
        })
        .await;
        let took = cluster.write().await;
        assert!(took < Duration::from_millis(500), "{took:?}");
    });
}

#[test]
fn a_manager_whose_folder_was_emptied_ends_and_says_what_to_do() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        let wiped = cluster.followers().await[0];
        cluster.managers[wiped].kill();
        std::fs::remove_dir_all(cluster.managers[wiped].data()).unwrap();
        cluster.managers[wiped].restart();
        let status = cluster.managers[wiped].wait_for_exit();
        assert_eq!(status.code(), Some(12));
        let log = cluster.managers[wiped].log();
        assert!(log.contains("data folder is empty") && log.contains("new id"), "{log}");
        cluster.write().await;
        cluster.check_in_step().await;
    });
}

/// A leader that was cut off calls a manager by an id that has been removed meanwhile, and its folder emptied for a new one.
#[test]
fn an_empty_manager_does_not_end_because_somebody_calls_it() {
    run(async {
        let manager = Manager::start("");
        let addressing = Some(v1::Addressing { cluster_id: "cluster".into(), from: 1, to: 2 });
        let vote = Some(v1::RaftVote { term: 3, node: 1, committed: true });
        let heartbeat = v1::AppendRequest { addressing: addressing.clone(), vote, ..Default::default() };
        eventually("the call is refused", || async {
            let refused = manager.peer().append(heartbeat.clone()).await;
            refused.is_err_and(|status| status.code() == Code::DataLoss)
        })
        .await;
        let asked = v1::GetVoteRequest { addressing };
        assert_eq!(manager.peer().get_vote(asked).await.unwrap_err().code(), Code::DataLoss);
        manager.init(vec![manager.peer_address().to_owned()]).await.unwrap();
        assert!(manager.runs(), "{}", manager.log());
    });
}

#[test]
fn a_peer_that_hangs_does_not_slow_the_others() {
    run(async {
        let cluster = Cluster::form("").await;
        let term = cluster.term().await;
        let hung = cluster.followers().await[0];
        cluster.managers[hung].signal(Signal::STOP);
        let leader = cluster.leader().await;
        let mut slowest = Duration::ZERO;
        let begin = Instant::now();
        let mut count = 0;
        // Longer than the watchdog and the keepalive, so that all they do is seen.
        while begin.elapsed() < Duration::from_secs(6) {
            count += 1;
            let asked = Instant::now();
            cluster.managers[leader].write(&format!("w{count}")).await.unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        println!("beside a hung peer: {count} writes in 6 s, the slowest {slowest:?}");
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
        cluster.managers[hung].signal(Signal::CONT);
        cluster.check_in_step().await;
        assert_eq!(cluster.term().await, term, "a manager that hung must not depose a leader that works");
    });
}

#[test]
fn a_peer_that_hears_but_is_not_heard_does_not_slow_the_others() {
    run(async {
        let mut managers = vec![Manager::start(""), Manager::start("")];
        let mut mute = Manager::prepare("");
        let muffle = Muffle::before(&mut mute).await;
        managers.push(mute);
        let mut cluster = Cluster::of(managers).await;
        cluster.write_many(3).await;
        cluster.check_in_step().await;
        if cluster.leader().await == 2 {
            cluster.managers[2].control().transfer_leader(v1::TransferLeaderRequest { to: 0 }).await.unwrap();
        }
        let term = cluster.term().await;
        // What the peers send it still arrives; its answers do not.
        muffle.mute(true);
        let begin = Instant::now();
        let mut slowest = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(4) {
            slowest = slowest.max(cluster.write().await);
        }
        println!("beside a peer that is not heard: the slowest write {slowest:?}");
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
        muffle.mute(false);
        cluster.check_in_step().await;
        assert_eq!(cluster.term().await, term);
    });
}

#[test]
fn nothing_is_acknowledged_and_nothing_is_read_without_a_quorum() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write().await;
        let leader = cluster.leader().await;
        let followers = cluster.followers().await;
        for at in &followers {
            cluster.managers[*at].signal(Signal::STOP);
        }
        let written = cluster.managers[leader].write("alone").await;
        assert!(written.is_err(), "{written:?}");
        let request = v1::ListInstancesRequest::default();
        let read = cluster.managers[leader].control().list_instances(request).await;
        assert_eq!(read.unwrap_err().code(), Code::Unavailable);
        for at in &followers {
            cluster.managers[*at].signal(Signal::CONT);
        }
        cluster.write().await;
        cluster.check_in_step().await;
    });
}
