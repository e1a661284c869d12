//! minderctl as a user types it: what is refused, how fast, with which words and exit code; and the first design note's
//! two forms, word for word.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape, all, bin, repository};
use minder_client::{Error, Write, v1};

fn run(program: &str, servers: &str, args: &[&str], input: Option<&[u8]>) -> Output {
    let mut child = Command::new(bin(program))
        .args(args)
        .env("MINDER_SERVERS", servers)
        .env("HOME", "/nonexistent")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        // A program that refuses early may not read all of it.
        let _ = child.stdin.take().unwrap().write_all(input);
    }
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A run that must end with this code and say these words.
fn expect(servers: &str, args: &[&str], input: Option<&[u8]>, code: i32, words: &[&str]) -> String {
    let begin = Instant::now();
    let output = run("minderctl", servers, args, input);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "minderctl {args:?} said:\n{said}");
    for word in words {
        assert!(said.contains(word), "minderctl {args:?} does not say {word:?}:\n{said}");
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "minderctl {args:?} took {:.1?}", begin.elapsed());
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_by_name_and_changes_nothing() {
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let servers = cluster.addresses.join(",");
    let hash = cluster.wait_until_in_step().await;
    let apply = ["apply", "-f", "-"];
    let big = format!("name: app\ncommand: x\nargs: [{}]\nhosts: [host-1]\n", "aaaaaaaaaaaaaaa, ".repeat(700_000));
    for (document, code, words) in [
        (&b"name: app\ncomand: /bin/true\nhosts: [host-1]"[..], 2, &["comand", "command"][..]),
        (b"name: app\nhosts: [host-1]", 2, &["command"]),
        (b"name: app\ncommand: x\ninstances: many\nhosts: [host-1]", 2, &["instances"]),
        (b"name: app\ncommand: x\ninstances: 4000000\nhosts: [host-1]", 2, &["instances", "1000"]),
        (b"name: app\ncommand: x\nrestart: {delay: 99999d}\nhosts: [host-1]", 2, &["restart.delay"]),
        (b"name: a/b\ncommand: x\nhosts: [host-1]", 2, &["a/b"]),
        (b"name: app\ncommand: \xff\xfe\nhosts: [host-1]", 2, &["UTF-8"]),
        (b"{\"processInfos\": [{\"processNme\": \"x\"}]}", 2, &["processNme", "processName"]),
        (b"", 2, &[]),
        (big.as_bytes(), 2, &["limit"]),
    ] {
        expect(&servers, &apply, Some(document), code, words);
    }
    expect(&servers, &["apply", "-f", "/nonexistent.yaml"], None, 2, &["/nonexistent.yaml"]);
    expect(&servers, &["stop", "nobody"], None, 4, &["nobody"]);
    expect(&servers, &["stop"], None, 2, &[]);
    expect(&servers, &["frobnicate"], None, 2, &["frobnicate"]);
    expect(&servers, &["signal", "NOPE", "x"], None, 2, &["NOPE"]);
    expect("127.0.0.1:1", &["ps"], None, 5, &["127.0.0.1:1"]);
    assert_eq!(cluster.wait_until_in_step().await, hash, "something was changed");
    assert!(cluster.client().instances(all()).await.unwrap().instances.is_empty());
}

/// Each of two applies is well by itself; together they would have neither start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_is_refused_also_with_what_was_applied_before() {
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let servers = cluster.addresses.join(",");
    let spec = |name: &str, after: &str| {
        format!("name: {name}\ncommand: /bin/sleep\nargs: [1000]\nhosts: [host-1]\nafter: [{after}]\n")
    };
    let apply = ["apply", "-f", "-", "--no-wait"];
    expect(&servers, &apply, Some(spec("a", "b").as_bytes()), 0, &["a created"]);
    let ring = ["spec.after[0]", "b waits for a, which waits for it"];
    expect(&servers, &apply, Some(spec("b", "a").as_bytes()), 2, &ring);
    expect(&servers, &["apply", "-f", "-", "--dry-run"], Some(spec("b", "a").as_bytes()), 2, &ring);
    expect(&servers, &apply, Some(spec("b", "elsewhere").as_bytes()), 0, &["b created"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_too_many_instances_is_refused_and_a_file_of_processes_is_split() {
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 0 }).await;
    let servers = cluster.addresses.join(",");
    let spec = |name: &str, hosts: usize| {
        let hosts: Vec<String> = (0..hosts).map(|host| format!("h{host}")).collect();
        format!("name: {name}\ncommand: /bin/sleep\ninstances: 1000\nhosts: [{}]\n", hosts.join(", "))
    };
    let refused = ["reaches more than 200000 instances", "write fewer processes at a time"];
    expect(&servers, &["apply", "-f", "-", "--no-wait"], Some(spec("all", 201).as_bytes()), 1, &refused);
    let file = format!("{}---\n{}", spec("some", 101), spec("more", 101));
    expect(&servers, &["apply", "-f", "-", "--dry-run"], Some(file.as_bytes()), 0, &["some created", "more created"]);

    // What is said again has its first answer, also when as much could not be asked for any more.
    let client = cluster.client();
    let restart = |id: &str| {
        let write = Write { request_id: Some(id.to_owned()), ..Write::default() };
        let client = &client;
        async move { client.order(v1::OrderKind::Restart, 0, all(), &write).await }
    };
    expect(&servers, &["apply", "-f", "-", "--no-wait"], Some(spec("some", 101).as_bytes()), 0, &["some created"]);
    let first = restart("first").await.unwrap();
    expect(&servers, &["apply", "-f", "-", "--no-wait"], Some(spec("more", 101).as_bytes()), 0, &["more created"]);
    assert!(matches!(restart("second").await, Err(Error::TooLarge(_))));
    assert_eq!(restart("first").await.unwrap().position.unwrap().revision, first.position.unwrap().revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_which_step_and_why() {
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let servers = cluster.addresses.join(",");
    let plain = cluster.path().join("not-executable");
    std::fs::write(&plain, "x").unwrap();
    let plain = plain.to_str().unwrap();
    let never = "restart: {policy: never}";
    for (name, rest, words) in [
        ("absent", "command: /no/such/program".to_owned(), ["/no/such/program", "No such file"]),
        ("plain", format!("command: {plain}"), [plain, "ermission denied"]),
        ("stranger", "command: /bin/true\nuser: nobody-by-this-name".into(), ["no such user", "nobody-by-this-name"]),
        ("nowhere", "command: /bin/true\nworking_directory: /no/such/dir".into(), ["/no/such/dir", "No such file"]),
        ("code", "command: /bin/sh\nargs: [-c, exit 3]".into(), ["exit 3", "policy wants no restart"]),
    ] {
        let document = format!("name: {name}\n{rest}\nhosts: [host-1]\n{never}\n");
        expect(&servers, &["apply", "-f", "-", "--no-wait"], Some(document.as_bytes()), 0, &["created"]);
        let ended = || async {
            let said = text(&run("minderctl", &servers, &["explain", name], None));
            said.contains("EXITED").then_some(said)
        };
        let said = minder_chaos_tests::eventually("it is given up", ended).await;
        for word in words {
            assert!(said.contains(word), "{name} does not say {word:?}:\n{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_reads_say_so_in_time() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let servers = cluster.addresses.join(",");
    cluster.managers[0].kill();
    cluster.managers[1].kill();
    let document = b"name: app\ncommand: /bin/true\nhosts: [h]\n";
    expect(&servers, &["apply", "-f", "-"], Some(document), 5, &[]);
    expect(&servers, &["ps"], None, 5, &["nobody has taken over yet"]);
    cluster.managers[0].start();
    cluster.leader().await;
    expect(&servers, &["get", "app"], None, 4, &["app"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_notes_document_and_its_command_work_word_for_word() {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 2 }).await;
    let servers = cluster.addresses.join(",");
    let note = repository().join("deploy/examples/note.json");
    let note: PathBuf = note.canonicalize().unwrap();
    expect(&servers, &["apply", "-f", note.to_str().unwrap(), "--on", "host-1"], None, 0, &["sleep created"]);
    let spec = expect(&servers, &["get", "sleep", "-o", "yaml"], None, 0, &["/bin/sleep", "3600"]);
    assert!(spec.contains("10s") && spec.contains("forever"), "{spec}");

    let as_printed = br#"{"processInfos":[{"isDaemon":true,"processName":"app","restartInterval":10,"restartCountLimit":10,"signal":9,"parameters":"-m cluster -n 1","environmentVariable":{"key":"key","value":"value"}}]}"#;
    expect(&servers, &["apply", "-f", "-", "--on", "host-2", "--no-wait"], Some(as_printed), 0, &["app created"]);

    let client = |mode: &str, rest: &[&str]| {
        let mut args = vec!["-m", mode, "-s", "127.0.0.1:9002", "-p"];
        args.extend(rest);
        let output = run("minder_client", &servers, &args, None);
        (output.status.code(), text(&output))
    };
    // The name is taken by a process that runs otherwise: nothing is changed by accident.
    let (code, said) = client("start", &["/bin/sleep", "1234"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another process named sleep"), "{said}");
    // The same program with the same arguments is the same process: this host is added to it.
    let (code, said) = client("start", &["/bin/sleep", "3600"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = client("status", &["/bin/sleep"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("RUNNING") && said.contains("host-2"), "{said}");
    let (code, said) = client("restart", &["/bin/sleep"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = client("stop", &["/bin/sleep"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = client("status", &["/bin/sleep"]);
    assert_eq!(code, Some(3), "{said}");
}
