//! What people on the machine itself ask and order, beside the managers and without them.

use minder_model::{Revision, Wanted};
use minder_proto::v1::{self, LocalOrderKind, cause::Kind, local_client::LocalClient};
use nix::sys::signal::Signal as Kill;
use tonic::{Code, Status, transport::Channel};

use crate::stage::{DEADLINE, Stage, eventually, host, is_alive, kill, spec};

async fn local(stage: &Stage) -> LocalClient<Channel> {
    let socket = stage.data().join("control.sock");
    LocalClient::new(minder_proto::dial::local(&socket).unwrap().connect().await.unwrap())
}

fn named(names: &[&str]) -> Option<v1::Selection> {
    Some(v1::Selection {
        terms: names.iter().map(ToString::to_string).collect(),
        all: names.is_empty(),
        ..Default::default()
    })
}

async fn order(stage: &Stage, kind: LocalOrderKind, names: &[&str]) -> Result<v1::LocalOrderReply, Status> {
    let request = v1::LocalOrderRequest { selection: named(names), kind: kind.into() };
    Ok(local(stage).await.order(request).await?.into_inner())
}

async fn list(stage: &Stage, names: &[&str]) -> Vec<v1::Instance> {
    let request = v1::LocalListRequest { selection: named(names) };
    local(stage).await.list(request).await.unwrap().into_inner().instances
}

/// Asks locally until an instance is in this phase.
async fn seen(stage: &Stage, name: &str, phase: v1::Phase) -> v1::Instance {
    let begin = std::time::Instant::now();
    loop {
        let listed = list(stage, &[name]).await;
        if let Some(found) = listed.iter().find(|instance| instance.status.as_ref().unwrap().phase() == phase) {
            return found.clone();
        }
        assert!(begin.elapsed() < DEADLINE, "{name} is not {phase:?}: {listed:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The user of a local stop that a status tells of.
fn stopped_by(status: &v1::InstanceStatus) -> Option<String> {
    match status.cause.as_ref()?.kind.as_ref()? {
        Kind::StoppedLocally(stop) => Some(stop.by.clone()),
        _ => None,
    }
}

fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_stop_outlives_the_slave_and_needs_no_manager() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let app = spec("app", "/bin/sleep", &["1000"]).resolve(&host());
    let other = spec("other", "/bin/sleep", &["1000"]).resolve(&host());
    stage.start(&[&app, &other]).await;
    let first = stage.phase("app", v1::Phase::Running).await.pid;
    let beside = stage.phase("other", v1::Phase::Running).await.pid;

    let reply = order(&stage, LocalOrderKind::Stop, &["app"]).await.unwrap();
    assert_eq!((reply.instances.len(), reply.refused.len()), (1, 0));
    // It is durable before it is answered: a slave that dies now still stops it.
    stage.kill_slave();
    stage.start_slave_alone();
    let stopped = seen(&stage, "app", v1::Phase::Stopped).await;
    assert!(!is_alive(first) && is_alive(beside));
    assert_eq!((stopped.owed.as_str(), stopped.wanted_running), ("local stop", true));
    assert_eq!(stopped_by(stopped.status.as_ref().unwrap()), Some(own_name()));
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    let told = stage.phase("app", v1::Phase::Stopped).await;
    assert_eq!((stopped_by(&told), told.incarnation), (Some(own_name()), 1), "the managers see it as well");
    // Another assignment that says nothing new of it changes nothing.
    stage.change("other", |revision, item| item.restart_at = revision).await;
    assert_eq!(seen(&stage, "app", v1::Phase::Stopped).await.owed, "local stop");

    stage.kill_slave();
    stage.start_slave_alone();
    order(&stage, LocalOrderKind::Start, &["app"]).await.unwrap();
    let second = seen(&stage, "app", v1::Phase::Running).await;
    assert_eq!((second.owed.as_str(), second.status.unwrap().incarnation), ("", 2));
    order(&stage, LocalOrderKind::Restart, &["app"]).await.unwrap();
    let third = seen(&stage, "app", v1::Phase::Running).await.status.unwrap();
    assert!(third.incarnation == 3 && third.exits.iter().all(|exit| exit.requested), "{third:?}");
    assert!(is_alive(third.pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_order_of_the_managers_ends_it_and_says_so() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    stage.start(&[&spec("app", "/bin/sleep", &["1000"]).resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    order(&stage, LocalOrderKind::Stop, &["app"]).await.unwrap();
    stage.phase("app", v1::Phase::Stopped).await;
    stage.change("app", |revision, item| item.retry_at = revision).await;
    assert!(stopped_by(&stage.phase("app", v1::Phase::Stopped).await).is_some(), "a retry is no start");

    stage.change("app", |revision, item| item.start_at = revision).await;
    let running = stage.phase("app", v1::Phase::Running).await;
    assert_eq!((running.incarnation, stopped_by(&running)), (2, None));
    let told = |stage: &Stage, words: &str| stage.events.iter().any(|event| event.text.contains(words)).then_some(());
    let by = own_name();
    stage.until("the stop is told", |stage| told(stage, &format!("stopped locally by {by}"))).await;
    stage.until("its end is told", |stage| told(stage, &format!("no longer stopped locally by {by}"))).await;
    // Over is over, also for a slave that starts again.
    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    assert_eq!(stage.phase("app", v1::Phase::Running).await.pid, running.pid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_and_what_is_not_there_is_named() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let app = spec("app", "/bin/sleep", &["1000"]).resolve(&host());
    let other = spec("other", "/bin/sleep", &["1000"]).resolve(&host());
    stage.start(&[&app, &other]).await;
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
    let before = stage.phase("other", v1::Phase::Running).await;

    let reply = order(&stage, LocalOrderKind::Restart, &["app", "other"]).await.unwrap();
    let names = |name: &v1::InstanceName| (name.host.clone(), name.process.clone());
    assert_eq!(reply.instances.iter().map(names).collect::<Vec<_>>(), [("h".into(), "other".into())]);
    assert!(reply.refused[0].why.contains("the managers want it stopped"), "{reply:?}");
    let again = stage
        .until("the other runs again", |stage| {
            stage.seen.get("other:1").filter(|status| status.incarnation == 2 && status.pid > 0).cloned()
        })
        .await;
    assert!(!is_alive(before.pid) && is_alive(again.pid));
    assert_eq!(stage.phase("app", v1::Phase::Stopped).await.incarnation, 1);

    for names in [&["nothing"][..], &["other", "nothing"]] {
        let refused = order(&stage, LocalOrderKind::Stop, names).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains("nothing was changed"), "{refused}");
    }
    assert_eq!(seen(&stage, "other", v1::Phase::Running).await.owed, "", "and nothing was");
    let labelled = v1::Selection { labels: vec!["a=b".into()], ..Default::default() };
    let refused = local(&stage).await.list(v1::LocalListRequest { selection: Some(labelled) }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_process_that_gave_up_is_tried_again_locally() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let go = stage.folder.path().join("go");
    let script = "[ -e \"$0\" ] || exit 3; exec sleep 1000";
    let mut app = spec("app", "/bin/sh", &["-c", script, go.to_str().unwrap()]);
    app.restart.limit = 1;
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Fatal).await;
    std::fs::write(&go, "").unwrap();
    order(&stage, LocalOrderKind::Start, &["app"]).await.unwrap();
    let running = stage.phase("app", v1::Phase::Running).await;
    assert_eq!(running.restarts, 0);
    assert_eq!(stage.held.items.values().next().unwrap().start_at, Revision::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_read_locally_over_a_restart() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let script = "echo \"$0 begins\"; echo \"$0 complains\" >&2; exec sleep 1000";
    stage.start(&[&spec("app", "/bin/sh", &["-c", script, "${incarnation}"]).resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    let log = stage.data().join("logs/app:1/stdout.log");
    eventually("it has spoken", || std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n'))).await;
    let request = v1::LogsRequest { selection: named(&["app"]), tail_lines: 10, follow: true, stream: "stdout".into() };
    let mut pieces = local(&stage).await.logs(request.clone()).await.unwrap().into_inner();
    let mut text = String::new();
    let mut killed = false;
    while text != "1 begins\n2 begins\n" {
        let piece = tokio::time::timeout(DEADLINE, pieces.message()).await.expect("in time").unwrap().unwrap();
        assert_eq!((piece.error.as_str(), piece.instance.unwrap().process.as_str()), ("", "app"));
        text += std::str::from_utf8(&piece.data).unwrap();
        if text == "1 begins\n" && !std::mem::replace(&mut killed, true) {
            kill(pid, Kill::SIGKILL);
        }
    }
    let unknown = v1::LogsRequest { selection: named(&["nothing"]), ..request };
    assert_eq!(local(&stage).await.logs(unknown).await.unwrap_err().code(), Code::NotFound);
}
