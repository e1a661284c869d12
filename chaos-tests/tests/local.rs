//! `minderctl local` on a machine whose managers are there, gone, and back; and who may use it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output},
};

use minder_chaos_tests::{Cluster, ClusterShape, Program, bin, eventually, remove_group};

const SPEC: &str = "name: app\ncommand: /bin/sh\nargs: [-c, 'echo hello; exec sleep 1000']\nhosts: [host-1]\n\
                    start: {healthy_after: 50ms}\nresources: {memory: 64M}\n";

fn minderctl(servers: &str, socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(bin("minderctl"));
    command.args(args).env("MINDER_SERVERS", servers).env("MINDER_SOCKET", socket);
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must end with this code; gives what it said.
fn run(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}", said(&output));
    said(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_stop_is_seen_by_the_managers_and_ended_by_them_or_here() {
    let mut cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let servers = cluster.addresses.join(",");
    let socket = cluster.path().join("slave-1/control.sock");
    let ctl = |args: &[&str]| minderctl(&servers, &socket, args);
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), SPEC).unwrap();
    run(ctl(&["apply", "-f", file.path().to_str().unwrap()]), 0);

    let here = run(ctl(&["local", "ps"]), 0);
    assert!(here.contains("RUNNING") && here.contains("host-1"), "{here}");
    run(ctl(&["local", "stop", "app"]), 0);
    let here = run(ctl(&["local", "ps", "app"]), 3);
    assert!(here.contains("STOPPED") && here.contains("stopped locally by"), "{here}");
    let there = eventually("the managers see it", || async {
        let output = said(&ctl(&["ps", "app"]).output().unwrap());
        output.contains("stopped locally by").then_some(output)
    })
    .await;
    // The same columns; how much of the machine it uses is as old as the last sample.
    assert_eq!(there.lines().next(), here.lines().next());
    let status = run(ctl(&["status", "app"]), 3);
    assert!(status.contains("stopped locally by"), "{status}");
    // What the host cannot hold is told here as there; and who ended it.
    let local = run(ctl(&["local", "status", "app"]), 3);
    let warnings = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("Warning:")).map(ToString::to_string).collect()
    };
    assert_eq!(warnings(&local), warnings(&status));
    assert!(local.contains("stopped locally") && local.contains(", stopped locally, in "), "{local}");
    let explained = run(ctl(&["explain", "app"]), 0);
    assert!(explained.contains("minderctl local start app"), "{explained}");
    let waited = run(ctl(&["wait", "app"]), 1);
    assert!(waited.contains("in the way") && waited.contains("stopped locally by"), "{waited}");
    run(ctl(&["wait", "app", "--for", "stopped"]), 0);

    run(ctl(&["start", "app"]), 0);
    assert!(run(ctl(&["ps", "app"]), 0).contains("RUNNING"));
    assert!(run(ctl(&["events", "app"]), 0).contains("no longer stopped locally by"));

    cluster.managers[0].kill();
    run(ctl(&["local", "stop", "app"]), 0);
    run(ctl(&["local", "start", "app"]), 0);
    assert!(run(ctl(&["local", "restart", "app"]), 0).contains("restart app@host-1"));
    assert!(run(ctl(&["local", "status", "app"]), 0).contains("Last exits"));
    assert_eq!(run(ctl(&["local", "logs", "app", "-n", "1"]), 0), "hello\n");
    assert!(run(ctl(&["local", "stop", "nothing"]), 4).contains("nothing on this host matches nothing"));
    assert!(run(ctl(&["local", "stop"]), 2).contains("nothing is selected"));

    cluster.slaves[0].kill();
    assert!(run(ctl(&["local", "ps"]), 5).contains("is minder-slave running?"));
    assert!(run(minderctl(&servers, Path::new("/nonexistent/s"), &["local", "ps"]), 5).contains("--socket"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_kept_out_and_members_of_the_group_come_in() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: only root can call as another user");
        return;
    }
    let group = nix::unistd::Group::from_name("games").unwrap().expect("a group of every Debian");
    // Others may look into this folder; the program is copied to where they may run it.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("minderctl");
    std::fs::copy(bin("minderctl"), &program).unwrap();
    let data = folder.path().join("slave");
    // Nothing listens on port 1.
    let args = ["--name", "h", "--managers", "127.0.0.1:1", "--local-group", "games", "--data"].map(String::from);
    let args = args.into_iter().chain([data.display().to_string()]).collect();
    let mut slave = Program::new("slave.log", "minder-slave", args, folder.path());
    slave.start();
    let socket = data.join("control.sock");
    let (nobody, theirs) = (65_534, 65_534);
    for (gid, mode, code, words) in [
        (theirs, 0o660, 7, "may not reach the slave"),
        // Were the mode wrong, the slave still looks at who it is.
        (theirs, 0o666, 7, "may give no orders on this machine"),
        (group.gid.as_raw(), 0o660, 0, "NAME"),
    ] {
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = Command::new(&program);
        command.args(["local", "ps", "--socket"]).arg(&socket).uid(nobody).gid(gid);
        let said = run(command, code);
        assert!(said.contains(words), "{said}");
    }
    slave.kill();
    remove_group(&data);
}
