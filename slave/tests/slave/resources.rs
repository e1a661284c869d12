//! Limits on whole incarnations: held where the host can, and where it cannot the process runs and the host says so.

use std::path::PathBuf;

use minder_model::{Bytes, Cores, Resources, RestartPolicy};
use minder_proto::v1::{self, exit_status::Kind};

use crate::stage::{Stage, host, spec};

/// Why the host cannot hold this limit; empty when it can.
fn missing(stage: &Stage, resource: &str) -> String {
    let all = &stage.facts.limits;
    all.iter().find(|support| support.resource == resource).expect("every limit is spoken of").missing.clone()
}

/// The cgroup of a process.
fn leaf(pid: u32) -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap().split(' ').nth(1).unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    PathBuf::from(mount).join(groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_held_or_the_host_says_by_name_why_not() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let mut app = spec("app", "/bin/sleep", &["1000"]);
    app.resources = Some(Resources { memory: Some(Bytes(64 << 20)), cpu: Some(Cores(500)), pids: Some(50) });
    stage.start(&[&app.resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    println!("held by {:?}, notes {:?}", stage.facts.supervision(), stage.facts.supervision_notes);
    for (resource, file, text) in [
        ("memory", "memory.max", "67108864\n"),
        ("memory", "memory.oom.group", "1\n"),
        ("cpu", "cpu.max", "50000 100000\n"),
        ("pids", "pids.max", "50\n"),
    ] {
        match missing(&stage, resource).as_str() {
            "" => assert_eq!(std::fs::read_to_string(leaf(pid).join(file)).unwrap(), text),
            why => {
                assert!(why.contains(resource) || why.contains("cgroup v2"), "{resource}: {why}");
                println!("not held here, so not tried: {resource} ({why})");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory_is_named_as_the_cause() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let why = missing(&stage, "memory");
    if !why.is_empty() {
        println!("skipped: {why}");
        return;
    }
    let mut eater = spec("eater", "/bin/sh", &["-c", "sleep 1000 & exec tail /dev/zero"]);
    eater.resources = Some(Resources { memory: Some(Bytes(16 << 20)), ..Resources::default() });
    eater.restart.policy = RestartPolicy::Never;
    stage.start(&[&eater.resolve(&host())]).await;
    let status = stage.phase("eater", v1::Phase::Exited).await;
    let exit = &status.exits[0];
    assert_eq!(exit.status.unwrap().kind, Some(Kind::OutOfMemory(true)), "{exit:?}");
    assert!(exit.oom_kills >= 1 && !exit.requested, "{exit:?}");
    assert!((8 << 20..=17 << 20).contains(&exit.memory_peak_bytes), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_processes_are_refused_to_the_program() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let why = missing(&stage, "pids");
    if !why.is_empty() {
        println!("skipped: {why}");
        return;
    }
    let mut storm = spec("storm", "/bin/bash", &["-c", "for i in {1..50}; do sleep 1000 & done; echo all; wait"]);
    storm.resources = Some(Resources { pids: Some(10), ..Resources::default() });
    storm.restart.policy = RestartPolicy::Never;
    stage.start(&[&storm.resolve(&host())]).await;
    let exit = stage.phase("storm", v1::Phase::Exited).await.exits[0].clone();
    assert!(exit.last_stderr.contains("fork") && !exit.last_stdout.contains("all"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_cgroups_says_so() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.kill_slave();
    let settings = stage.folder.path().join("slave.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text + "supervision = \"session\"\n").unwrap();
    stage.start_slave();
    stage.open(2).await;
    assert_eq!(stage.facts.supervision(), v1::SupervisionLevel::Session);
    assert!(stage.facts.supervision_notes[0].contains("session was asked for"), "{:?}", stage.facts);
    let mut app = spec("app", "/bin/sleep", &["1000"]);
    app.resources = Some(Resources { memory: Some(Bytes(64 << 20)), ..Resources::default() });
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    assert!(missing(&stage, "memory").contains("without cgroup v2"));
}
