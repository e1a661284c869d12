//! Where shims come from may be killed or stop to answer; starts go on.

use std::{fs, time::Duration};

use minder_proto::v1::{self, exit_status::Kind};
use nix::sys::signal::Signal;

use crate::stage::{DEADLINE, Stage, eventually, host, is_alive, kill, spec};

/// A nursery that says nothing for so long is taken for stuck (`BIRTH_WAIT` of the slave).
const TAKEN_FOR_STUCK: Duration = Duration::from_secs(30);

/// The nursery of a slave: the only one of its children that waits for requests.
fn nursery(slave: u32) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{slave}/task")).ok()?.flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<u32> =
        children.flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    let waits = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == minder_shim::protocol::NURSERY.as_bytes()) && is_alive(*pid)
    };
    pids.into_iter().find(waits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_is_replaced_and_its_shims_live_on() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let slave = stage.slave.as_ref().unwrap().id();
    let sleeper = |name: &str| spec(name, "/bin/sleep", &["1000"]).resolve(&host());
    let (before, after) = (sleeper("before"), sleeper("after"));
    stage.start(&[&before]).await;
    let first = stage.phase("before", v1::Phase::Running).await;
    let killed = nursery(slave).unwrap();
    kill(killed, Signal::SIGKILL);
    eventually("it is gone", || !is_alive(killed)).await;
    stage.start(&[&after]).await;
    let second = stage.phase("after", v1::Phase::Running).await;
    assert_eq!((second.incarnation, second.restarts), (1, 0), "its start did not fail");
    let fresh = nursery(slave).unwrap();
    assert!(is_alive(first.pid) && fresh != killed);
    // What its shims see is still known.
    kill(first.pid, Signal::SIGKILL);
    let again = |stage: &Stage| stage.seen.get("before:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned();
    let again = stage.until("it runs again", again).await;
    let kind = again.exits[0].status.as_ref().unwrap().kind.as_ref().unwrap();
    assert!(matches!(kind, Kind::Signal(signal) if signal.signal == 9), "{kind:?}");
    stage.kill_slave();
    eventually("the nursery ends with its slave", || !is_alive(fresh)).await;
    assert!(is_alive(second.pid) && is_alive(again.pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_answer_is_replaced() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let slave = stage.slave.as_ref().unwrap().id();
    let sleeper = |name: &str| spec(name, "/bin/sleep", &["1000"]).resolve(&host());
    let (before, after) = (sleeper("before"), sleeper("after"));
    stage.start(&[&before]).await;
    let first = stage.phase("before", v1::Phase::Running).await;
    let stuck = nursery(slave).unwrap();
    kill(stuck, Signal::SIGSTOP);
    stage.start(&[&after]).await;
    let runs = |stage: &Stage| stage.seen.get("after:1").filter(|seen| seen.phase() == v1::Phase::Running).cloned();
    let second = stage.until_within(TAKEN_FOR_STUCK + DEADLINE, "it runs all the same", runs).await;
    assert!(is_alive(first.pid) && is_alive(second.pid) && !is_alive(stuck));
    assert_ne!(nursery(slave).unwrap(), stuck);
    assert_eq!(stage.seen["before:1"].incarnation, 1, "who runs is left alone");
}

/// It had looked for its folder by a name that was another one by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_is_born_ahead_and_late_finds_its_folder_by_whatever_name() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let slave = stage.slave.as_ref().unwrap().id();
    let sleeper = |name: &str| spec(name, "/bin/sleep", &["1000"]).resolve(&host());
    let specs = ["first", "second", "third"].map(sleeper);
    let spares = stage.data().join("spare");
    let waiting = || fs::read_dir(&spares).into_iter().flatten().flatten().map(|entry| entry.path()).next();
    stage.start(&[&specs[0]]).await;
    stage.phase("first", v1::Phase::Running).await;
    eventually("one is born ahead", || waiting().is_some_and(|folder| folder.join("sock").exists())).await;
    let nursery = nursery(slave).unwrap();
    kill(nursery, Signal::SIGSTOP);
    stage.start(&[&specs[0], &specs[1]]).await;
    stage.phase("second", v1::Phase::Running).await;
    assert!(stage.data().join("run/second:1/1/sock").exists(), "with the shim that was there");
    eventually("another one is asked for", || waiting().is_some()).await;
    stage.start(&[&specs[0], &specs[1], &specs[2]]).await;
    let bundle = stage.data().join("run/third:1/1");
    eventually("its folder has its name", || bundle.join("launch").exists() && waiting().is_none()).await;
    kill(nursery, Signal::SIGCONT);
    let third = stage.phase("third", v1::Phase::Running).await;
    assert_eq!((third.incarnation, third.restarts), (1, 0), "its start did not fail");
}
