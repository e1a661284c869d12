//! The order of real processes on one host.

use std::{fs, path::Path};

use minder_model::{InstanceKey, Millis, Probe, ProcessName, Ready, Spec, Wanted};
use minder_proto::v1;

use crate::stage::{Stage, host, spec};

/// A program that notes its start and its end, which takes a while.
fn noting(name: &str, notes: &Path) -> Spec {
    let script = "trap 'echo \"$1 asked\" >> \"$0\"; sleep 0.3; echo \"$1 gone\" >> \"$0\"; exit 0' TERM; \
                  echo \"$1 begins\" >> \"$0\"; while :; do sleep 0.02; done";
    spec(name, "/bin/sh", &["-c", script, notes.to_str().unwrap(), name])
}

fn lines(notes: &Path) -> Vec<String> {
    fs::read_to_string(notes).unwrap_or_default().lines().map(String::from).collect()
}

fn waiting(status: &v1::InstanceStatus) -> Option<String> {
    match status.cause.as_ref()?.kind.as_ref()? {
        v1::cause::Kind::Waiting(sentence) => Some(sentence.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_start_and_stop_in_their_order() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = stage.folder.path().join("notes");
    let serves = stage.folder.path().join("serves");
    let mut db = noting("db", &notes);
    let probe = Probe::Exec(["/usr/bin/test", "-e", serves.to_str().unwrap()].map(String::from).to_vec());
    db.ready = Some(Ready { interval: Millis(100), threshold: 1, ..Ready::new(probe) });
    let mut app = noting("app", &notes);
    app.requires = vec![ProcessName::new("db").unwrap()];
    let app = app.resolve(&host());
    let says = |stage: &Stage, sentence: &str| {
        stage.seen.get("app:1").filter(|status| waiting(status).as_deref() == Some(sentence)).cloned()
    };

    stage.start(&[&app]).await;
    let missing = "waits for db, which is not assigned to this host";
    let seen = stage.until("it names what is missing", |stage| says(stage, missing)).await;
    assert_eq!((seen.phase(), seen.incarnation), (v1::Phase::Pending, 0));
    stage.start(&[&db.resolve(&host())]).await;
    stage.phase("db", v1::Phase::Running).await;
    stage.until("it waits", |stage| says(stage, "waits for db, which is not ready yet")).await;
    assert_eq!(lines(&notes), ["db begins"]);
    let told = format!("pending: {missing}");
    stage.until("it is an event", |stage| stage.events.iter().any(|event| event.text == told).then_some(())).await;
    fs::write(&serves, "").unwrap();
    stage.phase("app", v1::Phase::Running).await;

    stage.kill_slave();
    stage.start_slave();
    stage.open(2).await;
    stage
        .want(&[], |assignment| {
            for name in ["app", "db"] {
                assignment.items.get_mut(&InstanceKey::parse(name).unwrap()).unwrap().wanted = Wanted::Stopped;
            }
        })
        .await;
    stage.phase("db", v1::Phase::Stopped).await;
    assert_eq!(lines(&notes)[1..], ["app begins", "app asked", "app gone", "db asked", "db gone"]);
    assert_eq!(stage.seen["app:1"].phase(), v1::Phase::Stopped);

    stage.change("app", |_, item| item.wanted = Wanted::Running).await;
    stage.until("stopped is not there", |stage| says(stage, "waits for db, which is not wanted running")).await;
    stage
        .want(&[], |assignment| {
            assignment.items.clear();
        })
        .await;
    stage.until("all are gone", |stage| stage.seen.is_empty().then_some(())).await;
    assert_eq!(lines(&notes).len(), 6);
}
