//! How stops go: word by word, all at once, and until nothing is left, with cgroups and without.

use std::{
    fs,
    time::{Duration, Instant},
};

use minder_model::{InstanceKey, Millis, Signal, Spec, StopScope, StopStep, Wanted};
use minder_proto::v1;
use nix::sys::signal::Signal as Kill;

use crate::stage::{Stage, eventually, host, is_alive, item, kill, marked, spec};

/// Ways to hold processes; the first one is as good as the machine has.
const SUPERVISION: [&str; 2] = ["supervision = 'auto'\n", "supervision = 'session'\n"];

fn signal(name: &str) -> Signal {
    Signal::parse(name).unwrap()
}

/// What measures a stop of many and what takes all the processors there are do not go together.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A shell that is deaf to TERM.
fn deaf(name: &str) -> Spec {
    spec(name, "/bin/sh", &["-c", "trap '' TERM; while :; do sleep 0.2; done"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_a_stop_come_in_their_order_and_its_time_is_told() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = stage.folder.path().join("notes");
    let script = "for s in QUIT TERM INT; do trap \"echo $s >> '$0'\" $s; done; echo ready >> \"$0\"; \
                  while :; do sleep 0.02; done";
    let mut app = spec("app", "/bin/sh", &["-c", script, notes.to_str().unwrap()]);
    app.stop.signal = signal("QUIT");
    app.stop.grace = Millis(1_200);
    let step = |name: &str, ms: u64| StopStep { signal: signal(name), after: Millis(ms) };
    app.stop.escalation = vec![step("TERM", 300), step("INT", 700)];
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    let text = || fs::read_to_string(&notes).unwrap_or_default();
    eventually("it is ready", || text() == "ready\n").await;

    let begin = Instant::now();
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    eventually("the second word", || text() == "ready\nQUIT\nTERM\n").await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    // The stop goes on where it was, through the death of its slave.
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    let stopped = stage.phase("app", v1::Phase::Stopped).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1_200) && took < Duration::from_millis(2_200), "{took:?}");
    let (words, exit) = (text(), &stopped.exits[0]);
    assert!(words.starts_with("ready\nQUIT\nTERM\n") && words.ends_with("INT\n"), "{words}");
    assert!(exit.requested && exit.killed_after_grace, "{exit:?}");
    assert!((1_200..2_200).contains(&exit.stop_ms()), "{exit:?}");
    assert_eq!(stopped.cause.unwrap().kind, Some(v1::cause::Kind::KilledAfterGrace(true)));
    let said = |event: &v1::SlaveEvent| event.text.starts_with("did not stop in time, killed, gone after 1.");
    stage.until("it is told", |stage| stage.events.iter().any(said).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_that_are_deaf_take_one_grace_together() {
    let _alone = ALONE.lock().await;
    for supervision in SUPERVISION {
        let mut stage = Stage::set_with(supervision).await;
        stage.open(1).await;
        let mut deaf = deaf("deaf");
        deaf.env.insert("MARK".into(), format!("{}", stage.folder.path().display()));
        deaf.stop.grace = Millis(2_000);
        let deaf = deaf.resolve(&host());
        stage
            .want(&[&deaf], |assignment| {
                for index in 1..=100 {
                    let key = InstanceKey::new(deaf.spec().name.clone(), index);
                    assignment.items.insert(key, item(deaf.digest(), Wanted::Running));
                }
            })
            .await;
        let all = |stage: &Stage, phase| stage.seen.values().filter(|status| status.phase() == phase).count() == 100;
        stage.until("all run", |stage| all(stage, v1::Phase::Running).then_some(())).await;
        stage
            .want(&[], |assignment| assignment.items.values_mut().for_each(|item| item.wanted = Wanted::Stopped))
            .await;
        let begin = Instant::now();
        stage.until("all are stopped", |stage| all(stage, v1::Phase::Stopped).then_some(())).await;
        println!("{}: 100 deaf ones stopped {:.0?} after the order", supervision.trim(), begin.elapsed());
        for status in stage.seen.values() {
            let exit = &status.exits[0];
            assert!(exit.killed_after_grace && (2_000..=3_000).contains(&exit.stop_ms()), "{exit:?}");
        }
        assert_eq!(marked(&format!("MARK={}", stage.folder.path().display())), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_program_hears_its_word_and_a_hanging_one_holds_up_nobody() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let sleeper = spec("sleeper", "/bin/sleep", &["1000"]);
    let mut hanging = deaf("hanging");
    hanging.stop.grace = Millis(60_000);
    let other = spec("other", "/bin/sleep", &["1000"]);
    let specs = [sleeper.resolve(&host()), hanging.resolve(&host()), other.resolve(&host())];
    stage.start(&specs.iter().collect::<Vec<_>>()).await;
    let mut pids = Vec::new();
    for name in ["sleeper", "hanging", "other"] {
        pids.push(stage.phase(name, v1::Phase::Running).await.pid);
    }
    kill(pids[0], Kill::SIGSTOP);
    kill(pids[1], Kill::SIGSTOP);
    stage.want(&[], |assignment| assignment.items.values_mut().for_each(|item| item.wanted = Wanted::Stopped)).await;
    for name in ["sleeper", "other"] {
        let exit = stage.phase(name, v1::Phase::Stopped).await.exits[0].clone();
        assert!(exit.requested && !exit.killed_after_grace, "{name}: {exit:?}");
    }
    assert_eq!(stage.seen["hanging:1"].phase(), v1::Phase::Stopping, "held up by the one that hangs");
    kill(pids[1], Kill::SIGKILL);
    let exit = stage.phase("hanging", v1::Phase::Stopped).await.exits[0].clone();
    assert!(exit.requested && !exit.killed_after_grace, "{exit:?}");
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

/// A process in a frozen v1 freezer group takes no signal, not even KILL: like one that hangs in the kernel.
struct Frozen(std::path::PathBuf);

impl Frozen {
    /// `None` where the machine has no such groups or this user may not make one.
    fn freeze(pid: u32) -> Option<Self> {
        let group = format!("/sys/fs/cgroup/freezer/minder-test-{}", std::process::id());
        let frozen = Self(group.into());
        fs::create_dir(&frozen.0).ok()?;
        fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).ok()?;
        fs::write(frozen.0.join("freezer.state"), "FROZEN").ok()?;
        let state = || fs::read_to_string(frozen.0.join("freezer.state")).unwrap_or_default();
        let begin = Instant::now();
        while state().trim() != "FROZEN" {
            if begin.elapsed() > Duration::from_secs(2) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(frozen)
    }

    fn thaw(&self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        let begin = Instant::now();
        while fs::remove_dir(&self.0).is_err() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_in_the_kernel_is_told_and_blocks_nobody() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let mut hanging = spec("hanging", "/bin/sleep", &["1000"]);
    hanging.stop.grace = Millis(200);
    let other = spec("other", "/bin/sleep", &["1000"]).resolve(&host());
    stage.start(&[&hanging.resolve(&host()), &other]).await;
    let pid = stage.phase("hanging", v1::Phase::Running).await.pid;
    let Some(frozen) = Frozen::freeze(pid) else {
        eprintln!("skipped: no v1 freezer group that this user may use, so nothing can hang");
        return;
    };
    stage.change("hanging", |_, item| item.wanted = Wanted::Stopped).await;
    let killed = |status: &v1::InstanceStatus| {
        matches!(status.cause.as_ref().unwrap().kind, Some(v1::cause::Kind::KilledAfterGrace(_)))
    };
    stage
        .until("it is told that it does not stop", |stage| {
            stage.seen.get("hanging:1").filter(|s| s.phase() == v1::Phase::Stopping && killed(s)).cloned()
        })
        .await;
    // Meanwhile another is stopped and started as ever, and the one that hangs is not started beside itself.
    let begin = Instant::now();
    stage.change("hanging", |_, item| item.wanted = Wanted::Running).await;
    stage.change("other", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("other", v1::Phase::Stopped).await;
    stage.change("other", |_, item| item.wanted = Wanted::Running).await;
    stage.phase("other", v1::Phase::Running).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(stage.phase("hanging", v1::Phase::Stopping).await.incarnation, 1);
    frozen.thaw();
    let again = stage.phase("hanging", v1::Phase::Running).await;
    assert!(again.incarnation == 2 && again.exits[0].killed_after_grace && !is_alive(pid), "{again:?}");
}

/// Leaves its session, forks twice, and goes on forking so that no pid of it lasts longer than a moment.
const STORM: &str = r#"use POSIX; $SIG{CHLD} = $SIG{TERM} = $SIG{HUP} = 'IGNORE'; $until = time + 60;
for (1..3) { last unless fork } setsid;
while (time < $until) { my $child = fork; if (defined $child && $child) { exit 0 } select(undef, undef, undef, 0.002) }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_storm_of_forks_nor_of_who_left_the_session() {
    let _alone = ALONE.lock().await;
    for supervision in SUPERVISION {
        let mut stage = Stage::set_with(supervision).await;
        stage.open(1).await;
        let mark = format!("{}", stage.folder.path().display());
        // The storm beside a main process that ends when it is asked to.
        let mut storm = spec("storm", "/bin/sh", &["-c", "perl -e \"$0\" & exec sleep 1000", STORM]);
        let leave =
            "setsid sh -c 'trap \"\" TERM HUP; (setsid sleep 1000 &); while :; do sleep 0.2; done' & exec sleep 1000";
        let mut leaving = spec("leaving", "/bin/sh", &["-c", leave]);
        let mut all = deaf("all");
        (all.stop.scope, all.stop.grace) = (StopScope::All, Millis(300));
        for spec in [&mut storm, &mut leaving, &mut all] {
            spec.env.insert("MARK".into(), mark.clone());
        }
        let specs = [storm.resolve(&host()), leaving.resolve(&host()), all.resolve(&host())];
        stage.start(&specs.iter().collect::<Vec<_>>()).await;
        for name in ["storm", "leaving", "all"] {
            stage.phase(name, v1::Phase::Running).await;
        }
        let mark = format!("MARK={mark}");
        stage.until("they are many", |_| (marked(&mark).len() >= 8).then_some(())).await;
        stage
            .want(&[], |assignment| assignment.items.values_mut().for_each(|item| item.wanted = Wanted::Stopped))
            .await;
        for name in ["storm", "leaving", "all"] {
            let exit = stage.phase(name, v1::Phase::Stopped).await.exits[0].clone();
            println!("{} {name}: {} ms", supervision.trim(), exit.stop_ms());
            assert!(exit.stop_ms() < 3_000, "{name}: {exit:?}");
        }
        // Looked at more than once: a storm has no moment in which all of it can be seen.
        for _ in 0..20 {
            assert_eq!(marked(&mark), [], "{supervision}");
        }
    }
}
