//! `minderctl drill` on real clusters: each kind holds where it is allowed, none is done where it is not, and what breaks
//! meanwhile is said.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use minder_chaos_tests::{Cluster, ClusterShape, all, bin, descendants_of, eventually, is_alive, named};
use minder_client::{Write, v1};
use minder_model::{HostName, ProcessName, Spec};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const ALLOWED: &str = "drills = true";
const PLENTY: ClusterShape = ClusterShape { managers: 3, slaves: 2 };

fn drill(cluster: &Cluster, words: &[&str]) -> Child {
    Command::new(bin("minderctl"))
        .arg("drill")
        .args(words)
        .env("MINDER_SERVERS", cluster.addresses.join(","))
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Whatever it says, once it has ended.
async fn end_of(drill: Child) -> (Option<i32>, String) {
    let output: Output = tokio::task::spawn_blocking(|| drill.wait_with_output().unwrap()).await.unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), said.concat())
}

async fn expect(cluster: &Cluster, words: &[&str], code: i32, said: &[&str]) -> String {
    let (ended, text) = end_of(drill(cluster, words)).await;
    assert_eq!(ended, Some(code), "minderctl drill {words:?} said:\n{text}");
    for word in said {
        assert!(text.contains(word), "minderctl drill {words:?} does not say {word:?}:\n{text}");
    }
    text
}

async fn allowed(shape: ClusterShape) -> Cluster {
    Cluster::start_with(shape, ALLOWED, &["--allow-drills"]).await
}

/// A process on every host; gives the pids.
async fn run_something(cluster: &Cluster) -> Vec<u32> {
    let hosts = (1..=cluster.slaves.len()).map(|number| HostName::new(format!("host-{number}")).unwrap());
    let spec = Spec {
        args: vec!["100000".into()],
        hosts: hosts.collect(),
        ..Spec::new(ProcessName::new("steady").unwrap(), "/bin/sleep")
    };
    cluster.client().apply(&[spec], &Write::default()).await.unwrap();
    let instances = cluster.wait_until_running(named(&["steady"]), cluster.slaves.len()).await;
    instances.iter().map(|instance| instance.status.as_ref().unwrap().pid).collect()
}

async fn nothing_is_left(cluster: &Cluster) {
    let left = cluster.client().processes(named(&["minder-drill-*"]), false).await.unwrap().processes;
    assert!(left.is_empty(), "{left:?}");
}

/// The one process of a drill, once it is there.
async fn has_begun(cluster: &Cluster) {
    eventually("the drill writes", || async {
        let found = cluster.client().processes(named(&["minder-drill-*"]), false).await.ok()?.processes;
        (found.first()?.generation > 150).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_holds_and_disturbs_no_process() {
    let cluster = allowed(PLENTY).await;
    let pids = run_something(&cluster).await;
    let all_of_it: Vec<u32> =
        cluster.managers.iter().chain(&cluster.slaves).map(minder_chaos_tests::Program::pid).collect();
    let held = ["all promises held"];
    for words in [
        &["leader-kill", "--yes"][..],
        &["leader-kill", "--yes", "--down", "2s", "--writers", "5"],
        &["partition", "--yes", "--for", "3s"],
        &["slave-kill", "host-1", "--yes"],
        &["slave-kill", "127.0.0.1:9002", "--yes", "--down", "0s"],
    ] {
        let said = expect(&cluster, words, 0, &held).await;
        println!("{said}");
    }
    // A follower is not the leader's business: nothing changes but who is missed.
    let follower = (cluster.leader().await + 1) % 3;
    let said = expect(
        &cluster,
        &["partition", "--yes", "--for", "3s", "--manager", &cluster.addresses[follower], "-o", "json"],
        0,
        &["\"outcome\": \"held\""],
    )
    .await;
    let begin = said.find('{').unwrap();
    let report: serde_json::Value =
        serde_json::Deserializer::from_str(&said[begin..]).into_iter().next().unwrap().unwrap();
    assert_eq!(report["leader"]["before"], report["leader"]["after"], "{said}");
    assert_eq!(report["log"]["by_hosts"], 0, "{said}");
    assert_eq!(report["promises"].as_array().unwrap().len(), 8, "{said}");

    assert!(pids.iter().all(|pid| is_alive(*pid)), "the kernel knows better");
    assert!(all_of_it.iter().all(|pid| is_alive(*pid)), "nobody had to start anything again");
    for slave in &cluster.slaves {
        let dead = descendants_of(slave.pid()).into_iter().filter(|pid| !is_alive(*pid)).collect::<Vec<_>>();
        assert!(dead.is_empty(), "children that ended in a drill and were never taken in: {dead:?}");
    }
    nothing_is_left(&cluster).await;
    cluster.wait_until_in_step().await;
    let mut addresses: Vec<String> =
        cluster.statuses().await.into_iter().map(|status| status.member.unwrap().client_address).collect();
    addresses.sort();
    let mut before = cluster.addresses.clone();
    before.sort();
    assert_eq!(addresses, before, "who came back is where it was, although it was told to take any free port");
}

/// Neither entries nor calls that others pass on reach it, and its own calls reach nobody; its users and slaves do reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_cut_off_hears_and_says_nothing() {
    let cluster = allowed(PLENTY).await;
    let leader = cluster.leader().await;
    let (cut_off, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = cluster.client_without(cut_off);
    let term = cluster.statuses().await[0].term;
    let request = v1::DrillRequest {
        kind: v1::DrillKind::Partition.into(),
        manager: cluster.addresses[cut_off].clone(),
        duration_ms: 8_000,
        ..Default::default()
    };
    client.drill(request.clone()).await.unwrap();
    let role_of = |statuses: Vec<v1::ManagerStatus>, manager: usize| {
        let address = &cluster.addresses[manager];
        let status = statuses.into_iter().find(|one| one.member.as_ref().unwrap().client_address == *address);
        status.unwrap().role
    };
    eventually("the others miss it", || async {
        let statuses = cluster.client_of(other).in_turn().managers(false).await.ok()?.managers;
        (role_of(statuses, cut_off) == "unreachable").then_some(())
    })
    .await;
    let twice = cluster.client_of(cut_off).drill(request).await.unwrap_err().to_string();
    assert!(twice.contains("cut off by another drill"), "{twice}");

    let own_word = || async { cluster.client_of(cut_off).in_turn().managers(true).await.unwrap().managers.remove(0) };
    let before = own_word().await;
    for name in ["a", "b", "c"] {
        let spec = Spec::new(ProcessName::new(name).unwrap(), "/bin/true");
        client.apply(&[spec], &Write::default()).await.unwrap();
    }
    let after = own_word().await;
    assert_eq!((before.last_log_index, before.applied_index), (after.last_log_index, after.applied_index));
    let hurried = cluster.client_of(cut_off).in_turn().with_deadline(Duration::from_millis(500));
    hurried.processes(named(&["a"]), false).await.unwrap_err();
    assert!(hurried.processes(named(&["a"]), true).await.unwrap().processes.is_empty(), "it has heard of a");

    cluster.wait_until_answering().await;
    cluster.wait_until_in_step().await;
    assert!(cluster.statuses().await.iter().all(|status| status.term == term), "its return has disturbed the leader");
}

/// Else a manager or slave that comes back would find its own ports and locks taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_descriptor_is_closed_when_a_program_comes_back() {
    // What whoever runs this test has left open for all is handed on, as at every start.
    let handed_on: Vec<PathBuf> = open_over_execution(std::process::id()).into_values().collect();
    let cluster = Cluster::start(PLENTY).await;
    run_something(&cluster).await;
    for program in cluster.managers.iter().chain(&cluster.slaves) {
        for (number, what) in open_over_execution(program.pid()) {
            assert!(handed_on.contains(&what), "descriptor {number} stays open: {}", what.display());
        }
    }
}

/// Descriptors beside standard input, output and error that an execution does not close, with what they are of.
fn open_over_execution(pid: u32) -> BTreeMap<u32, PathBuf> {
    const CLOSED_AT_EXECUTION: u32 = 0o2_000_000;
    let mut open = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        // One that was closed since has neither flags nor an end.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let Ok(what) = fs::read_link(format!("/proc/{pid}/fd/{number}")) else { continue };
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        if number > 2 && flags & CLOSED_AT_EXECUTION == 0 {
            open.insert(number, what);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_where_the_settings_do_not_allow_it() {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 1 }).await;
    let hash = cluster.wait_until_in_step().await;
    let instances = |statuses: Vec<v1::ManagerStatus>| {
        let instances: Vec<String> = statuses.into_iter().map(|status| status.instance).collect();
        assert!(instances.iter().all(|instance| !instance.is_empty()));
        instances
    };
    let before = instances(cluster.statuses().await);
    for kind in ["leader-kill", "partition"] {
        expect(&cluster, &[kind, "--yes"], 1, &["manager ", "allows no drills", "`drills = true`", "--allow-drills"])
            .await;
    }
    expect(&cluster, &["slave-kill", "host-1", "--yes"], 1, &["manager ", "allows no drills"]).await;
    assert_eq!(instances(cluster.statuses().await), before);
    assert_eq!(cluster.wait_until_in_step().await, hash, "something was written");

    let cluster = Cluster::start_configured(ClusterShape { managers: 1, slaves: 1 }, ALLOWED).await;
    let refused = ["the slave of host host-1 allows no drills", "`drills = true`"];
    expect(&cluster, &["slave-kill", "host-1", "--yes"], 1, &refused).await;
    let alone = ["without manager 1 only 0 of 1 voters would be left"];
    expect(&cluster, &["leader-kill", "--yes"], 1, &alone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_there_and_what_is_not_meant_is_refused() {
    let cluster = allowed(ClusterShape { managers: 3, slaves: 1 }).await;
    let unknown = ["there is no manager 99", cluster.addresses[2].as_str()];
    expect(&cluster, &["partition", "--yes", "--manager", "99"], 4, &unknown).await;
    // All managers of this cluster are on one machine.
    let machine = cluster.addresses[0].split(':').next().unwrap();
    expect(&cluster, &["partition", "--yes", "--manager", machine], 2, &["names several managers"]).await;
    expect(&cluster, &["slave-kill", "host-9", "--yes"], 4, &["host-9"]).await;
    expect(&cluster, &["leader-kill"], 2, &["kill the leader, manager ", "add --yes"]).await;
    expect(&cluster, &["leader-kill", "--yes", "--down", "2m"], 2, &["at most 1m"]).await;
    let request = v1::DrillRequest { kind: v1::DrillKind::Partition.into(), duration_ms: 60_001, ..Default::default() };
    let refused = cluster.client().drill(request).await.unwrap_err().to_string();
    assert!(refused.contains("above the limit of 60000"), "{refused}");
    nothing_is_left(&cluster).await;
    // With a manager gone there is none to spare.
    let mut cluster = cluster;
    let follower = (cluster.leader().await + 1) % 3;
    cluster.managers[follower].kill();
    expect(&cluster, &["leader-kill", "--yes"], 1, &["only 1 of 3 voters would be left"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_or_does_not_happen_has_another_exit_code() {
    let cluster = allowed(PLENTY).await;
    let pids = run_something(&cluster).await;
    // Nobody notices a partition that is over before it is missed.
    let said = expect(&cluster, &["partition", "--yes", "--for", "1ms"], 6, &["nobody else led after manager"]).await;
    assert!(said.contains("held    no acknowledged write is lost"), "{said}");

    let running = drill(&cluster, &["slave-kill", "host-2", "--yes", "--down", "2s"]);
    has_begun(&cluster).await;
    kill(Pid::from_raw(pids[0] as i32), Signal::SIGKILL).unwrap();
    let (code, said) = end_of(running).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("BROKEN  no process is restarted or lost") && said.contains("steady@host-1"), "{said}");
    nothing_is_left(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_that_is_interrupted_leaves_nothing() {
    let cluster = allowed(PLENTY).await;
    let running = drill(&cluster, &["partition", "--yes", "--for", "2s"]);
    has_begun(&cluster).await;
    kill(Pid::from_raw(running.id() as i32), Signal::SIGINT).unwrap();
    let (code, said) = end_of(running).await;
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted") && !said.contains("left over"), "{said}");
    nothing_is_left(&cluster).await;
    assert!(cluster.client().instances(all()).await.unwrap().instances.is_empty());
    cluster.wait_until_answering().await;
    cluster.wait_until_in_step().await;
}
