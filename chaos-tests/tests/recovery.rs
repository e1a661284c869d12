//! Disasters as the runbooks tell of them: a cluster restored from a backup, a cluster recovered from the one manager
//! that is left. Slaves come along on an operator's word alone, and no process notices anything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use minder_chaos_tests::{Cluster, ClusterShape, all, bin, eventually};
use minder_client::{Error, Write, v1};
use minder_model::{HostName, ProcessName, Spec};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a program that must end with this code; gives what it said.
fn run(program: &str, args: &[&str], code: i32) -> String {
    let output = Command::new(bin(program)).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{program} {args:?}: {}", said(&output));
    said(&output)
}

fn ctl(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let servers = cluster.addresses.join(",");
    run("minderctl", &[&["--server", &servers], args].concat(), code)
}

fn data(cluster: &Cluster, manager: usize) -> PathBuf {
    cluster.path().join(format!("manager-{}", manager + 1))
}

fn spec(name: &str) -> Spec {
    let hosts = (1..=2).map(|number| HostName::new(format!("host-{number}")).unwrap()).collect();
    let args = vec!["1000".to_owned()];
    Spec { hosts, args, ..Spec::new(ProcessName::new(name).unwrap(), "/bin/sleep") }
}

async fn apply(cluster: &Cluster, name: &str) {
    cluster.client().apply(&[spec(name)], &Write::default()).await.unwrap();
}

/// Instance and incarnation and pid of everything, in order.
fn lives(instances: &[v1::Instance]) -> Vec<(String, u64, u32)> {
    let life = |instance: &v1::Instance| {
        let name = instance.name.clone().unwrap();
        let status = instance.status.clone().unwrap();
        (format!("{}@{}", name.process, name.host), status.incarnation, status.pid)
    };
    let mut lives: Vec<_> = instances.iter().map(life).collect();
    lives.sort();
    lives
}

/// Empties the folders of these managers, starts all of them, and forms the cluster anew at the first one.
async fn form(cluster: &mut Cluster, emptied: &[usize]) -> String {
    for manager in emptied {
        fs::remove_dir_all(data(cluster, *manager)).unwrap();
    }
    let peers = (0..cluster.managers.len()).map(|manager| {
        let ready = cluster.managers[manager].start();
        ready.split_once(" peer=").unwrap().1.to_owned()
    });
    let peers = peers.collect::<Vec<_>>();
    cluster.client_of(0).init(peers).await.unwrap().cluster_id
}

/// Slaves refuse the new cluster and say what to type; typed, they come along.
async fn accept(cluster: &Cluster, id: &str) {
    let word = format!("minderctl local accept-cluster {id}");
    for (number, slave) in cluster.slaves.iter().enumerate() {
        eventually("a slave refuses and says what to do", || async { slave.log().contains(&word).then_some(()) }).await;
        let hosts = cluster.client().hosts(vec![format!("host-{}", number + 1)]).await.unwrap().hosts;
        assert_ne!(hosts[0].condition(), v1::HostCondition::Connected);
        let socket = cluster.path().join(format!("slave-{}/control.sock", number + 1));
        let accepted = run("minderctl", &["local", "--socket", socket.to_str().unwrap(), "accept-cluster", id], 0);
        assert!(accepted.contains("went on untouched"), "{accepted}");
    }
    cluster.wait_for_sessions(cluster.slaves.len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restored_from_a_backup_that_was_saved_while_it_worked() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 2 }).await;
    apply(&cluster, "early").await;
    apply(&cluster, "other").await;
    cluster.wait_until_running(all(), 4).await;
    let file = cluster.path().join("minder.backup");
    let file = file.to_str().unwrap();
    // A follower saves it, and every write that was acknowledged before is in it.
    let follower = (cluster.leader().await + 1) % 3;
    let server = cluster.addresses[follower].clone();
    let saved = run("minderctl", &["--server", &server, "backup", "save", file], 0);
    assert!(saved.contains("is saved: cluster"), "{saved}");
    let refused = run("minderctl", &["--server", &server, "backup", "save", file], 2);
    assert!(refused.contains("exists"), "{refused}");
    let verified = run("minderctl", &["backup", "verify", file, "--boot"], 0);
    assert!(verified.contains("booted and whole"), "{verified}");
    let mut broken = fs::read(file).unwrap();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let broken_file = format!("{file}.broken");
    fs::write(&broken_file, broken).unwrap();
    let damaged = run("minderctl", &["backup", "verify", &broken_file], 1);
    assert!(damaged.contains("damaged at byte"), "{damaged}");

    // The world goes on after the backup: a restart whose revision is far above everything in it.
    ctl(&cluster, &["restart", "early"], 0);
    let before = lives(&cluster.wait_until_running(all(), 4).await);
    assert!(before.iter().any(|(name, incarnation, _)| name.starts_with("early") && *incarnation == 2), "{before:?}");
    for manager in &mut cluster.managers {
        manager.kill();
    }
    fs::remove_dir_all(data(&cluster, 0)).unwrap();
    let folder = data(&cluster, 0);
    let restored = run("minder-manager", &["restore", "--from", file, "--data", folder.to_str().unwrap()], 0);
    assert!(restored.contains("local accept-cluster"), "{restored}");
    let again = run("minder-manager", &["restore", "--from", file, "--data", folder.to_str().unwrap()], 1);
    assert!(again.contains("empty folder"), "{again}");
    let id = form(&mut cluster, &[1, 2]).await;
    assert!(restored.contains(&id), "{restored}");
    let orphans = cluster.client().instances(all()).await.unwrap();
    assert_eq!(orphans.instances.len(), 4);
    accept(&cluster, &id).await;
    assert_eq!(lives(&cluster.wait_until_running(all(), 4).await), before);
    cluster.wait_until_in_step().await;
    // Orders mean something again, and later ones count as later.
    ctl(&cluster, &["restart", "early"], 0);
    let after = lives(&cluster.wait_until_running(all(), 4).await);
    let restarted = after.iter().zip(&before).filter(|(after, before)| after.1 == before.1 + 1);
    assert_eq!(restarted.map(|(after, _)| after.0.as_str()).collect::<Vec<_>>(), ["early@host-1", "early@host-2"]);
    // The word is on the slave's disk: it holds over its death.
    cluster.slaves[0].kill();
    cluster.slaves[0].start();
    let socket = cluster.path().join("slave-1/control.sock");
    let again = run("minderctl", &["local", "--socket", socket.to_str().unwrap(), "accept-cluster", &id], 0);
    assert!(again.contains("already"), "{again}");
    cluster.wait_for_sessions(2).await;
    assert_eq!(lives(&cluster.wait_until_running(all(), 4).await), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_managers_are_gone_for_good_and_the_third_begins_anew() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 2 }).await;
    apply(&cluster, "app").await;
    apply(&cluster, "more").await;
    let before = lives(&cluster.wait_until_running(all(), 4).await);
    cluster.wait_until_in_step().await;
    for gone in [1, 2] {
        cluster.managers[gone].kill();
    }
    let lost = cluster.client_of(0).apply(&[spec("late")], &Write::default()).await.unwrap_err();
    assert!(matches!(lost, Error::Unreachable(_) | Error::Unknown { .. }), "{lost:?}");
    // What the survivor has applied can still be saved.
    let file = cluster.path().join("stale.backup");
    let server = cluster.addresses[0].clone();
    run("minderctl", &["--server", &server, "backup", "save", "--stale", file.to_str().unwrap()], 0);

    let folder = data(&cluster, 0);
    let recover = ["recover", "--data", folder.to_str().unwrap()];
    let in_use = run("minder-manager", &recover, 14);
    assert!(in_use.contains("used by another process"), "{in_use}");
    cluster.managers[0].stop();
    let asked = run("minder-manager", &recover, 1);
    assert!(asked.contains("Nothing was changed") && asked.contains("--accept-loss"), "{asked}");
    // The write without an answer is in its log: nobody is left who could say that it was not acknowledged.
    assert!(asked.contains("were not known to be acknowledged"), "{asked}");
    let recovered = run("minder-manager", &[&recover[..], &["--accept-loss"]].concat(), 0);
    assert!(recovered.contains("are lost") && recovered.contains("before-recovery-1"), "{recovered}");
    let id = form(&mut cluster, &[1, 2]).await;
    accept(&cluster, &id).await;
    let after = lives(&cluster.wait_until_running(all(), 6).await);
    assert!(before.iter().all(|life| after.contains(life)), "{before:?} became {after:?}");
    // Three managers again, and any one of them may go.
    cluster.wait_until_in_step().await;
    let leader = cluster.leader().await;
    cluster.managers[leader].kill();
    apply(&cluster, "later").await;
    cluster.wait_until_running(all(), 8).await;
    cluster.managers[leader].start();
    cluster.wait_until_in_step().await;
}

/// A manager whose folder was damaged is named, and comes back as a new one; its old content is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manager_is_set_aside_by_one_command() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    apply(&cluster, "app").await;
    cluster.wait_until_in_step().await;
    let folder = data(&cluster, 2);
    let reseed = ["reseed", "--data", folder.to_str().unwrap()];
    let in_use = run("minder-manager", &reseed, 14);
    assert!(in_use.contains("used by another process"), "{in_use}");
    cluster.managers[2].kill();
    fs::write(folder.join("mark"), [0xa5; 4096]).unwrap();
    let any = "127.0.0.1:0";
    let args = ["--data", folder.to_str().unwrap(), "--listen", any, "--peer-listen", any];
    let refused = run("minder-manager", &args, 11);
    assert!(refused.contains("is in quarantine") && refused.contains("minder-manager reseed"), "{refused}");
    let done = run("minder-manager", &reseed, 0);
    assert!(done.contains("quarantine-1") && done.contains("manager remove"), "{done}");
    assert!(folder.join("quarantine-1/db").is_dir() && !folder.join("db").exists());
}
