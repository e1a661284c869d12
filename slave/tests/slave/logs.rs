//! Output that a manager asks for.

use std::fs;

use minder_proto::v1::{self, to_slave::Message as ToSlave};
use nix::sys::signal::Signal as Kill;

use crate::stage::{DEADLINE, Stage, host, kill, spec};

/// Gathers pushed output until `enough`, or until its stream ends; gives it by stream.
async fn gather(stage: &mut Stage, enough: impl Fn(&str, &str) -> bool) -> (String, String, bool) {
    let (mut out, mut err) = (String::new(), String::new());
    while !enough(&out, &err) {
        let push =
            tokio::time::timeout(DEADLINE, stage.pushed.recv()).await.unwrap_or_else(|_| panic!("{out:?} {err:?}"));
        let push = push.unwrap();
        if push.id.is_empty() {
            return (out, err, true);
        }
        assert_eq!(push.error, "");
        let text = String::from_utf8(push.data.to_vec()).unwrap();
        match push.stream.as_str() {
            "stderr" => err += &text,
            _ => out += &text,
        }
    }
    (out, err, false)
}

fn order(id: &str, tail_lines: u32, follow: bool, stream: &str) -> ToSlave {
    let (process, stream) = ("app".into(), stream.into());
    ToSlave::Logs(v1::LogOrder { id: id.into(), process, index: 1, tail_lines, follow, stream })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_and_what_follows_over_a_restart() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let more = stage.folder.path().join("more");
    let script = "for n in 1 2 3 4 5; do echo \"$1 line $n\"; done; echo \"$1 complains\" >&2; \
                  while [ ! -e \"$0.$1\" ]; do sleep 0.02; done; echo \"$1 more\"; sleep 1000";
    let app = spec("app", "/bin/sh", &["-c", script, more.to_str().unwrap(), "${incarnation}"]);
    stage.start(&[&app.resolve(&host())]).await;
    let pid = stage.phase("app", v1::Phase::Running).await.pid;
    let log = stage.data().join("logs/app:1/stderr.log");
    crate::stage::eventually("it has spoken", || {
        fs::read_to_string(&log).is_ok_and(|text| text.ends_with("complains\n"))
    })
    .await;

    stage.say(order("once", 2, false, "")).await;
    let (out, err, ended) = gather(&mut stage, |_, _| false).await;
    assert_eq!((out.as_str(), err.as_str(), ended), ("1 line 4\n1 line 5\n", "1 complains\n", true));

    stage.say(order("on", 1, true, "stdout")).await;
    gather(&mut stage, |out, _| out == "1 line 5\n").await;
    fs::write(more.with_extension("1"), "").unwrap();
    gather(&mut stage, |out, _| out == "1 more\n").await;
    kill(pid, Kill::SIGKILL);
    let (_, err, _) = gather(&mut stage, |out, _| out == "2 line 1\n2 line 2\n2 line 3\n2 line 4\n2 line 5\n").await;
    assert_eq!(err, "", "only the stream that was asked for");
    stage.say(ToSlave::LogsStop(v1::LogStop { id: "on".into() })).await;
    let (out, _, ended) = gather(&mut stage, |_, _| false).await;
    assert!(ended && out.is_empty());
}
