//! What a slave makes of processes that its ledger does not account for: adopted, ended meanwhile, foreign, stray.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_model::{RunSpec, Wanted};
use minder_proto::v1::{self, exit_status::Kind};
use minder_shim::record;
use nix::sys::signal::Signal as Kill;

use crate::stage::{Stage, eventually, host, is_alive, kill, shims, spec};

fn sleeper(name: &str) -> RunSpec {
    spec(name, "/bin/sleep", &["1000"]).resolve(&host())
}

/// A process that has nothing to do with any of this.
fn stranger() -> Child {
    Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

/// What the machine's samples say of strays.
fn strays(stage: &Stage) -> Vec<(String, u64, Vec<u32>)> {
    let usage = stage.machine.iter().flat_map(|usage| &usage.strays);
    usage.map(|stray| (stray.instance.clone(), stray.incarnation, stray.pids.clone())).collect()
}

/// Waits for the event of the host itself that tells of a stray.
async fn told(stage: &mut Stage, words: &str) {
    stage
        .until(words, |stage| {
            let mut of_host = stage.events.iter().filter(|event| event.instance.is_empty());
            of_host.any(|event| event.text.contains(words)).then_some(())
        })
        .await;
}

/// The ledger is gone, and what ran goes on: the slave begins as one that never had an assignment.
async fn lose_the_ledger(stage: &mut Stage, configuration: &str) {
    stage.kill_slave();
    fs::remove_file(stage.data().join("ledger")).unwrap();
    stage.configure(configuration);
    stage.start_slave();
    stage.open(2).await;
    stage.held = minder_model::Assignment::empty(host());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_knows_is_adopted_or_has_ended_and_a_foreign_process_is_not_touched() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let script = "while [ ! -e \"$0\" ]; do sleep 0.02; done; exit 7";
    let go = stage.folder.path().join("go");
    let ending = spec("ending", "/bin/sh", &["-c", script, go.to_str().unwrap()]).resolve(&host());
    stage.start(&[&sleeper("adopted"), &ending, &sleeper("foreign")]).await;
    let adopted = stage.phase("adopted", v1::Phase::Running).await.pid;
    let ended = stage.phase("ending", v1::Phase::Running).await.pid;
    let lost = stage.phase("foreign", v1::Phase::Running).await.pid;
    stage.kill_slave();
    fs::write(&go, "").unwrap();
    eventually("it ends", || !is_alive(ended)).await;
    fs::remove_file(&go).unwrap();
    // Shim and program are gone, and the pid on record is somebody else's by now.
    let bundle = stage.data().join("run/foreign:1/1");
    let shim = shims(&bundle)[0];
    kill(shim, Kill::SIGKILL);
    kill(lost, Kill::SIGKILL);
    eventually("both are gone", || !is_alive(shim) && !is_alive(lost)).await;
    let mut stranger = stranger();
    let file = bundle.join("record");
    let mut written = record::read(&file).unwrap().unwrap();
    (written.main_pid, written.sequence) = (stranger.id(), written.sequence + 1);
    written.write(&fs::File::options().write(true).open(&file).unwrap()).unwrap();

    stage.start_slave();
    stage.open(2).await;
    assert_eq!(stage.phase("adopted", v1::Phase::Running).await.pid, adopted);
    let again = |name: &'static str| {
        move |stage: &Stage| stage.seen.get(&format!("{name}:1")).filter(|status| status.incarnation == 2).cloned()
    };
    let status = stage.until("it runs again", again("ending")).await;
    assert_eq!(status.exits[0].status.as_ref().unwrap().kind, Some(Kind::Code(7)));
    let status = stage.until("it runs again", again("foreign")).await;
    assert_eq!(status.exits[0].status.as_ref().unwrap().kind, Some(Kind::Unknown(true)), "honestly unknown");
    stage.change("foreign", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("foreign", v1::Phase::Stopped).await;
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    assert!(strays(&stage).is_empty(), "nobody is a stray here");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strays_of_a_lost_ledger_are_told_and_left_alone_until_they_are_in_the_way() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&sleeper("app"), &sleeper("other")]).await;
    let app = stage.phase("app", v1::Phase::Running).await.pid;
    let other = stage.phase("other", v1::Phase::Running).await.pid;
    lose_the_ledger(&mut stage, "").await;
    told(&mut stage, "stray processes of app, incarnation 1").await;
    told(&mut stage, "left as they are").await;
    stage.until("both are told", |stage| (strays(stage).len() == 2).then_some(())).await;
    assert!(strays(&stage).contains(&("app".into(), 1, vec![app])), "{:?}", strays(&stage));

    // Assigned, it makes way; the one that nobody assigns stays, also over the slave's next restart.
    stage.start(&[&sleeper("app")]).await;
    let new = stage
        .until("it runs anew", |stage| stage.seen.get("app:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned());
    let new = new.await.pid;
    assert!(!is_alive(app) && is_alive(new) && is_alive(other));
    stage.until("one is left", |stage| (strays(stage) == [("other".into(), 1, vec![other])]).then_some(())).await;
    stage.kill_slave();
    stage.start_slave();
    stage.open(3).await;
    stage.want(&[], |_| {}).await;
    assert_eq!(stage.phase("app", v1::Phase::Running).await.pid, new);
    stage.until("it is still told", |stage| (strays(stage) == [("other".into(), 1, vec![other])]).then_some(())).await;
    assert!(is_alive(other));

    // Ended by whoever knows it, it is forgotten.
    kill(other, Kill::SIGKILL);
    stage.until("none is left", |stage| strays(stage).is_empty().then_some(())).await;
    stage.start(&[&sleeper("other")]).await;
    stage.phase("other", v1::Phase::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strays_are_ended_where_the_setting_says_so() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&sleeper("app"), &sleeper("other")]).await;
    let app = stage.phase("app", v1::Phase::Running).await.pid;
    let other = stage.phase("other", v1::Phase::Running).await.pid;
    lose_the_ledger(&mut stage, "stray = \"kill\"").await;
    told(&mut stage, "stray processes of other").await;
    assert!(is_alive(app) && is_alive(other), "until a leader assigns, nothing that holds its place is ended");
    stage.start(&[&sleeper("app")]).await;
    stage.until("it is gone", |stage| (!stage.seen.contains_key("other:1")).then_some(())).await;
    eventually("the other one is ended", || !is_alive(other)).await;
    stage.phase("app", v1::Phase::Running).await;
    assert!(!is_alive(app));
}

/// The leaf of an instance and the folder it is in, where the slave holds by cgroups.
fn leaf_of(pid: u32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?.to_owned();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Some(PathBuf::from(mount).join(path))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_a_leaf_and_in_no_bundle_is_a_stray_too() {
    for (policy, configuration) in [("report", ""), ("kill", "stray = \"kill\"")] {
        let mut stage = Stage::set_with(configuration).await;
        stage.open(1).await;
        if stage.facts.supervision() != v1::SupervisionLevel::Cgroup {
            eprintln!("skipped: no cgroup can be used here");
            return;
        }
        stage.start(&[&sleeper("app")]).await;
        let app = stage.phase("app", v1::Phase::Running).await.pid;
        let leaf = leaf_of(app).unwrap().with_file_name("ghost:1.3");
        stage.kill_slave();
        let mut ghost = stranger();
        fs::create_dir(&leaf).unwrap();
        fs::write(leaf.join("cgroup.procs"), ghost.id().to_string()).unwrap();
        stage.start_slave();
        stage.open(2).await;
        told(&mut stage, "stray processes of ghost, incarnation 3").await;
        if policy == "kill" {
            ghost.wait().unwrap();
            eventually("its leaf goes with it", || !leaf.exists()).await;
        } else {
            stage
                .until("it is told", |stage| (strays(stage) == [("ghost".into(), 3, vec![ghost.id()])]).then_some(()))
                .await;
            stage.want(&[], |_| {}).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(ghost.try_wait().unwrap().is_none(), "it was ended");
            // Nothing starts beside it, and nothing gets its leaf.
            let reaper = std::thread::spawn(move || ghost.wait().unwrap());
            stage.start(&[&sleeper("ghost")]).await;
            let status = stage.phase("ghost", v1::Phase::Running).await;
            assert_eq!(status.incarnation, 4);
            reaper.join().unwrap();
            eventually("its leaf is gone", || !leaf.exists()).await;
        }
        assert_eq!(stage.phase("app", v1::Phase::Running).await.pid, app);
    }
}
