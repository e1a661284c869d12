//! What people see: each command with its output, its errors and its exit code, against a manager that is a table.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../client/tests/fake/mod.rs"]
mod fake;

use std::{process::Stdio, time::Duration};

use fake::Fake;
use minder_client::v1;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};
use tonic::Status;

/// Longest a command may take in these tests.
const LIMIT: Duration = Duration::from_secs(30);

struct Desk {
    fake: Fake,
    dir: tempfile::TempDir,
    paper: String,
}

impl Desk {
    async fn new() -> Self {
        Self { fake: Fake::start().await, dir: tempfile::tempdir().unwrap(), paper: String::new() }
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Types a line and writes down what comes of it.
    async fn run(&mut self, line: &str) {
        self.run_with(line, "", &self.fake.address.clone()).await;
    }

    async fn run_with(&mut self, line: &str, input: &str, servers: &str) {
        let words = shell(line);
        let program = if words[0] == "minder_client" {
            env!("CARGO_BIN_EXE_minder_client")
        } else {
            env!("CARGO_BIN_EXE_minderctl")
        };
        let mut child = Command::new(program)
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env("MINDER_SERVERS", servers)
            .env("HOME", self.dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("COLUMNS", "100")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
        let mut text = format!("$ {line}\n");
        text.push_str(&String::from_utf8(output.stdout).unwrap());
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            text.push_str(&format!("! {line}\n"));
        }
        text.push_str(&format!("[{}]\n\n", output.status.code().unwrap()));
        self.paper.push_str(&steady(&text, &self.fake.address));
    }
}

/// Splits at blanks; no word of these tests needs quotes.
fn shell(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Takes out what differs from run to run.
fn steady(text: &str, address: &str) -> String {
    let text = text.replace(address, "MANAGER");
    let mut steady = String::new();
    for line in text.lines() {
        let line = match line.split_once("done in ") {
            Some((start, rest)) => format!("{start}done in T s{}", rest.split_once(" s").map_or("", |(_, rest)| rest)),
            None => line.to_owned(),
        };
        steady.push_str(&line);
        steady.push('\n');
    }
    steady
}

const WEB: &str = "name: web\ncommand: /bin/web\nargs: --port 80\nhosts: [h1, h2]\nlabels: {role: front}\n";
const NOTE: &str = r#"{ // all
"processInfos":[{"isDaemon":true,"processName":"app","restartInterval":10,"restartCountLimit":10,"signal":9,"parameters":"-m cluster -n 1","environmentVariable":{"key":"key","value":"value"}}]}"#;

#[tokio::test]
async fn a_day_with_minderctl() {
    let mut desk = Desk::new().await;
    desk.file("web.yaml", WEB);
    desk.file("note.json", NOTE);
    desk.run("minderctl ps").await;
    desk.run("minderctl validate -f web.yaml note.json").await;
    desk.run("minderctl apply -f web.yaml --dry-run").await;
    desk.run("minderctl apply -f web.yaml").await;
    desk.run("minderctl apply -f web.yaml --no-wait").await;
    desk.run("minderctl apply -f note.json").await;
    desk.run("minderctl apply -f note.json --on h1").await;
    desk.run_with(
        "minderctl apply -f - -o json --request-id r-7",
        "name: api\ncommand: api\nhosts: [h3]\n",
        &desk.fake.address.clone(),
    )
    .await;
    desk.run("minderctl ps").await;
    desk.run("minderctl ps web@h1 -o wide").await;
    desk.run("minderctl ps web -o name").await;
    desk.run("minderctl ps web@h1 -o json").await;
    desk.run("minderctl get -l role=front -o yaml").await;
    desk.run("minderctl get -o wide").await;
    desk.run("minderctl stop web").await;
    desk.run("minderctl ps -l role=front").await;
    desk.run("minderctl start web@h1 -o name --no-wait").await;
    desk.run("minderctl signal HUP web").await;
    desk.run("minderctl status web@h1").await;
    desk.run("minderctl explain web@h2").await;
    desk.run("minderctl wait web --for running").await;
    desk.run("minderctl logs web").await;
    desk.run("minderctl logs web@h1 -n 5 --stdout").await;
    desk.run("minderctl events").await;
    desk.run("minderctl host list").await;
    desk.run("minderctl host info h1").await;
    desk.run("minderctl host info h1 --history").await;
    desk.run("minderctl host label h1 zone=b old-").await;
    desk.run("minderctl manager status").await;
    desk.run("minderctl manager upgrade").await;
    desk.run("minderctl manager upgrade --finalize").await;
    desk.run("minderctl manager status").await;
    desk.run("minderctl doctor").await;
    desk.run("minderctl manager transfer --to 2").await;
    desk.run("minderctl manager add m4:7702").await;
    desk.run("minderctl manager replace 2 m4:7702 -o json").await;
    desk.run("minderctl manager remove 2").await;
    desk.run("minderctl manager remove 9").await;
    desk.run("minderctl manager promote m4:7701").await;
    desk.run("minderctl manager demote 3").await;
    desk.run("minderctl manager set-address 17 m4:7702 -o name").await;
    desk.run("minderctl init --peers a:1,b:1,c:1").await;
    desk.run("minderctl delete web").await;
    desk.run("minderctl version").await;
    insta::assert_snapshot!(desk.paper);
}

#[tokio::test]
async fn what_goes_wrong_and_how_it_is_said() {
    let mut desk = Desk::new().await;
    desk.file("web.yaml", WEB);
    desk.file("bad.yaml", "processes:\n- name: web\n  comand: x\n");
    desk.file("nowhere.yaml", "name: web\ncommand: x\n");
    desk.run("minderctl apply -f bad.yaml").await;
    desk.run("minderctl apply -f absent.yaml").await;
    desk.run("minderctl apply -f nowhere.yaml").await;
    desk.run("minderctl apply -f web.yaml --on not/a/host").await;
    desk.run("minderctl stop").await;
    desk.run("minderctl stop a:0").await;
    desk.run("minderctl stop nothing").await;
    desk.run("minderctl ps nothing").await;
    desk.run("minderctl delete nothing").await;
    desk.run("minderctl signal NOPE web").await;
    desk.run("minderctl host info h9").await;
    desk.run("minderctl host label h1 zone").await;
    desk.run("minderctl init --peers a:1,b:1").await;
    desk.run("minderctl ps --server nonsense").await;
    desk.run_with("minderctl ps", "", "").await;
    desk.fake.table.lock().unwrap().troubles.push_back(Status::aborted("web is at revision 9, not 3"));
    desk.run("minderctl apply -f web.yaml --expect-revision 3").await;
    desk.fake.table.lock().unwrap().troubles.push_back(Status::permission_denied("alice may not write"));
    desk.run("minderctl apply -f web.yaml").await;
    desk.fake
        .table
        .lock()
        .unwrap()
        .troubles
        .extend((0..900).map(|_| Status::unavailable("no leader: nothing was changed")));
    desk.run("minderctl apply -f web.yaml --timeout 300ms").await;
    desk.fake.table.lock().unwrap().troubles.clear();
    desk.fake.table.lock().unwrap().lost.extend((0..900).map(|_| Status::deadline_exceeded("the leader is gone")));
    desk.run("minderctl apply -f web.yaml --timeout 300ms --request-id r-1").await;
    desk.fake.table.lock().unwrap().lost.clear();
    desk.fake
        .table
        .lock()
        .unwrap()
        .phases
        .insert("web".into(), (v1::Phase::Fatal, "failed", "exit 1; restart limit of 10 reached"));
    desk.run("minderctl apply -f web.yaml --request-id r-1").await;
    desk.fake
        .table
        .lock()
        .unwrap()
        .phases
        .insert("web".into(), (v1::Phase::Backoff, "start", "exit 1, next start in 3s"));
    desk.run("minderctl restart web --timeout 500ms").await;
    desk.run("minderctl reload web").await;
    desk.run("minderctl drill leader-kill --yes").await;
    desk.run("minderctl drill leader-kill --down 2m").await;
    desk.run("minderctl drill partition --yes").await;
    desk.run("minderctl drill slave-kill h1").await;
    insta::assert_snapshot!(desk.paper);
}

#[tokio::test]
async fn much_is_touched_only_when_it_is_meant() {
    let mut desk = Desk::new().await;
    let hosts: Vec<String> = (1..=6).map(|host| format!("h{host}")).collect();
    desk.file("wide.yaml", &format!("name: wide\ncommand: x\nhosts: [{}]\n", hosts.join(", ")));
    desk.run("minderctl apply -f wide.yaml --no-wait").await;
    desk.run("minderctl stop wide").await;
    desk.run("minderctl stop wide@h1 --no-wait").await;
    desk.run("minderctl stop wide --dry-run").await;
    desk.run("minderctl stop wide --yes --no-wait").await;
    desk.run("minderctl delete wide").await;
    insta::assert_snapshot!(desk.paper);
}

#[tokio::test]
async fn more_than_one_write_takes_goes_in_parts() {
    let mut desk = Desk::new().await;
    let many: String = (0..1_002).map(|at| format!("- {{name: p{at}, command: x, hosts: [h1]}}\n")).collect();
    desk.file("many.yaml", &many);
    desk.run("minderctl apply -f many.yaml --no-wait -o name").await;
    // The names of all of them say nothing.
    desk.paper = desk.paper.lines().filter(|line| !line.starts_with('p')).map(|line| format!("{line}\n")).collect();
    desk.fake.table.lock().unwrap().refused_from = Some("p1001".into());
    desk.run("minderctl apply -f many.yaml --no-wait -o name").await;
    insta::assert_snapshot!(desk.paper);
}

#[tokio::test]
async fn the_first_design_notes_command() {
    let mut desk = Desk::new().await;
    let manager = desk.fake.address.clone();
    desk.run("minder_client -m start -s 10.0.0.1:8888 -p /bin/sleep 100").await;
    desk.run("minder_client -m status -s 10.0.0.1:8888 -p /bin/sleep").await;
    desk.run("minder_client -m restart -s 10.0.0.1:8888 -p /bin/sleep").await;
    desk.run("minder_client -m stop -s 10.0.0.1:8888 -p /bin/sleep").await;
    desk.run_with(&format!("minder_client -m start --on h2 -s {manager} -p /bin/sleep 100"), "", "").await;
    desk.run("minderctl ps").await;
    desk.run("minder_client -m start -s 10.0.0.1:8888 -p /opt/sleep").await;
    desk.run("minder_client -m start -s 10.0.0.9:8888 -p /bin/sleep").await;
    desk.run("minder_client -m start -s nonsense -p /bin/sleep").await;
    desk.run("minder_client -m start -s 10.0.0.1:8888 -p /bin/").await;
    insta::assert_snapshot!(desk.paper);
}

#[tokio::test]
async fn the_help_texts() {
    let mut desk = Desk::new().await;
    for command in
        ["", " apply", " stop", " ps", " logs", " host", " manager", " wait", " init", " drill", " drill partition"]
    {
        desk.run(&format!("minderctl{command} --help")).await;
    }
    desk.run("minder_client --help").await;
    insta::assert_snapshot!(desk.paper);
}

/// What breaks off leaves no file; what is no backup is told from one that is damaged.
#[tokio::test]
async fn backups_that_are_none() {
    let mut desk = Desk::new().await;
    desk.run("minderctl backup save b").await;
    desk.file("b", "something else");
    desk.run("minderctl backup save b").await;
    desk.run("minderctl backup verify b").await;
    desk.file("b", "MNDRBAK1");
    desk.run("minderctl backup verify b").await;
    desk.run("minderctl backup verify absent").await;
    let left: Vec<_> = std::fs::read_dir(desk.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["b"]);
    insta::assert_snapshot!(desk.paper);
}
