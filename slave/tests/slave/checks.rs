//! Health and readiness of real processes, asked in each of the four ways.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use minder_model::{Health, Millis, OnUnhealthy, Probe, Ready, Spec};
use minder_proto::v1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic_health::ServingStatus;

use crate::stage::{Stage, eventually, host, is_alive, spec};

/// A check that asks often and gives up soon.
fn health(probe: Probe) -> Health {
    Health { interval: Millis(100), start_grace: Millis(0), ..Health::new(probe) }
}

fn ready(probe: Probe) -> Ready {
    Ready { interval: Millis(100), threshold: 1, ..Ready::new(probe) }
}

fn sleeper(name: &str, change: impl FnOnce(&mut Spec)) -> minder_model::RunSpec {
    let mut spec = spec(name, "/bin/sleep", &["1000"]);
    change(&mut spec);
    spec.resolve(&host())
}

fn shell(script: &str, arg: &Path) -> Probe {
    Probe::Exec(["/bin/sh", "-c", script, arg.to_str().unwrap()].map(String::from).to_vec())
}

/// A web server that answers with this status; gives its address.
async fn web_server(status: Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 1_024];
            let read = connection.read(&mut request).await.unwrap_or_default();
            let asked = String::from_utf8_lossy(&request[..read]).into_owned();
            let well = asked.starts_with("GET /health?deep=1 HTTP/1.1\r\n") && asked.contains("host: 127.0.0.1:");
            let status = if well { status.load(Ordering::SeqCst) } else { 404 };
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nhello");
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_process_is_restarted_and_says_why() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let status = Arc::new(AtomicU16::new(204));
    let url = format!("http://{}/health?deep=${{instance}}", web_server(status.clone()).await);
    stage.start(&[&sleeper("app", |spec| spec.health = Some(health(Probe::Http(url))))]).await;
    let first = stage
        .until("it is well", |stage| {
            let seen = stage.seen.get("app:1")?;
            (seen.health.as_ref()?.state() == v1::ProbeState::Passing && seen.pid > 0).then(|| seen.clone())
        })
        .await;
    assert_eq!((first.incarnation, first.restarts), (1, 0));
    status.store(503, Ordering::SeqCst);
    let second = stage
        .until("it is restarted", |stage| stage.seen.get("app:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned())
        .await;
    status.store(204, Ordering::SeqCst);
    assert_eq!(second.exits[0].unhealthy, "health check failed: HTTP 503 Service Unavailable (3 in a row)");
    assert!(!second.exits[0].requested && !is_alive(first.pid));
    assert_eq!((second.restarts, second.restarts_in_window), (1, 1), "it counts against the limit");
    stage
        .until("the end is told", |stage| {
            stage
                .events
                .iter()
                .any(|event| event.text.contains("HTTP 503") && event.text.contains("next start"))
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marked_as_unhealthy_it_runs_on() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    // A port that nobody listens on any more.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let marked = Health { on_failure: OnUnhealthy::Mark, ..health(Probe::Tcp(address.to_string())) };
    stage.start(&[&sleeper("app", |spec| spec.health = Some(marked))]).await;
    let unhealthy = stage
        .until("it is unhealthy", |stage| {
            let seen = stage.seen.get("app:1")?;
            (seen.health.as_ref()?.state() == v1::ProbeState::Failing && seen.phase() == v1::Phase::Running)
                .then(|| seen.clone())
        })
        .await;
    let cause = unhealthy.cause.unwrap().kind;
    let expected = "health check failed: connection refused (3 in a row)";
    assert_eq!(cause, Some(v1::cause::Kind::Unhealthy(expected.into())));
    let _listener = TcpListener::bind(address).await.unwrap();
    let well = stage
        .until("it is well again", |stage| {
            let seen = stage.seen.get("app:1")?;
            (seen.health.as_ref()?.state() == v1::ProbeState::Passing).then(|| seen.clone())
        })
        .await;
    assert_eq!((well.pid, well.incarnation), (unhealthy.pid, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_comes_and_goes_with_an_exec_check_over_a_restart_of_the_slave() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let flag = stage.folder.path().join("flag");
    let script = "pwd; echo $COLOUR $MINDER_INSTANCE; test -e \"$0\"";
    let app = sleeper("app", |spec| {
        spec.env.insert("COLOUR".into(), "blue".into());
        spec.working_directory = Some("/usr".into());
        spec.ready = Some(ready(shell(script, &flag)));
    });
    stage.start(&[&app]).await;
    let expected = v1::cause::Kind::NotReady("exit 1: blue 1".into());
    let before = stage
        .until("it says why it is not ready", |stage| {
            let seen = stage.seen.get("app:1")?;
            (seen.cause.as_ref()?.kind.as_ref() == Some(&expected)).then(|| seen.clone())
        })
        .await;
    assert_eq!(before.phase(), v1::Phase::Running);
    fs::write(&flag, "").unwrap();
    stage.phase("app", v1::Phase::Ready).await;
    fs::remove_file(&flag).unwrap();
    stage.phase("app", v1::Phase::Running).await;
    fs::write(&flag, "").unwrap();
    stage.phase("app", v1::Phase::Ready).await;
    stage.kill_slave();
    stage.start_slave();
    stage.open(1).await;
    let after = stage.phase("app", v1::Phase::Ready).await;
    assert_eq!((after.pid, after.incarnation, after.restarts), (before.pid, 1, 0), "nothing is restarted for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_check_runs_as_the_process_does_and_says_what_failed() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can run processes as somebody else");
        return;
    }
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let as_nobody = |probe: Probe| {
        move |spec: &mut Spec| {
            spec.user = Some("nobody".into());
            spec.ready = Some(ready(probe));
        }
    };
    let nobody = shell("test $(id -un) = nobody -a \"$USER\" = nobody", Path::new(""));
    let missing = Probe::Exec(vec!["/no/such/check".into()]);
    stage.start(&[&sleeper("app", as_nobody(nobody)), &sleeper("missing", as_nobody(missing))]).await;
    stage.phase("app", v1::Phase::Ready).await;
    let expected = "cannot run /no/such/check: exec: no such file or directory";
    let says = |stage: &Stage| Some(stage.seen.get("missing:1")?.ready.as_ref()?.message == expected);
    stage.until("the failing step is named", |stage| says(stage).filter(|says| *says)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_check_that_hangs_is_ended_with_all_it_began() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let pids = stage.folder.path().join("pids");
    // What it begins ignores TERM and has left its session.
    let script = "echo waiting; setsid sh -c 'trap \"\" TERM; echo $$ >> \"$0\"; sleep 1000' \"$0\" & \
                  echo $$ >> \"$0\"; sleep 1000";
    let checked = Ready { timeout: Millis(400), interval: Millis(60_000), ..ready(shell(script, &pids)) };
    stage.start(&[&sleeper("app", |spec| spec.ready = Some(checked))]).await;
    let message = stage
        .until("the check fails", |stage| {
            Some(stage.seen.get("app:1")?.ready.as_ref()?.message.clone()).filter(|message| !message.is_empty())
        })
        .await;
    assert_eq!(message, "no answer within 400ms: waiting");
    let begun = |from: usize| -> Vec<u32> {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        text.lines().skip(from).filter_map(|line| line.parse().ok()).collect()
    };
    let first = begun(0);
    assert!(first.len() >= 2 && first.iter().take(2).all(|pid| !is_alive(*pid)), "{first:?}");

    // One that is under way ends with its slave.
    let patient = Ready { timeout: Millis(60_000), ..ready(shell(script, &pids)) };
    let already = first.len() + 2;
    stage.start(&[&sleeper("other", |spec| spec.ready = Some(patient))]).await;
    eventually("a check is under way", || begun(0).len() >= already && begun(0).iter().any(|pid| is_alive(*pid))).await;
    stage.kill_slave();
    eventually("it has ended with its slave", || begun(0).iter().all(|pid| !is_alive(*pid))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_server_says_for_each_service_whether_it_serves() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("app.Api", ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let asking = |what: &str| {
        let probe = Probe::Grpc(format!("{address}{what}"));
        move |spec: &mut Spec| spec.ready = Some(ready(probe))
    };
    stage
        .start(&[
            &sleeper("whole", asking("")),
            &sleeper("api", asking("/app.Api")),
            &sleeper("unknown", asking("/app.Other")),
        ])
        .await;
    stage.phase("whole", v1::Phase::Ready).await;
    let message = |stage: &Stage, name: &str| Some(stage.seen.get(name)?.ready.as_ref()?.message.clone());
    stage.until("it does not serve", |stage| message(stage, "api:1").filter(|m| m == "NOT_SERVING")).await;
    stage.until("nobody knows it", |stage| message(stage, "unknown:1").filter(|m| m.contains("service"))).await;
    reporter.set_service_status("app.Api", ServingStatus::Serving).await;
    stage.phase("api", v1::Phase::Ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_checks_that_hang_hold_up_nobody() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    // Takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let hanging: Vec<minder_model::RunSpec> = (0..100)
        .map(|number| {
            let slow = |probe| Ready { timeout: Millis(60_000), ..ready(probe) };
            sleeper(&format!("hanging-{number}"), |spec| {
                let command = Probe::Exec(vec!["/bin/sleep".into(), "1000".into()]);
                spec.ready = Some(slow(if number % 2 == 0 { Probe::Http(url.clone()) } else { command }));
            })
        })
        .collect();
    stage.start(&hanging.iter().collect::<Vec<_>>()).await;
    stage
        .until("all run", |stage| {
            (stage.seen.values().filter(|s| s.phase() == v1::Phase::Running).count() == 100).then_some(())
        })
        .await;
    let begin = Instant::now();
    let ready = ready(Probe::Tcp(silent.local_addr().unwrap().to_string()));
    stage.start(&[&sleeper("app", |spec| spec.ready = Some(ready))]).await;
    stage.phase("app", v1::Phase::Ready).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    stage.change("app", |_, item| item.wanted = minder_model::Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
}
