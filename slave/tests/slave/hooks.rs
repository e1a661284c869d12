//! Hooks of real processes: when they run and as whom, what their failures do, and that they never outlive a slave.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use minder_model::{File, Hook, Hooks, Millis, Probe, Ready, Reload, Signal, SignalOrder, Spec, Wanted};
use minder_proto::v1;

use crate::stage::{Stage, eventually, host, is_alive, spec};

fn shell(script: &str, arg: &Path) -> Option<Hook> {
    let args = ["-c", script, arg.to_str().unwrap()].map(String::from).to_vec();
    Some(Hook::new("/bin/sh", args))
}

/// A program that notes its start and its end.
fn noting(notes: &Path, hooks: Hooks) -> Spec {
    let script = "trap 'echo term >> \"$0\"; exit 0' TERM; echo program >> \"$0\"; while :; do sleep 0.02; done";
    let mut spec = spec("app", "/bin/sh", &["-c", script, notes.to_str().unwrap()]);
    spec.hooks = hooks;
    spec
}

fn lines(notes: &Path) -> Vec<String> {
    fs::read_to_string(notes).unwrap_or_default().lines().map(String::from).collect()
}

fn notes(stage: &Stage) -> PathBuf {
    stage.folder.path().join("notes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hook_has_its_time() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let note = || shell("echo $MINDER_HOOK $COLOUR $MINDER_INCARNATION >> \"$0\"", &notes);
    let mut app = noting(&notes, Hooks { pre_start: note(), post_start: note(), pre_stop: note(), post_stop: note() });
    app.env.insert("COLOUR".into(), "blue".into());
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    eventually("all have begun", || lines(&notes).len() == 3).await;
    let begun = lines(&notes);
    assert_eq!(begun[0], "pre_start blue 1");
    assert!(begun.contains(&"post_start blue 1".into()) && begun.contains(&"program".into()), "{begun:?}");
    // A slave that ends before it knows that the hook is done leaves it to the next one.
    let done = stage.data().join("run/app:1/1/post_start.done");
    eventually("the slave knows", || done.exists()).await;
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
    assert_eq!(lines(&notes)[3..], ["pre_stop blue 1", "term", "post_stop blue 1"], "and none twice");
    eventually("the bundle is gone", || !stage.data().join("run/app:1/1").exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_and_checks_get_what_a_start_gets() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let variables = stage.folder.path().join("app.env");
    fs::write(&variables, "SHADE=dark\n").unwrap();
    let look = "echo $SHADE $(cat \"$MINDER_FILES/shape\") $(grep NoNewPrivs /proc/self/status | tr -dc 01)";
    let note = || shell(&format!("{look} $(cat \"${{files}}/shape\") >> \"$0\""), &notes);
    let mut app = noting(&notes, Hooks { pre_start: note(), post_stop: note(), ..Hooks::default() });
    app.env_files = vec![variables.to_str().unwrap().into()];
    app.no_new_privileges = true;
    let content = "round".into();
    app.files = vec![File { path: "shape".into(), content, mode: None, owner: None, group: None, expand: false }];
    let check = format!("[ \"$({look})\" = 'dark round 1' ] && [ -e \"${{files}}/shape\" ]");
    let probe = Probe::Exec(["/bin/sh", "-c", &check].map(String::from).to_vec());
    app.ready = Some(Ready { interval: Millis(100), threshold: 1, ..Ready::new(probe) });
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Ready).await;
    assert_eq!(lines(&notes)[0], "dark round 1 round");
    fs::write(&variables, "SHADE=dark\nnonsense\n").unwrap();
    let expected = format!("cannot run /bin/sh: env_files: {}: line 2: no KEY=VALUE", variables.display());
    stage
        .until("the check names the line", |stage| {
            stage.seen.get("app:1")?.ready.as_ref().filter(|ready| ready.message.starts_with(&expected)).map(|_| ())
        })
        .await;
    fs::write(&variables, "SHADE=dark\n").unwrap();
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
    assert_eq!(lines(&notes).last().unwrap(), "dark round 1 round");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_pre_start_is_a_failed_start_and_the_others_are_told() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let pre_start = shell("echo checking; echo no database >&2; exit 3", &notes);
    stage.start(&[&noting(&notes, Hooks { pre_start, ..Hooks::default() }).resolve(&host())]).await;
    let failure =
        stage.until("it cannot start", |stage| stage.seen.get("app:1")?.exits.first()?.start_failure.clone()).await;
    assert_eq!(
        (failure.step.as_str(), failure.message.as_str()),
        ("pre_start", "pre_start hook failed: exit 3: no database")
    );
    stage.until("it is tried again", |stage| stage.seen.get("app:1").filter(|s| s.restarts > 0).map(|_| ())).await;
    assert!(lines(&notes).is_empty(), "the program ran");

    let mut told = spec("told", "/bin/sleep", &["1000"]);
    let failing = |words: &str| shell(&format!("echo {words}; exit 4"), &notes);
    told.hooks = Hooks {
        post_start: failing("after"),
        pre_stop: failing("before"),
        post_stop: Some(Hook::new("/no/such/hook", Vec::new())),
        ..Hooks::default()
    };
    stage.start(&[&told.resolve(&host())]).await;
    stage.phase("told", v1::Phase::Running).await;
    let tells = |stage: &Stage, text: &str| stage.events.iter().any(|event| event.text == text).then_some(());
    stage.until("post_start is told", |stage| tells(stage, "post_start hook failed: exit 4: after")).await;
    assert_eq!(stage.seen["told:1"].incarnation, 1);
    stage.change("told", |_, item| item.wanted = Wanted::Stopped).await;
    let stopped = stage.phase("told", v1::Phase::Stopped).await;
    assert!(!stopped.exits[0].killed_after_grace);
    stage.until("pre_stop is told", |stage| tells(stage, "pre_stop hook failed: exit 4: before")).await;
    let missing = "post_stop hook failed: cannot run /no/such/hook: exec: no such file or directory";
    stage.until("post_stop is told", |stage| tells(stage, missing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_hang_hold_a_stop_no_longer_than_they_may() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let pids = notes.with_extension("pids");
    let hang = shell("echo $$ >> \"$0\"; exec sleep 1000", &pids);
    let mut app = noting(&notes, Hooks { pre_stop: hang.clone(), ..Hooks::default() });
    app.stop.grace = Millis(700);
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    let begin = Instant::now();
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    let stopped = stage.phase("app", v1::Phase::Stopped).await;
    assert!(stopped.exits[0].killed_after_grace && begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());

    // A stop in the middle of a start ends the hook that the start waits for.
    let mut starting = noting(&notes, Hooks { pre_start: hang, ..Hooks::default() });
    starting.name = minder_model::ProcessName::new("starting").unwrap();
    starting.stop.grace = Millis(300);
    stage.start(&[&starting.resolve(&host())]).await;
    eventually("its hook runs", || lines(&pids).len() == 2).await;
    stage.change("starting", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("starting", v1::Phase::Stopped).await;
    eventually("no hook is left", || lines(&pids).iter().all(|pid| !is_alive(pid.parse().unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_dies_with_its_slave_and_is_run_again_by_the_next() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let pids = notes.with_extension("pids");
    // Notes its pid, and waits for a file that bears its name.
    let script =
        "echo $$ >> \"$0\"; while [ ! -e \"$0.$MINDER_HOOK\" ]; do sleep 0.02; done; echo $MINDER_HOOK >> \"$0\"";
    let waiting = || shell(script, &pids);
    let mut app = noting(&notes, Hooks { pre_stop: waiting(), post_stop: waiting(), ..Hooks::default() });
    app.stop.grace = Millis(15_000);
    stage.start(&[&app.resolve(&host())]).await;
    let running = stage.phase("app", v1::Phase::Running).await;
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    for (hook, begun) in [("pre_stop", 1), ("post_stop", 4)] {
        eventually("the hook runs", || lines(&pids).len() == begun).await;
        let first: u32 = lines(&pids)[begun - 1].parse().unwrap();
        assert!(is_alive(first));
        stage.kill_slave();
        eventually("it dies with its slave", || !is_alive(first)).await;
        stage.start_slave();
        stage.open(2).await;
        eventually("it is run again", || lines(&pids).len() == begun + 1).await;
        assert_eq!(is_alive(running.pid), hook == "pre_stop");
        fs::write(format!("{}.{hook}", pids.display()), "").unwrap();
        eventually("it ends", || lines(&pids).get(begun + 1).is_some_and(|line| line == hook)).await;
    }
    let stopped = stage.phase("app", v1::Phase::Stopped).await;
    assert_eq!((lines(&notes), stopped.exits.len()), (vec!["program".to_string(), "term".into()], 1));
    assert!(!stopped.exits[0].killed_after_grace, "a hook after the end is no late end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_its_slave_did_not_survive_has_failed_and_is_made_again() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let pids = notes.with_extension("pids");
    let script = "echo $$ >> \"$0\"; while [ ! -e \"$0.go\" ]; do sleep 0.02; done";
    let app = noting(&notes, Hooks { pre_start: shell(script, &pids), ..Hooks::default() });
    stage.start(&[&app.resolve(&host())]).await;
    eventually("the hook runs", || lines(&pids).len() == 1).await;
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    eventually("the next one runs", || lines(&pids).len() == 2).await;
    assert!(!is_alive(lines(&pids)[0].parse().unwrap()), "two at a time");
    assert!(lines(&notes).is_empty(), "the program ran before its hook had ended");
    fs::write(format!("{}.go", pids.display()), "").unwrap();
    assert_eq!(stage.phase("app", v1::Phase::Running).await.incarnation, 2);
    eventually("the program runs once", || lines(&notes) == ["program"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_a_signal_or_a_command_and_its_failure_is_told() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = notes(&stage);
    let order = |revision| Some(SignalOrder { revision, signal: Signal::HUP, reload: true });
    let script = "trap 'echo usr1 >> \"$0\"' USR1; echo program >> \"$0\"; while :; do sleep 0.02; done";
    let mut app = spec("app", "/bin/sh", &["-c", script, notes.to_str().unwrap()]);
    app.reload = Some(Reload::Signal(Signal::parse("USR1").unwrap()));
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    eventually("it runs", || lines(&notes).len() == 1).await;
    stage.change("app", |revision, item| item.signal = order(revision)).await;
    eventually("it has its signal", || lines(&notes) == ["program", "usr1"]).await;

    // Another reload is another policy, adopted as it runs.
    let command = "echo $MINDER_HOOK $MINDER_INCARNATION ${name} >> \"$0\"; echo bad line >&2; exit 4";
    app.reload = Some(Reload::Exec(["/bin/sh", "-c", command, notes.to_str().unwrap()].map(String::from).to_vec()));
    let exec = app.resolve(&host());
    stage
        .want(&[&exec], |assignment| {
            let revision = assignment.revision;
            for item in assignment.items.values_mut() {
                (item.spec, item.signal) = (exec.digest(), order(revision));
            }
        })
        .await;
    eventually("its command has run", || lines(&notes) == ["program", "usr1", "reload 1 app"]).await;
    let text = "reload failed: exit 4: bad line";
    stage.until("it is told", |stage| stage.events.iter().any(|event| event.text == text).then_some(())).await;
    assert_eq!((stage.seen["app:1"].phase(), stage.seen["app:1"].incarnation), (v1::Phase::Running, 1));
}
