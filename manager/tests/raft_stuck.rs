//! A leader whose disk hangs lives on, and so do its heartbeats: it must give leadership up by itself, and come back
//! without disturbing anybody.
#![allow(clippy::unwrap_used, missing_docs)]

mod raft_cluster;

use std::time::{Duration, Instant};

use raft_cluster::{Cluster, Manager, eventually, hold::Hold, run};

#[test]
fn a_leader_whose_disk_hangs_gives_up_and_comes_back_as_a_follower() {
    run(async {
        let holds: Vec<Hold> = (0..3).map(|_| Hold::new()).collect();
        let managers = holds.iter().map(|hold| {
            let mut manager = Manager::prepare("");
            manager.environment = hold.environment().into();
            manager.restart();
            manager
        });
        let mut cluster = Cluster::of(managers.collect()).await;
        cluster.write_many(5).await;
        let stuck = cluster.leader().await;
        let term = cluster.term().await;

        holds[stuck].hang(true);
        let hung_at = Instant::now();
        let (mut slowest, mut after) = (Duration::ZERO, None);
        eventually("another manager leads", || async {
            for (at, manager) in cluster.managers.iter().enumerate() {
                if at != stuck && manager.status().await.is_ok_and(|status| status.role == "leader") {
                    return true;
                }
            }
            // What keeps the disk busy: without a write there is nothing to hang.
            let _ = cluster.managers[stuck].write("during").await;
            false
        })
        .await;
        let given_up = hung_at.elapsed();
        while hung_at.elapsed() < Duration::from_secs(5) {
            let took = cluster.write().await;
            slowest = slowest.max(took);
            after.get_or_insert(hung_at.elapsed());
        }
        println!(
            "a leader whose syncs hang: another one after {given_up:?}, a write after {:?}, the slowest later {slowest:?}",
            after.unwrap()
        );
        assert!(given_up < Duration::from_secs(4), "{given_up:?}");
        // Also through the one that hangs: it passes calls on and answers none itself.
        eventually("the stuck manager passes writes on", || async {
            cluster.managers[stuck].write("through").await.is_ok()
        })
        .await;
        let led = cluster.term().await;
        assert_eq!(led, term + 1, "one change of leader, not more");

        holds[stuck].hang(false);
        cluster.write_many(5).await;
        cluster.check_in_step().await;
        assert_eq!(cluster.term().await, led, "its return must not depose anybody");
        assert!(cluster.managers[stuck].log().contains("this leader is stuck"), "{}", cluster.managers[stuck].log());
    });
}

#[test]
fn when_all_disks_hang_nobody_is_deposed() {
    run(async {
        let hold = Hold::new();
        let managers = (0..3).map(|_| {
            let mut manager = Manager::prepare("");
            manager.environment = hold.environment().into();
            manager.restart();
            manager
        });
        let mut cluster = Cluster::of(managers.collect()).await;
        cluster.write_many(3).await;
        let (leader, term) = (cluster.leader().await, cluster.term().await);
        hold.hang(true);
        assert!(cluster.managers[leader].write("during").await.is_err());
        eventually("it says so", || async {
            cluster.managers[leader].log().contains("so is everybody who could take over")
        })
        .await;
        hold.hang(false);
        cluster.write_many(3).await;
        cluster.check_in_step().await;
        assert_eq!(cluster.term().await, term);
    });
}
