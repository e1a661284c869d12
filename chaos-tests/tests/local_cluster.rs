//! The scripts a newcomer runs first: up, down, demo, and what they say when they are used wrongly.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use minder_chaos_tests::{bin, eventually, is_alive, pids_with, repository};
use nix::{sys::signal::Signal, unistd::Pid};

fn script(name: &str, args: &[&str]) -> Output {
    let folder = bin("minder-manager").parent().unwrap().to_owned();
    Command::new(repository().join("deploy/local").join(name))
        .args(args)
        .env("MINDER_BIN_DIR", folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn up(folder: &Path, more: &[&str]) -> Output {
    let mut args = vec!["--dir", folder.to_str().unwrap()];
    args.extend(more);
    script("up", &args)
}

fn down(folder: &Path) -> Output {
    script("down", &["--dir", folder.to_str().unwrap()])
}

fn shell(folder: &Path, line: &str) -> String {
    let line = format!(". {}/env && {line}", folder.display());
    said(&Command::new("bash").args(["-c", &line]).output().unwrap())
}

#[tokio::test]
async fn two_clusters_come_up_side_by_side_and_go_down_without_a_trace() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = up(one.path(), &["--managers", "3", "--slaves", "2"]);
    assert!(first.status.success(), "{}", said(&first));
    let second = up(other.path(), &["--managers", "1", "--slaves", "1"]);
    assert!(second.status.success(), "{}", said(&second));
    // Said again, it starts what was killed and leaves the others alone.
    let pid = |name: &str| -> String {
        let noted = std::fs::read_to_string(one.path().join("pids").join(name)).unwrap();
        noted.split(' ').next().unwrap().to_owned()
    };
    let (killed, kept) = (pid("slave-2"), [pid("slave-1"), pid("manager-1")]);
    assert!(Command::new("kill").args(["-9", &killed]).status().unwrap().success());
    eventually("it is dead", || async { (!is_alive(killed.parse().unwrap())).then_some(()) }).await;
    let again = up(one.path(), &["--managers", "3", "--slaves", "2"]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(pid("slave-2") != killed && kept == [pid("slave-1"), pid("manager-1")]);
    let larger = up(one.path(), &["--managers", "5"]);
    assert_eq!(larger.status.code(), Some(1), "{}", said(&larger));
    assert!(said(&larger).contains("cluster of another size"), "{}", said(&larger));

    let example = repository().join("deploy/examples/demo.yaml");
    let applied = shell(one.path(), &format!("minderctl apply -f {}", example.display()));
    assert!(applied.contains("hello created"), "{applied}");
    let shown = shell(one.path(), "minderctl ps");
    assert_eq!(shown.matches("RUNNING").count(), 4, "{shown}");
    assert!(shell(other.path(), "minderctl host list").contains("host-1"));

    for folder in [&one, &other] {
        let ended = down(folder.path());
        assert!(ended.status.success(), "{}", said(&ended));
        assert_eq!(pids_with(folder.path().to_str().unwrap()), [] as [u32; 0]);
    }
    // The same folder comes up again with what it knew.
    let again = up(one.path(), &["--managers", "3", "--slaves", "2"]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(shell(one.path(), "minderctl get -o name").contains("hello"));
    assert!(down(one.path()).status.success());
}

#[test]
fn wrong_flags_are_refused_with_the_usage() {
    for (args, word) in [
        (&["--managers", "3"][..], "--dir is missing"),
        (&["--dir", "/tmp/x", "--managers", "2"], "1, 3 or 5"),
        (&["--dir", "/tmp/x", "--slaves", "some"], "a number"),
        (&["--dir", "/tmp/x", "--frob"], "--frob"),
    ] {
        let output = script("up", args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(word) && said(&output).contains("usage:"), "{args:?}: {}", said(&output));
    }
    assert_eq!(script("down", &["--dir", "/nonexistent"]).status.code(), Some(1));
}

#[tokio::test]
async fn the_demo_shows_running_processes_and_ends_with_ctrl_c() {
    let folder = bin("minder-manager").parent().unwrap().to_owned();
    let mut demo = Command::new(repository().join("deploy/local/demo"));
    demo.env("MINDER_BIN_DIR", folder).stdout(Stdio::piped());
    // A terminal's programs get Ctrl-C; those of a test that was started in the background would ignore it.
    // SAFETY: signal(2) is allowed between fork and exec.
    unsafe {
        demo.pre_exec(|| {
            nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigDfl)?;
            Ok(())
        });
    }
    let mut demo = demo.spawn().unwrap();
    let mut output = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    for line in lines.by_ref().map_while(Result::ok) {
        output.push_str(&line);
        output.push('\n');
        if line.contains("Ctrl-C ends everything") {
            break;
        }
    }
    assert_eq!(output.matches("RUNNING").count(), 4, "{output}");
    let env = output.lines().find(|line| line.trim().starts_with(". ")).unwrap().trim();
    let data = env.trim_start_matches(". ").trim_end_matches("/env").to_owned();
    nix::sys::signal::kill(Pid::from_raw(demo.id() as i32), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(demo.wait().unwrap().code(), Some(130), "{rest:?}");
    eventually("nothing of it is left", || async { pids_with(&data).is_empty().then_some(()) }).await;
    assert!(!Path::new(&data).exists());
}
