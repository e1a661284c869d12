//! The managers of a cluster change while it works: added, removed, replaced, moved; and what would do harm is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod raft_cluster;

use raft_cluster::{Cluster, Manager, eventually, muffle::Muffle, run};
use rustix::process::Signal;
use tonic::Code;

const REMOVED: i32 = 20;
const DUPLICATE: i32 = 21;

#[test]
fn a_cluster_moves_to_other_managers_without_a_pause() {
    run(async {
        let mut cluster = Cluster::form("[raft]\nsnapshot_every_entries = 30\nkeep_entries = 5").await;
        cluster.write_many(50).await;
        for round in 0..3 {
            let newcomer = Manager::start("");
            let through = &cluster.managers[cluster.followers().await[0]];
            let steps = through.add(newcomer.peer_address(), "").await.unwrap();
            let last = steps.last().unwrap();
            let id = last.member.as_ref().unwrap().id;
            assert!(id > 5 && last.voter, "{steps:?}");
            assert_eq!(newcomer.id().await, id);
            assert!(last.warnings[0].contains("4 managers vote"), "{last:?}");
            // Said again it is done already.
            let again = through.add(newcomer.peer_address(), "").await.unwrap();
            assert_eq!(again.last().unwrap().member, last.member);
            assert_eq!(again.len(), 1, "{again:?}");
            cluster.managers.push(newcomer);
            cluster.write_many(5).await;

            // The oldest one goes, in one round the leader itself: it hands over first.
            if round == 1 {
                let (leader, to) = (cluster.leader().await, cluster.managers[0].id().await);
                let request = minder_proto::v1::TransferLeaderRequest { to };
                cluster.managers[leader].control().transfer_leader(request).await.unwrap();
            }
            let leads = cluster.leader().await == 0;
            let mut old = cluster.managers.remove(0);
            let id = old.id().await;
            let through = if leads { &old } else { &cluster.managers[0] };
            let steps = through.remove(id).await.unwrap();
            assert_eq!(leads, steps.iter().any(|step| step.step.contains("leads now")), "{steps:?}");
            cluster.write_many(5).await;
            assert_eq!(old.wait_for_exit().code(), Some(REMOVED), "{}", old.log());
            assert!(old.log().contains("has been removed"), "{}", old.log());
            let gone = cluster.managers[0].remove(id).await.unwrap_err();
            assert_eq!(gone.code(), Code::NotFound, "{gone}");
            if leads {
                // Its folder is of no use any more, here or anywhere.
                old.restart();
                assert_eq!(old.wait_for_exit().code(), Some(REMOVED), "{}", old.log());
            }
        }
        cluster.check_in_step().await;
        let ids: Vec<u64> =
            cluster.managers[0].managers().await.iter().map(|status| status.member.as_ref().unwrap().id).collect();
        assert!(ids.len() == 3 && ids.iter().all(|id| *id > 5), "{ids:?}");
    });
}

/// What a leader remembers is not what is: the others may have changed it since, and it would say that all is done.
#[test]
fn a_leader_that_reaches_nobody_does_not_say_that_something_is_done_already() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        let (leader, followers) = (cluster.leader().await, cluster.followers().await);
        let id = cluster.managers[followers[0]].id().await;
        followers.iter().for_each(|follower| cluster.managers[*follower].kill());
        let said = cluster.managers[leader].promote(id).await;
        assert_eq!(said.unwrap_err().code(), Code::Unavailable);
    });
}

#[test]
fn what_would_lose_the_quorum_or_mix_clusters_is_refused() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        let [live, dead] = cluster.followers().await[..] else { panic!() };
        let leader = cluster.leader().await;
        let (live_id, dead_id) = (cluster.managers[live].id().await, cluster.managers[dead].id().await);
        cluster.managers[dead].kill();
        for refused in [
            cluster.managers[live].remove(live_id).await.unwrap_err(),
            cluster.managers[live].demote(live_id).await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains("would lose the quorum"), "{refused}");
        }
        let unknown = cluster.managers[live].promote(77).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound, "{unknown}");

        let alone = Cluster::of(vec![Manager::start("")]).await;
        let lonely = alone.managers[0].remove(1).await.unwrap_err();
        assert!(lonely.message().contains("the only one that votes"), "{lonely}");
        let taken = cluster.managers[leader].add(alone.managers[0].peer_address(), "").await.unwrap_err();
        assert!(taken.message().contains("belongs to cluster"), "{taken}");
        let absent = cluster.managers[leader].add("127.0.0.1:1", "").await.unwrap_err();
        assert!(absent.message().contains("does not answer"), "{absent}");

        // The dead one may go; what it leaves is warned of, and it never comes back.
        let steps = cluster.managers[live].remove(cluster.managers[dead].peer_address()).await.unwrap();
        assert!(steps.last().unwrap().warnings[0].contains("2 managers vote"), "{steps:?}");
        cluster.write_many(3).await;
        let mut old = cluster.managers.remove(dead);
        old.restart();
        assert_eq!(old.wait_for_exit().code(), Some(REMOVED), "{}", old.log());

        // Neither does its id, as long as it has anything in its folder. Frozen, it cannot learn that it is removed.
        let newcomer = Manager::start("");
        cluster.managers[0].add(newcomer.peer_address(), "").await.unwrap();
        cluster.managers.push(newcomer);
        let id = cluster.managers[2].id().await;
        assert_ne!(id, dead_id);
        cluster.check_in_step().await;
        cluster.managers[2].signal(Signal::STOP);
        cluster.managers[0].remove(id).await.unwrap();
        cluster.managers[2].signal(Signal::CONT);
        let used = cluster.managers[0].add(cluster.managers[2].peer_address(), "").await.unwrap_err();
        assert!(used.message().contains("never used again"), "{used}");
        assert_eq!(cluster.managers[2].wait_for_exit().code(), Some(REMOVED));
    });
}

#[test]
fn a_dead_manager_is_replaced_in_one_change() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        let dead = cluster.followers().await[0];
        let dead_id = cluster.managers[dead].id().await;
        cluster.managers[dead].kill();
        let newcomer = Manager::start("");
        let through = &cluster.managers[cluster.leader().await];
        // As a leader leaves it that fell after it had given an id and before anything else.
        let status = through.status().await.unwrap();
        let given = status.last_log_index;
        newcomer.adopt(&through.cluster_id().await, given).await;
        let steps = through.add(newcomer.peer_address(), &dead_id.to_string()).await.unwrap();
        let told: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        assert!(told.iter().any(|step| step.contains(&format!("in the place of manager {dead_id}"))), "{told:?}");
        assert!(steps.last().unwrap().warnings.is_empty(), "{steps:?}");
        assert_eq!(newcomer.id().await, given);
        through.add(newcomer.peer_address(), &dead_id.to_string()).await.unwrap();
        cluster.managers[dead] = newcomer;
        cluster.write_many(3).await;
        cluster.check_in_step().await;
        // The new one counts: with it, another one may fail.
        let other = cluster.followers().await.into_iter().find(|at| *at != dead).unwrap();
        cluster.managers[other].kill();
        cluster.write_many(3).await;
    });
}

#[test]
fn a_learner_follows_without_a_vote() {
    run(async {
        let mut cluster = Cluster::form("").await;
        let newcomer = Manager::start("");
        cluster.managers[0].add(newcomer.peer_address(), "").await.unwrap();
        let id = newcomer.id().await;
        cluster.managers.push(newcomer);
        let steps = cluster.managers[1].demote(id).await.unwrap();
        assert!(!steps.last().unwrap().voter, "{steps:?}");
        eventually("it is a learner", || async { cluster.managers[3].status().await.unwrap().role == "learner" }).await;
        cluster.write_many(3).await;
        cluster.check_in_step().await;
        let leader = cluster.leader().await;
        let refused = cluster.managers[leader]
            .control()
            .transfer_leader(minder_proto::v1::TransferLeaderRequest { to: id })
            .await
            .unwrap_err();
        assert!(refused.message().contains("does not vote"), "{refused}");
        // A leader may be demoted as well, by its successor.
        let own = cluster.managers[leader].id().await;
        cluster.managers[leader].demote(own).await.unwrap();
        cluster.managers[leader].promote(own).await.unwrap();
        cluster.write_many(3).await;

        // One that is away cannot catch up, so a change stays under way; no other one is begun meanwhile.
        cluster.managers[3].kill();
        cluster.write_many(80).await;
        let mut control = cluster.managers[0].control();
        let promoting = tokio::spawn(async move {
            let request = minder_proto::v1::PromoteManagerRequest { manager: id.to_string() };
            let mut steps = control.promote_manager(request).await?.into_inner();
            let mut last = None;
            while let Some(step) = steps.message().await? {
                last = Some(step);
            }
            Ok::<_, tonic::Status>(last)
        });
        eventually("another change is refused", || async {
            let refused = cluster.managers[1].demote(id).await;
            refused.is_err_and(|refused| refused.message().contains("another change of managers is under way"))
        })
        .await;
        cluster.managers[3].restart();
        assert!(promoting.await.unwrap().unwrap().unwrap().voter);
        eventually("it votes", || async { cluster.managers[3].status().await.unwrap().voter }).await;
        cluster.check_in_step().await;
    });
}

#[test]
fn a_change_that_lost_its_leader_half_way_is_finished_by_the_next_one() {
    run(async {
        let mut managers = Vec::new();
        let mut muffles = Vec::new();
        for _ in 0..3 {
            let mut manager = Manager::prepare("");
            muffles.push(Muffle::before(&mut manager).await);
            managers.push(manager);
        }
        let mut cluster = Cluster::of(managers).await;
        let newcomer = Manager::start("");
        cluster.managers[0].add(newcomer.peer_address(), "").await.unwrap();
        let id = newcomer.id().await;
        cluster.managers[0].demote(id).await.unwrap();
        cluster.write_many(3).await;
        cluster.check_in_step().await;

        // The followers take in what the leader sends and their answers are lost: the first half of the change is in
        // their logs and not committed when the leader dies.
        let leader = cluster.leader().await;
        let before = cluster.managers[leader].status().await.unwrap().last_log_index;
        for at in cluster.followers().await {
            muffles[at].mute_present();
        }
        let mut control = cluster.managers[leader].control();
        let request = minder_proto::v1::PromoteManagerRequest { manager: id.to_string() };
        let promoting =
            tokio::spawn(async move { control.promote_manager(request).await?.into_inner().message().await });
        eventually("the followers have the first half", || async {
            for at in cluster.followers().await {
                if cluster.managers[at].status().await.unwrap().last_log_index <= before {
                    return false;
                }
            }
            true
        })
        .await;
        cluster.managers[leader].kill();
        assert!(!matches!(promoting.await.unwrap(), Ok(Some(step)) if step.done));

        cluster.managers.push(newcomer);
        cluster.write_many(3).await;
        eventually("the new leader finishes it", || async {
            cluster.managers.iter().any(|manager| manager.log().contains("left half done; finishing it"))
                && cluster.managers[3].status().await.unwrap().voter
        })
        .await;
        // Nothing is left to be finished by the next change.
        cluster.managers[leader].restart();
        cluster.check_in_step().await;
        let steps = cluster.managers[leader].demote(id).await.unwrap();
        assert!(steps.iter().all(|step| !step.step.contains("half done")), "{steps:?}");
        cluster.check_in_step().await;
    });
}

#[test]
fn a_manager_that_moves_says_where_it_is_and_a_copy_of_it_ends() {
    run(async {
        let mut cluster = Cluster::form("").await;
        cluster.write_many(3).await;
        // All move, one after the other, the leader of the moment last.
        let mut order = cluster.followers().await;
        order.push(cluster.leader().await);
        for at in order {
            cluster.managers[at].kill();
            cluster.managers[at].move_away();
            cluster.managers[at].restart();
            let (id, own) = (cluster.managers[at].id().await, cluster.managers[at].client_address().to_owned());
            eventually("everybody knows where it is", || async {
                for manager in &cluster.managers {
                    let managers = manager.managers().await;
                    let known = managers.iter().find_map(|status| {
                        status.member.as_ref().filter(|member| member.id == id && status.role != "unreachable")
                    });
                    if known.is_none_or(|member| member.client_address != own) {
                        return false;
                    }
                }
                true
            })
            .await;
            cluster.write_many(3).await;
            cluster.check_in_step().await;
        }

        let copied = cluster.followers().await[0];
        cluster.managers[copied].stop();
        let mut copy = Manager::copy_of(&cluster.managers[copied]);
        cluster.managers[copied].restart();
        cluster.check_in_step().await;
        copy.restart();
        assert_eq!(copy.wait_for_exit().code(), Some(DUPLICATE), "{}", copy.log());
        assert!(copy.log().contains("copies of one data folder"), "{}", copy.log());
        cluster.write_many(3).await;
        cluster.check_in_step().await;
    });
}
