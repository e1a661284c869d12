//! What the slave does for a process from its first start to its deletion.

use std::fs;

use minder_model::{InstanceKey, Millis, RestartPolicy, Signal, SignalOrder, Wanted};
use minder_proto::v1::{self, cause, exit_status::Kind};
use nix::sys::signal::Signal as Kill;

use crate::stage::{Stage, eventually, host, is_alive, kill, shims, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_signalled_restarted_stopped_and_deleted() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = stage.folder.path().join("notes");
    let script = "env | sort > \"$0.env\"; echo $1 >> \"$0\"; trap 'echo usr1 >> \"$0\"' USR1; \
                  trap 'exit 0' TERM; echo ready >> \"$0\"; while :; do sleep 0.02; done";
    let mut app =
        spec("app", "/bin/sh", &["-c", script, notes.to_str().unwrap(), "${name}.${instance}.${incarnation}"]);
    app.env.insert("COLOUR".into(), "blue on ${host}".into());
    stage.start(&[&app.resolve(&host())]).await;
    let first = stage.phase("app", v1::Phase::Running).await;
    assert_eq!((first.incarnation, first.restarts), (1, 0));
    let text = || fs::read_to_string(&notes).unwrap_or_default();
    eventually("it is ready", || text() == "app.1.1\nready\n").await;
    let env = fs::read_to_string(notes.with_extension("env")).unwrap();
    let keys: Vec<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // PWD and _ are the shell's own.
    let expected = [
        "COLOUR",
        "HOME",
        "LOGNAME",
        "MINDER_GENERATION",
        "MINDER_HOST",
        "MINDER_INCARNATION",
        "MINDER_INSTANCE",
        "MINDER_PROCESS",
        "PATH",
        "PWD",
        "SHELL",
        "USER",
    ];
    assert_eq!(keys.into_iter().filter(|key| *key != "_").collect::<Vec<_>>(), expected);
    assert!(env.contains("COLOUR=blue on h\n"), "{env}");

    let signal = Signal::parse("USR1").unwrap();
    stage.change("app", |revision, item| item.signal = Some(SignalOrder { revision, signal, reload: false })).await;
    eventually("the signal has come", || text().ends_with("ready\nusr1\n")).await;
    // Held with a later revision, it is not sent again.
    stage.want(&[], |_| {}).await;

    stage.change("app", |revision, item| item.restart_at = revision).await;
    let second = stage
        .until("it runs again", |stage| stage.seen.get("app:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned())
        .await;
    assert!(second.pid != first.pid && !is_alive(first.pid));
    assert_eq!(second.restarts, 0, "an operator's restart is none of the policy's");
    assert!(second.exits[0].requested);
    eventually("the second is ready", || text().ends_with("usr1\napp.1.2\nready\n")).await;

    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    let stopped = stage.phase("app", v1::Phase::Stopped).await;
    assert_eq!(stopped.exits[1].status.as_ref().unwrap().kind, Some(Kind::Code(0)));
    assert!(!is_alive(second.pid));
    stage.change("app", |_, item| item.wanted = Wanted::Running).await;
    let third = stage.phase("app", v1::Phase::Running).await;
    assert_eq!(third.incarnation, 3);

    stage
        .want(&[], |assignment| {
            assignment.items.remove(&InstanceKey::parse("app").unwrap());
        })
        .await;
    stage.until("it is gone", |stage| stage.seen.is_empty().then_some(())).await;
    assert!(!is_alive(third.pid));
    for folder in ["run/app:1", "logs/app:1"] {
        assert!(!stage.data().join(folder).exists(), "{folder} was left");
    }
    eventually("its shim has gone", || shims(&stage.data()).is_empty()).await;
    assert!(stage.events.iter().any(|event| event.instance.starts_with("app") && event.text.contains("pid")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_says_why() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let never = |mut spec: minder_model::Spec| {
        spec.restart.policy = RestartPolicy::Never;
        spec.resolve(&host())
    };
    let mut nobody = spec("nobody", "/bin/sleep", &["1000"]);
    nobody.user = Some("no-such-user".into());
    let mut nowhere = spec("nowhere", "/bin/sleep", &["1000"]);
    nowhere.working_directory = Some("/no/such/folder".into());
    let mut looping = spec("looping", "/bin/sh", &["-c", "exit 3"]);
    looping.restart.delay = Millis(10);
    looping.restart.limit = 3;
    let lines = stage.folder.path().join("lines.env");
    fs::write(&lines, "A=1\nnonsense\n").unwrap();
    let mut badly = spec("badly", "/bin/sleep", &["1000"]);
    badly.env_files = vec!["-/no/such.env".into(), lines.to_str().unwrap().into()];
    let mut unfiled = spec("unfiled", "/bin/sleep", &["1000"]);
    unfiled.env_files = vec!["/no/${name}.env".into()];
    let mut boundless = spec("boundless", "/bin/sleep", &["1000"]);
    boundless.limits.insert("nofile".into(), minder_model::Limit { soft: Some(9 << 40), hard: Some(9 << 40) });
    let specs = [
        never(badly),
        never(unfiled),
        never(boundless),
        never(spec("code", "/bin/sh", &["-c", "exit 7"])),
        never(spec("signal", "/bin/sh", &["-c", "kill -9 $$"])),
        never(spec("missing", "/no/such/program", &[])),
        never(spec("unfit", "/etc/passwd", &[])),
        never(nobody),
        never(nowhere),
        looping.resolve(&host()),
    ];
    stage.start(&specs.iter().collect::<Vec<_>>()).await;

    let code = stage.phase("code", v1::Phase::Exited).await;
    assert_eq!(code.exits[0].status.as_ref().unwrap().kind, Some(Kind::Code(7)));
    let signal = stage.phase("signal", v1::Phase::Exited).await;
    assert!(matches!(&signal.exits[0].status.as_ref().unwrap().kind, Some(Kind::Signal(end)) if end.signal == 9));
    for (name, step, errno, words) in [
        ("missing", "exec", 2, "/no/such/program"),
        ("unfit", "exec", 13, "/etc/passwd"),
        ("nobody", "user", 2, "no such user: no-such-user"),
        ("nowhere", "working_directory", 2, "/no/such/folder"),
        ("badly", "env_files", 0, "lines.env: line 2: no KEY=VALUE"),
        ("unfiled", "env_files", 2, "env_files: /no/unfiled.env: No such file"),
        ("boundless", "limits", 1, "limits.nofile 9895604649984: Operation not permitted"),
    ] {
        let key = format!("{name}:1");
        let failure = stage.until(name, |stage| stage.seen.get(&key)?.exits.first()?.start_failure.clone()).await;
        assert_eq!((failure.step.as_str(), failure.errno), (step, errno), "{name}: {failure:?}");
        assert!(failure.message.contains(words), "{name}: {failure:?}");
    }
    let looping = stage.phase("looping", v1::Phase::Fatal).await;
    assert!(matches!(looping.cause.unwrap().kind, Some(cause::Kind::LimitReached(reached)) if reached.limit == 3));
    assert_eq!((looping.restarts, looping.incarnation), (3, 4), "three restarts after the first start, and no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_main_process_leaves_behind_does_not_meet_the_next() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let pids = stage.folder.path().join("pids");
    // The one it leaves ignores TERM and has left the session.
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$ >> \"$0\"; while :; do sleep 0.1; done' \"$0\" & \
                  while [ ! -e \"$0.go\" ]; do sleep 0.02; done; exit 1";
    let app = spec("app", "/bin/sh", &["-c", script, pids.to_str().unwrap()]);
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    let read = || -> Vec<u32> {
        fs::read_to_string(&pids).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    };
    eventually("it has a child", || read().len() == 1).await;
    fs::write(pids.with_extension("go"), "").unwrap();
    let second =
        stage.until("the next one", |stage| stage.seen.get("app:1").filter(|s| s.incarnation >= 2).cloned()).await;
    assert!(second.restarts >= 1 && !is_alive(read()[0]), "the child of the first lives on beside the second");
    fs::remove_file(pids.with_extension("go")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_costs_neither_the_process_nor_its_supervision() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let app = spec("app", "/bin/sleep", &["1000"]);
    stage.start(&[&app.resolve(&host())]).await;
    let before = stage.phase("app", v1::Phase::Running).await;
    for shim in shims(&stage.data()) {
        kill(shim, Kill::SIGKILL);
    }
    stage.want(&[], |_| {}).await;
    assert!(is_alive(before.pid), "it outlives its shim");
    kill(before.pid, Kill::SIGKILL);
    let after = stage
        .until("it is restarted", |stage| stage.seen.get("app:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned())
        .await;
    assert_eq!(after.exits[0].status.as_ref().unwrap().kind, Some(Kind::Unknown(true)), "an end nobody saw is unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_wanted_again_while_it_is_still_stopping() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let mut app = spec("app", "/bin/sh", &["-c", "trap '' TERM; while :; do sleep 0.02; done"]);
    app.stop.grace = Millis(800);
    let app = app.resolve(&host());
    stage.start(&[&app]).await;
    stage.phase("app", v1::Phase::Running).await;
    stage.want(&[], |assignment| assignment.items.clear()).await;
    stage.phase("app", v1::Phase::Stopping).await;
    stage.start(&[&app]).await;
    let again = stage.phase("app", v1::Phase::Running).await;
    assert!(again.incarnation == 2 && again.exits[0].killed_after_grace);
}

/// It began with the number of the one before, whose bundle and cgroup, its own by then, were being cleared away: its first
/// start failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_written_again_at_once_it_starts_at_once() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let app = spec("app", "/bin/sleep", &["1000"]).resolve(&host());
    stage.start(&[&app]).await;
    stage.phase("app", v1::Phase::Running).await;
    stage
        .want(&[], |assignment| {
            assignment.items.remove(&InstanceKey::parse("app").unwrap());
        })
        .await;
    stage.until("it is gone", |stage| stage.seen.is_empty().then_some(())).await;
    stage.start(&[&app]).await;
    let again = stage.phase("app", v1::Phase::Running).await;
    assert_eq!((again.restarts, again.exits.len()), (0, 0), "the first start was a good one: {again:?}");
    // The end of this one comes later, and is cleared away after that of the first.
    let mut other = spec("other", "/bin/true", &[]);
    other.restart.policy = RestartPolicy::Never;
    stage.start(&[&other.resolve(&host())]).await;
    let ended = stage.phase("other", v1::Phase::Exited).await;
    let bundle = stage.data().join(format!("run/other:1/{}", ended.incarnation));
    eventually("what is left of the other is cleared away", || !bundle.exists()).await;

    assert!(stage.data().join(format!("run/app:1/{}", again.incarnation)).exists());
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    let taken_over = stage.phase("app", v1::Phase::Running).await;
    assert_eq!((taken_over.pid, taken_over.incarnation), (again.pid, again.incarnation));
}
