//! What a slave finds again after it was killed, with and without managers, and with a damaged ledger.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::Duration,
};

use minder_model::{InstanceKey, RestartPolicy, RunSpec, Wanted};
use minder_proto::v1::{self, exit_status::Kind};
use nix::sys::signal::Signal as Kill;

use crate::stage::{Stage, eventually, host, is_alive, item, kill, shims, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_processes_are_taken_over_and_no_exit_code_is_lost() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let many = spec("many", "/bin/sleep", &["1000"]).resolve(&host());
    let go = stage.folder.path().join("go");
    let script = "while [ ! -e \"$0\" ]; do sleep 0.02; done; exit 7";
    let mut ending = spec("ending", "/bin/sh", &["-c", script, go.to_str().unwrap()]);
    ending.restart.policy = RestartPolicy::Never;
    let ending = ending.resolve(&host());
    let lost = spec("lost", "/bin/sleep", &["1000"]).resolve(&host());
    stage
        .want(&[&many], |assignment| {
            for index in 1..=50 {
                let key = InstanceKey::new(many.spec().name.clone(), index);
                assignment.items.insert(key, item(many.digest(), Wanted::Running));
            }
        })
        .await;
    stage.start(&[&ending, &lost]).await;
    let pids = |stage: &Stage| -> Vec<u32> {
        let all = stage.seen.values().filter(|status| status.process == "many");
        all.filter(|status| status.phase() == v1::Phase::Running).map(|status| status.pid).collect()
    };
    let before = stage.until("all run", |stage| Some(pids(stage)).filter(|pids| pids.len() == 50)).await;
    let going = stage.phase("ending", v1::Phase::Running).await.pid;
    let lost_pid = stage.phase("lost", v1::Phase::Running).await.pid;

    stage.kill_slave();
    assert!(before.iter().all(|pid| is_alive(*pid)));
    fs::write(&go, "").unwrap();
    eventually("one ends meanwhile", || !is_alive(going)).await;
    // Nobody saw how this one ended: its shim went first.
    for shim in shims(&stage.data().join("run/lost:1")) {
        kill(shim, Kill::SIGKILL);
    }
    kill(lost_pid, Kill::SIGKILL);
    eventually("another is lost with its shim", || !is_alive(lost_pid)).await;

    stage.start_slave();
    stage.open(2).await;
    let ended = stage.phase("ending", v1::Phase::Exited).await;
    assert_eq!(ended.exits[0].status.as_ref().unwrap().kind, Some(Kind::Code(7)));
    let lost = stage
        .until("the lost one runs again", |stage| stage.seen.get("lost:1").filter(|s| s.incarnation == 2).cloned())
        .await;
    assert_eq!(lost.exits[0].status.as_ref().unwrap().kind, Some(Kind::Unknown(true)));
    let after = stage.until("all run again", |stage| Some(pids(stage)).filter(|pids| pids.len() == 50)).await;
    assert_eq!(after, before);
    assert!(stage.seen.values().filter(|s| s.process == "many").all(|s| s.restarts == 0 && s.incarnation == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slave_alone_supervises_from_its_ledger() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let pids = stage.folder.path().join("pids");
    let app = spec("app", "/bin/sh", &["-c", "echo $$ >> \"$0\"; exec sleep 1000", pids.to_str().unwrap()]);
    let stopped = spec("stopped", "/bin/sleep", &["1000"]).resolve(&host());
    stage.start(&[&app.resolve(&host()), &stopped]).await;
    stage.phase("stopped", v1::Phase::Running).await;
    stage.change("stopped", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("stopped", v1::Phase::Stopped).await;
    let read = || -> Vec<u32> {
        fs::read_to_string(&pids).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    };
    eventually("it runs", || read().len() == 1).await;

    stage.kill_slave();
    // What ends while nobody looks is restarted by the slave that comes, what ends later as well.
    kill(read()[0], Kill::SIGKILL);
    stage.start_slave_alone();
    for count in 2..4 {
        eventually("it is restarted", || read().len() == count).await;
        assert_eq!(read().iter().filter(|pid| is_alive(**pid)).count(), 1);
        kill(*read().last().unwrap(), Kill::SIGABRT);
    }
    eventually("and again", || read().len() == 4).await;

    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    let status = stage.phase("app", v1::Phase::Running).await;
    assert_eq!((status.pid, status.restarts, status.incarnation), (*read().last().unwrap(), 3, 4));
    assert_eq!(stage.phase("stopped", v1::Phase::Stopped).await.incarnation, 1, "what was stopped stays stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_ledger_is_set_aside_and_its_processes_are_not_doubled() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let pids = stage.folder.path().join("pids");
    let sleeper = |name: &str| {
        let script = "echo $$ >> \"$0.$1\"; exec sleep 1000";
        spec(name, "/bin/sh", &["-c", script, pids.to_str().unwrap(), name]).resolve(&host())
    };
    let (kept, dropped): (RunSpec, RunSpec) = (sleeper("kept"), sleeper("dropped"));
    stage.start(&[&kept, &dropped]).await;
    let first = stage.phase("kept", v1::Phase::Running).await.pid;
    let other = stage.phase("dropped", v1::Phase::Running).await.pid;
    stage.kill_slave();
    let ledger = stage.data().join("ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[40] ^= 1;
    fs::write(&ledger, &bytes).unwrap();
    let refused = stage.command("127.0.0.1:1").output().unwrap();
    assert_eq!(refused.status.code(), Some(11), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ledger.damaged-1"), "{refused:?}");
    assert_eq!(fs::read(stage.data().join("ledger.damaged-1")).unwrap(), bytes);

    stage.start_slave();
    let hello = stage.open(2).await;
    assert_eq!((hello.cluster_id.as_str(), hello.assignment_revision), ("", 0));
    for name in ["kept", "dropped"] {
        stage.phase(name, v1::Phase::Running).await;
    }
    assert!(is_alive(first) && is_alive(other), "until a leader assigns, nothing is ended");
    stage.held = minder_model::Assignment::empty(host());
    stage.start(&[&kept]).await;
    let second = stage
        .until("it runs anew", |stage| stage.seen.get("kept:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned())
        .await;
    assert!(is_alive(second.pid) && !is_alive(first), "two of one instance");
    assert!(is_alive(other), "what nobody assigns is a stray, and left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_whose_end_is_noted_is_cleared_away() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&spec("app", "/bin/sleep", &["1000"]).resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
    stage.kill_slave();
    // As a slave leaves it that is killed between its sync and what it does next.
    let bundle = stage.data().join("run/app:1/1");
    fs::create_dir_all(&bundle).unwrap();
    fs::write(bundle.join("record"), [0; 64]).unwrap();
    // As a power cut leaves it in the moment before that sync: made ready, and the ledger knows nothing of it.
    let next = stage.data().join("run/app:1/2");
    fs::create_dir_all(&next).unwrap();
    fs::write(next.join("launch"), "").unwrap();
    stage.start_slave();
    stage.open(2).await;
    eventually("both are gone", || !bundle.exists() && !next.exists()).await;
    let status = stage.phase("app", v1::Phase::Stopped).await;
    assert!(status.incarnation == 1 && !is_alive(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_ledger_costs_nothing() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&spec("app", "/bin/sleep", &["1000"]).resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    stage.kill_slave();
    OpenOptions::new().append(true).open(stage.data().join("ledger")).unwrap().write_all(&[9; 100]).unwrap();
    stage.start_slave();
    assert_eq!(stage.open(2).await.assignment_revision, 1);
    assert_eq!(stage.phase("app", v1::Phase::Running).await.pid, pid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_slaves_do_not_share_a_folder_and_a_told_end_leaves_everything_running() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&spec("app", "/bin/sleep", &["1000"]).resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    let second = stage.command("127.0.0.1:1").output().unwrap();
    assert_eq!(second.status.code(), Some(14), "{second:?}");
    let mut slave = stage.slave.take().unwrap();
    kill(slave.id(), Kill::SIGTERM);
    let mut status = None;
    tokio::time::timeout(
        Duration::from_secs(5),
        eventually("it ends", || {
            status = slave.try_wait().unwrap();
            status.is_some()
        }),
    )
    .await
    .unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
    assert!(is_alive(pid));
}
