//! A slave is replaced by the next version and by the one before, over the shims of either: nothing is restarted and no
//! end is lost. `deploy/setup/previous` makes the older programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use minder_model::{InstanceKey, RestartPolicy, RunSpec, Signal, SignalOrder, Wanted};
use minder_proto::v1::{self, exit_status::Kind};

use crate::stage::{Programs, Stage, eventually, host, is_alive, item, shims, spec};

/// Instances that just run, by each version.
const MANY: u32 = 20;

/// The programs of the version before this one, if they were made.
fn previous() -> Option<Programs> {
    let folder = std::env::var_os("MINDER_PREVIOUS_BIN_DIR").filter(|folder| !folder.is_empty())?;
    let folder = PathBuf::from(folder);
    let programs = Programs { slave: folder.join("minder-slave"), shim: folder.join("minder-shim") };
    assert!(programs.slave.exists() && programs.shim.exists(), "{} lacks programs", folder.display());
    Some(programs)
}

/// Runs until a file of its name appears, then ends with 7. A file of its own says that it was told something.
fn ending(name: &str, folder: &Path) -> RunSpec {
    let script = "trap 'echo told >> \"$0.told\"' USR1; while [ ! -e \"$0\" ]; do sleep 0.02; done; exit 7";
    let mut spec = spec(name, "/bin/sh", &["-c", script, folder.join(name).to_str().unwrap()]);
    spec.restart.policy = RestartPolicy::Never;
    spec.resolve(&host())
}

fn many(name: &str) -> RunSpec {
    spec(name, "/bin/sleep", &["1000"]).resolve(&host())
}

/// Has the slave run `MANY` of `name`, and one that ends by a file and one that ends by a file unseen.
async fn start(stage: &mut Stage, name: &str) {
    let folder = stage.folder.path().to_owned();
    let (many, seen, unseen) =
        (many(name), ending(&format!("{name}-seen"), &folder), ending(&format!("{name}-unseen"), &folder));
    stage
        .want(&[&many], |assignment| {
            for index in 1..=MANY {
                let key = InstanceKey::new(many.spec().name.clone(), index);
                assignment.items.insert(key, item(many.digest(), Wanted::Running));
            }
        })
        .await;
    stage.start(&[&seen, &unseen]).await;
}

/// What runs, with its pid.
fn running(stage: &Stage) -> Vec<(String, u32)> {
    let all = stage.seen.iter().filter(|(_, status)| status.phase() == v1::Phase::Running);
    all.map(|(key, status)| (key.clone(), status.pid)).collect()
}

async fn until_running(stage: &mut Stage, count: u32) -> Vec<(String, u32)> {
    let all = |stage: &Stage| Some(running(stage)).filter(|running| running.len() == count as usize);
    stage.until(&format!("{count} run"), all).await
}

/// One of them ends while there is no slave.
async fn end(stage: &Stage, name: &str, before: &[(String, u32)]) {
    let pid = before.iter().find(|(key, _)| *key == format!("{name}:1")).unwrap().1;
    fs::write(stage.folder.path().join(name), "").unwrap();
    eventually("it ends", || !is_alive(pid)).await;
}

/// Another version takes over: what ended is known with its code, and the rest are who they were.
async fn replace(stage: &mut Stage, programs: Programs, term: u64, ended: &str, before: &[(String, u32)]) {
    stage.kill_slave();
    end(stage, ended, before).await;
    stage.programs = programs;
    stage.start_slave();
    stage.open(term).await;
    let exit = stage.phase(ended, v1::Phase::Exited).await.exits[0].clone();
    assert_eq!(exit.status.unwrap().kind, Some(Kind::Code(7)), "{ended}");
    let after = until_running(stage, before.len() as u32 - 1).await;
    let expected: Vec<_> = before.iter().filter(|(key, _)| *key != format!("{ended}:1")).cloned().collect();
    assert_eq!(after, expected, "restarted");
    assert!(stage.seen.values().all(|status| status.incarnation == 1 && status.restarts == 0), "{:?}", stage.seen);
    // Saying again what was said changes nothing either.
    stage.want(&[], |_| {}).await;
    assert_eq!(running(stage), expected, "restarted by an assignment");
}

/// What the other version has started can be told, seen ending, and stopped.
async fn use_all(stage: &mut Stage, name: &str) {
    let seen = format!("{name}-seen");
    let signal = Signal::parse("USR1").unwrap();
    stage.change(&seen, |revision, item| item.signal = Some(SignalOrder { revision, signal, reload: false })).await;
    let told = stage.folder.path().join(format!("{seen}.told"));
    eventually("it is told", || told.exists()).await;
    fs::write(stage.folder.path().join(&seen), "").unwrap();
    let exit = stage.phase(&seen, v1::Phase::Exited).await.exits[0].clone();
    assert_eq!(exit.status.unwrap().kind, Some(Kind::Code(7)), "{seen}");
    stage.change(&format!("{name}:2"), |_, item| item.wanted = Wanted::Stopped).await;
    let key = format!("{name}:2");
    stage.until("one is stopped", |stage| (stage.seen[&key].phase() == v1::Phase::Stopped).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_version_takes_over_and_so_does_the_one_before() {
    let Some(previous) = previous() else {
        eprintln!("skipped: no programs of the version before; say MINDER_PREVIOUS_BIN_DIR=$(deploy/setup/previous)");
        return;
    };
    let present = Programs::present();
    let mut stage = Stage::set_by(previous.clone(), "").await;
    stage.open(1).await;
    start(&mut stage, "old").await;
    let before = until_running(&mut stage, MANY + 2).await;
    replace(&mut stage, present, 2, "old-unseen", &before).await;
    use_all(&mut stage, "old").await;

    start(&mut stage, "new").await;
    let before = until_running(&mut stage, MANY - 1 + MANY + 2).await;
    replace(&mut stage, previous, 3, "new-unseen", &before).await;
    use_all(&mut stage, "new").await;

    stage.want(&[], |assignment| assignment.items.clear()).await;
    stage.until("everything is gone", |stage| stage.seen.is_empty().then_some(())).await;
    eventually("no shim is left", || shims(&stage.data()).is_empty()).await;
}
