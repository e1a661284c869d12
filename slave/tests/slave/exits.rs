//! The history of exits: how each incarnation ended, what it had used, the last it said; kept over the slave's death,
//! bounded, and told once.

use minder_model::{EXITS_KEPT_MAX, EXITS_WITH_OUTPUT_MAX, Millis, RestartPolicy, Wanted};
use minder_proto::v1::{self, exit_status::Kind};
use nix::sys::signal::Signal;

use crate::stage::{Stage, eventually, host, is_alive, kill, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_exit_says_how_what_it_used_and_the_last_it_said() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    // Two seconds of work in a child that nobody waits for: only the cgroup counts it.
    let script = "echo one; echo two; for i in 1 2 3 4 5; do echo err $i >&2; done; \
                  cat <(sh -c 'ulimit -t 2; while :; do :; done'); exit 3";
    let mut worker = spec("worker", "/bin/bash", &["-c", script]);
    worker.restart.policy = RestartPolicy::Never;
    let missing = spec("missing", "/no/such/program", &[]);
    let patient = spec("patient", "/bin/sh", &["-c", "echo up; exec sleep 1000"]);
    let mut stubborn = spec("stubborn", "/bin/sh", &["-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]);
    stubborn.stop.grace = Millis(100);
    let specs = [worker, missing, patient, stubborn].map(|spec| spec.resolve(&host()));
    stage.start(&specs.each_ref()).await;

    let exit = stage.phase("worker", v1::Phase::Exited).await.exits[0].clone();
    assert_eq!(exit.status.unwrap().kind, Some(Kind::Code(3)));
    assert_eq!((exit.last_stdout.as_str(), exit.last_stderr.as_str()), ("one\ntwo", "err 2\nerr 3\nerr 4\nerr 5"));
    // The kernel ended it after two seconds of processor time, however long that took. Its clocks agree to some tenths.
    assert!((1_500..60_000).contains(&(exit.ended_at_ms - exit.started_at_ms)), "{exit:?}");
    assert!((1_500..5_000).contains(&exit.cpu_ms), "{exit:?}");
    assert!(exit.memory_peak_bytes > 100_000, "{exit:?}");
    assert_eq!((exit.asked(), exit.requested, exit.oom_kills), (v1::Asked::Nobody, false, 0));
    stage
        .until("its end is an event with its last word", |stage| {
            stage
                .events
                .iter()
                .find(|event| event.text.contains("exit 3 after") && event.text.contains("err 5"))
                .cloned()
        })
        .await;

    let failure = stage.phase("missing", v1::Phase::Backoff).await.exits[0].start_failure.clone().unwrap();
    assert_eq!((failure.step.as_str(), failure.errno), ("exec", libc::ENOENT));

    for name in ["patient", "stubborn"] {
        stage.phase(name, v1::Phase::Running).await;
        stage.change(name, |_, item| item.wanted = Wanted::Stopped).await;
        let status = stage.phase(name, v1::Phase::Stopped).await;
        let exit = status.exits.last().unwrap();
        assert_eq!((exit.asked(), exit.killed_after_grace), (v1::Asked::Operator, name == "stubborn"), "{exit:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_no_slave_saw_is_told_whole_by_the_next_one() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let go = stage.folder.path().join("go");
    let script = "until [ -e \"$0\" ]; do sleep 0.01; done; echo last word >&2; exit 4";
    let mut app = spec("app", "/bin/sh", &["-c", script, go.to_str().unwrap()]);
    app.restart.policy = RestartPolicy::Never;
    stage.start(&[&app.resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    stage.kill_slave();
    std::fs::write(&go, "").unwrap();
    eventually("it ends", || !is_alive(pid)).await;
    for _ in 0..2 {
        stage.start_slave();
        stage.open(2).await;
        let status = stage.phase("app", v1::Phase::Exited).await;
        let exit = &status.exits[0];
        assert_eq!((status.exits.len(), exit.status.unwrap().kind), (1, Some(Kind::Code(4))));
        assert!(exit.last_stderr == "last word" && exit.cpu_ms > 0, "{exit:?}");
        stage.kill_slave();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_is_bounded_and_each_exit_is_told_once() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let mut app = spec("app", "/bin/sh", &["-c", "echo $0; exit 1", "${incarnation}"]);
    app.restart.delay = Millis(5);
    app.restart.delay_max = Millis(5);
    app.restart.limit = 30;
    app.restart.slow_retry = None;
    stage.start(&[&app.resolve(&host())]).await;
    let fatal = stage.phase("app", v1::Phase::Fatal).await;
    let told = |exits: &[v1::ExitRecord]| exits.iter().map(|exit| exit.incarnation).collect::<Vec<_>>();
    assert_eq!(told(&fatal.exits), (31 - EXITS_KEPT_MAX as u64 + 1..=31).collect::<Vec<_>>());
    let said: Vec<&str> = fatal.exits.iter().map(|exit| exit.last_stdout.as_str()).collect();
    assert_eq!(said[EXITS_KEPT_MAX - EXITS_WITH_OUTPUT_MAX..], ["29", "30", "31"]);
    assert!(said[..EXITS_KEPT_MAX - EXITS_WITH_OUTPUT_MAX].iter().all(|said| said.is_empty()));
    assert!(stage.exits_told.iter().all(|exits| exits.len() <= 10));
    let all: usize = stage.exits_told.iter().map(Vec::len).sum();
    assert_eq!(all, 31, "an exit is told once in a session: {:?}", stage.exits_told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_from_outside_is_no_out_of_memory() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let mut app = spec("app", "/bin/sleep", &["1000"]);
    app.restart.policy = RestartPolicy::Never;
    stage.start(&[&app.resolve(&host())]).await;
    kill(stage.phase("app", v1::Phase::Running).await.pid, Signal::SIGKILL);
    let exit = stage.phase("app", v1::Phase::Exited).await.exits[0].clone();
    assert!(matches!(exit.status.unwrap().kind, Some(Kind::Signal(signal)) if signal.signal == 9), "{exit:?}");
    assert_eq!(exit.asked(), v1::Asked::Nobody);
}
