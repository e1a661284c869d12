//! Small files that a spec brings along.

use std::{fs, os::unix::fs::MetadataExt};

use minder_model::{File, Generation, RestartPolicy, Wanted};
use minder_proto::v1;

use crate::stage::{Stage, eventually, host, spec};

fn file(path: &str, content: &str) -> File {
    File { path: path.into(), content: content.into(), mode: None, owner: None, group: None, expand: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_there_before_the_program_and_a_changed_one_is_another_start() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = stage.folder.path().join("notes");
    let script = "cd \"$1\" && cat main.conf deep/host.conf >> \"$0\"; [ \"$1\" = \"$MINDER_FILES\" ] || echo other >> \"$0\"; \
                  exec sleep 1000";
    let mut app = spec("app", "/bin/sh", &["-c", script, notes.to_str().unwrap(), "${files}"]);
    app.files = vec![
        file("main.conf", "one ${host}\n"),
        File { expand: true, mode: Some("0600".into()), ..file("deep/host.conf", "${name} on ${host} in ${files}\n") },
    ];
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        app.files[1].owner = Some("nobody".into());
    }
    stage.start(&[&app.resolve(&host())]).await;
    stage.phase("app", v1::Phase::Running).await;
    let folder = stage.data().join("run/app:1/1/files");
    let expected = format!("one ${{host}}\napp on h in {}\n", folder.display());
    eventually("they were read", || fs::read_to_string(&notes).unwrap_or_default() == expected).await;
    let seen = fs::metadata(folder.join("deep/host.conf")).unwrap();
    assert_eq!((seen.mode() & 0o7777, !is_root || seen.uid() == 65_534), (0o600, true));

    app.files[0].content = "two\n".into();
    let changed = app.resolve(&host());
    stage
        .want(&[&changed], |assignment| {
            let item = assignment.items.values_mut().next().unwrap();
            (item.spec, item.generation) = (changed.digest(), Generation(2));
        })
        .await;
    stage
        .until("it runs the new ones", |stage| {
            stage.seen.get("app:1").filter(|s| s.incarnation == 2 && s.pid > 0).cloned()
        })
        .await;
    eventually("they were read", || fs::read_to_string(&notes).unwrap().contains("\ntwo\n")).await;
    eventually("the old ones go with their incarnation", || !folder.exists()).await;
    stage.change("app", |_, item| item.wanted = Wanted::Stopped).await;
    stage.phase("app", v1::Phase::Stopped).await;
    eventually("nothing is left", || !stage.data().join("run/app:1/2").exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_written_start_nothing() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let notes = stage.folder.path().join("notes");
    let mut app = spec("app", "/bin/touch", &[notes.to_str().unwrap()]);
    app.restart.policy = RestartPolicy::Never;
    app.files = vec![file("good", ""), File { owner: Some("no-such-user".into()), ..file("bad", "") }];
    stage.start(&[&app.resolve(&host())]).await;
    let failure =
        stage.until("it is told", |stage| stage.seen.get("app:1")?.exits.first()?.start_failure.clone()).await;
    assert_eq!((failure.step.as_str(), failure.errno), ("files", 2));
    assert_eq!(failure.message, "files: bad: no such user: no-such-user");
    assert!(!notes.exists(), "started without its files");
}
