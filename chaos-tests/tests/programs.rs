//! nginx, redis-server and Python's http server from Debian's packages, by the files in deploy/examples, as their users
//! run them: in the foreground and as daemons, reloaded, rotated, upgraded, crashed, and with a slave that is killed and
//! replaced under them. `deploy/setup/programs` installs them; a test whose program is missing says so and is skipped.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_chaos_tests::{Cluster, ClusterShape, bin, descendants_of, eventually, is_alive, named, repository};
use minder_client::v1::{self, exit_status::Kind};
use nix::{sys::signal::Signal as Kill, unistd::Pid};

/// A cluster of one manager and one slave, and what a user has at hand beside it.
struct Desk {
    cluster: Cluster,
    servers: String,
}

impl Desk {
    async fn new() -> Self {
        let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
        // Programs run as users of their own, and read the files of their specs.
        fs::set_permissions(cluster.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let servers = cluster.addresses.join(",");
        Self { cluster, servers }
    }

    /// A folder that this user may write into.
    fn folder(&self, name: &str, user: &str) -> PathBuf {
        let folder = self.cluster.path().join(name);
        fs::create_dir(&folder).unwrap();
        if is_root() {
            assert!(Command::new("chown").arg(user).arg(&folder).status().unwrap().success());
        }
        folder
    }

    /// Copies an example with other places in it, each of which must be there, and applies it.
    fn apply(&self, example: &str, places: &[(&str, &str)]) {
        self.apply_some(example, places, "");
    }

    /// The same with this process of it alone, unless it is none.
    fn apply_some(&self, example: &str, places: &[(&str, &str)], name: &str) {
        let mut text = fs::read_to_string(repository().join("deploy/examples").join(example)).unwrap();
        for (there, here) in places {
            assert!(text.contains(there), "{example} does not say {there:?} any more");
            text = text.replace(there, here);
        }
        if !is_root() {
            eprintln!("without root, what {example} runs as another user is run as this one");
            text = text.lines().filter(|line| !line.starts_with("    user: ")).collect::<Vec<_>>().join("\n");
            text = text.replace("--chuid, nobody,", "");
        }
        let begin = text.find(&format!("  - name: {name}\n")).filter(|_| !name.is_empty());
        if let Some(begin) = begin {
            let end = text[begin + 1..].find("  - name: ").map_or(text.len(), |at| begin + 1 + at);
            text = format!("processes:\n{}", &text[begin..end]);
        }
        let copy = self.cluster.path().join(example);
        fs::write(&copy, text).unwrap();
        self.run(0, &["apply", "-f", copy.to_str().unwrap()]);
    }

    /// Runs minderctl, which must end with this code; gives what it said.
    fn run(&self, code: i32, args: &[&str]) -> String {
        let output = Command::new(bin("minderctl")).args(args).env("MINDER_SERVERS", &self.servers).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "minderctl {args:?} said:\n{said}");
        said
    }

    async fn status(&self, name: &str) -> v1::InstanceStatus {
        let instances = self.cluster.client().instances(named(&[name])).await.unwrap().instances;
        instances[0].status.clone().unwrap()
    }

    /// Waits until it is READY, in this incarnation or a later one; gives its status.
    async fn ready(&self, name: &str, incarnation: u64) -> v1::InstanceStatus {
        eventually(&format!("{name} is ready"), || async {
            let status = self.status(name).await;
            let ready = matches!(status.phase(), v1::Phase::Ready | v1::Phase::Running);
            (ready && status.incarnation >= incarnation && status.pid > 0).then_some(status)
        })
        .await
    }

    /// Kills the slave, lets the programs be without one, and starts it again: everybody is who he was.
    async fn lose_the_slave(&mut self, names: &[&str], meanwhile: impl FnOnce()) {
        let mut before = Vec::new();
        for name in names {
            before.push(self.ready(name, 1).await);
        }
        self.cluster.slaves[0].kill();
        meanwhile();
        self.cluster.slaves[0].start();
        self.cluster.wait_for_sessions(1).await;
        for (name, before) in names.iter().zip(before) {
            let after = self.ready(name, before.incarnation).await;
            assert_eq!(
                (after.pid, after.incarnation, after.restarts),
                (before.pid, before.incarnation, before.restarts)
            );
            assert!(is_alive(after.pid), "{name}");
        }
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether a program is there; says so where it is not.
fn is_installed(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")]).output().unwrap();
    if !found.status.success() {
        eprintln!("skipped: {program} is not installed; say deploy/setup/programs");
    }
    found.status.success()
}

/// A port that nobody has now.
fn port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// What a GET of / is answered, head and all; empty when nobody answers.
fn get(port: &str) -> String {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    answer().unwrap_or_default()
}

fn kill(pid: u32, signal: Kill) {
    nix::sys::signal::kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// The user whose process this is.
fn user_of(pid: u32) -> String {
    let output = Command::new("ps").args(["-o", "user=", "-p", &pid.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The last exit of an instance: its code, and whether somebody asked for it.
fn last_exit(status: &v1::InstanceStatus) -> (Option<Kind>, bool) {
    let exit = status.exits.last().unwrap();
    (exit.status.as_ref().unwrap().kind, exit.requested)
}

/// nginx's own folders for what it receives, where they are not root's.
fn temporary(folder: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {}/{kind}; ", folder.display())).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_in_the_foreground_and_as_a_daemon() {
    if !is_installed("nginx") {
        return;
    }
    let mut desk = Desk::new().await;
    let (folder, logs) = (desk.folder("nginx", "root"), desk.folder("nginx-logs", "www-data"));
    let (front, own) = (port(), port());
    let configuration = folder.join("nginx.conf");
    let serve = |answer: &str| {
        let text = format!(
            "user www-data; pid {0}/pid; worker_processes 2; events {{}}\nhttp {{ {1}access_log /dev/stdout;\n\
             server {{ listen 127.0.0.1:{front}; location / {{ return {answer}; }} }} }}\n",
            folder.display(),
            temporary(&folder),
        );
        fs::write(&configuration, text).unwrap();
    };
    serve("200 one");
    let http = format!("http {{ {}\n", temporary(&folder));
    desk.apply(
        "nginx.yaml",
        &[
            ("/etc/nginx/nginx.conf", configuration.to_str().unwrap()),
            ("tcp: 80,", &format!("tcp: {front},")),
            ("127.0.0.1:80/", &format!("127.0.0.1:{front}/")),
            ("8080", &own),
            ("/var/log/nginx", logs.to_str().unwrap()),
            ("http {\n", &http),
            ("interval: 10s", "interval: 200ms"),
            ("interval: 1s", "interval: 100ms"),
        ],
    );
    let (first, daemon) = (desk.ready("nginx", 1).await, desk.ready("nginx-own", 1).await);
    assert!(get(&front).contains("one") && get(&own).contains("nginx-own on host-1"));
    let workers = descendants_of(first.pid);
    assert_eq!(workers.len(), 2);
    if is_root() {
        assert_eq!((user_of(first.pid).as_str(), user_of(workers[0]).as_str()), ("root", "www-data"));
    }
    eventually("its requests are seen", || async { desk.run(0, &["logs", "nginx"]).contains("GET /").then_some(()) })
        .await;

    // A worker is nginx's own matter.
    kill(workers[0], Kill::SIGKILL);
    eventually("another worker", || async {
        let now = descendants_of(first.pid);
        (now.len() == 2 && !now.contains(&workers[0])).then_some(())
    })
    .await;

    // Reload by a signal, and by a command that says when it failed.
    serve("200 two");
    desk.run(0, &["reload", "nginx"]);
    eventually("the new answer", || async { get(&front).contains("two").then_some(()) }).await;
    desk.run(0, &["reload", "nginx-own"]);
    let rendered = desk.cluster.path().join("slave-1/run/nginx-own:1/1/files/nginx.conf");
    let good = fs::read_to_string(&rendered).unwrap();
    fs::write(&rendered, good.replace("events", "evens")).unwrap();
    let said = desk.run(1, &["reload", "nginx-own"]);
    assert!(said.contains("reload failed: exit 1") && said.contains("unknown directive \"evens\""), "{said}");
    fs::write(&rendered, good).unwrap();

    // Its own log files, moved away by whoever rotates them.
    let log = logs.join("nginx-own-access.log");
    fs::rename(&log, logs.join("nginx-own-access.log.1")).unwrap();
    desk.run(0, &["signal", "USR1", "nginx-own"]);
    eventually("a new log file", || async { log.exists().then_some(()) }).await;

    let now = nginx_goes_on_as_another_program(&desk, &rendered, daemon.pid).await;

    desk.lose_the_slave(&["nginx", "nginx-own"], || {
        assert!(get(&front).contains("two") && get(&own).contains("nginx-own"));
    })
    .await;

    // The master's death is the process's: nobody of it stays, and another one comes.
    let workers = descendants_of(now.pid);
    kill(now.pid, Kill::SIGKILL);
    let again = desk.ready("nginx-own", 2).await;
    assert_eq!((again.incarnation, again.restarts), (2, 1));
    assert!(workers.into_iter().all(|worker| !is_alive(worker)));
    assert!(get(&own).contains("nginx-own"));

    // Well by its process and not by what it answers.
    serve("500 broken");
    desk.run(0, &["reload", "nginx"]);
    eventually("it is not well", || async {
        let exit = desk.status("nginx").await.exits.last().cloned();
        exit.is_some_and(|exit| exit.unhealthy.contains("500")).then_some(())
    })
    .await;
    serve("200 three");
    let well = desk.ready("nginx", 2).await;
    eventually("it is well", || async { get(&front).contains("three").then_some(()) }).await;

    desk.run(0, &["stop", "nginx", "nginx-own"]);
    for (name, pid) in [("nginx", well.pid), ("nginx-own", again.pid)] {
        let status = desk.status(name).await;
        assert_eq!((status.phase(), last_exit(&status)), (v1::Phase::Stopped, (Some(Kind::Code(0)), true)), "{name}");
        assert!(!is_alive(pid));
    }
    let said = desk.run(3, &["reload", "nginx"]);
    assert!(said.contains("nobody to tell"), "{said}");
}

/// A new program in place of the running one: the incarnation goes on with another main process.
async fn nginx_goes_on_as_another_program(desk: &Desk, configuration: &Path, old: u32) -> v1::InstanceStatus {
    let pid_file = |name| configuration.with_file_name(name);
    desk.run(0, &["signal", "USR2", "nginx-own"]);
    eventually("two masters", || async {
        (pid_file("nginx.pid.oldbin").exists() && pid_file("nginx.pid").exists()).then_some(())
    })
    .await;
    desk.run(0, &["signal", "QUIT", "nginx-own"]);
    eventually("the new one is the main process", || async {
        let now = desk.status("nginx-own").await;
        (now.pid > 0 && now.pid != old && !is_alive(old)).then_some(())
    })
    .await;
    let now = desk.ready("nginx-own", 1).await;
    assert_eq!((now.incarnation, now.restarts), (1, 0));
    now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_in_the_foreground_and_as_a_daemon() {
    if !is_installed("redis-server") {
        return;
    }
    let mut desk = Desk::new().await;
    let data = desk.folder("redis", "redis");
    let configuration = desk.cluster.path().join("redis-server.conf");
    fs::write(&configuration, format!("bind 127.0.0.1\ndir {}\n", data.display())).unwrap();
    let (front, back) = (port(), port());
    // Left behind by a daemon of before; the number is somebody else's by now.
    let mut stranger = stranger();
    fs::write(data.join("redis-daemon.pid"), format!("{}\n", stranger.id())).unwrap();
    if is_root() {
        assert!(Command::new("chown").arg("redis").arg(data.join("redis-daemon.pid")).status().unwrap().success());
    }
    desk.apply(
        "redis.yaml",
        &[
            ("/etc/redis/redis.conf", configuration.to_str().unwrap()),
            ("/var/lib/redis", data.to_str().unwrap()),
            ("6379", &front),
            ("6380", &back),
            ("interval: 1s", "interval: 100ms"),
        ],
    );
    let redis = |port: &str, words: &[&str]| {
        let output = Command::new("redis-cli").args(["-p", port]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (first, daemon) = (desk.ready("redis", 1).await, desk.ready("redis-daemon", 1).await);
    assert!(daemon.started_at_ms >= first.since_ms, "it comes after the other one");
    assert_eq!(daemon.pid.to_string(), fs::read_to_string(data.join("redis-daemon.pid")).unwrap().trim());
    if is_root() {
        assert_eq!((user_of(first.pid).as_str(), user_of(daemon.pid).as_str()), ("redis", "redis"));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", first.pid)).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains("10032")), "{limits}");
    assert!(desk.run(0, &["logs", "redis"]).contains("Ready to accept connections"));
    for port in [&front, &back] {
        assert_eq!(redis(port, &["set", "key", "kept"]), "OK");
    }

    desk.lose_the_slave(&["redis", "redis-daemon"], || assert_eq!(redis(&back, &["get", "key"]), "kept")).await;

    // Killed, it leaves its pid file; the next one is told from it.
    kill(daemon.pid, Kill::SIGKILL);
    let again = desk.ready("redis-daemon", 2).await;
    assert!(again.pid != daemon.pid && again.restarts == 1);
    assert_eq!(redis(&back, &["ping"]), "PONG");
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was touched");

    // Stopped, the one that comes after goes first, and both save what they have.
    assert_eq!(redis(&back, &["set", "key", "kept"]), "OK");
    desk.run(0, &["stop", "redis", "redis-daemon"]);
    let (one, other) = (desk.status("redis").await, desk.status("redis-daemon").await);
    for status in [&one, &other] {
        assert_eq!(last_exit(status), (Some(Kind::Code(0)), true), "{status:?}");
    }
    assert!(other.exits.last().unwrap().ended_at_ms <= one.exits.last().unwrap().ended_at_ms);
    assert!(!data.join("redis-daemon.pid").exists() && data.join("redis-daemon.rdb").exists());
    desk.run(0, &["start", "redis", "redis-daemon"]);
    desk.ready("redis-daemon", 3).await;
    assert_eq!((redis(&front, &["get", "key"]), redis(&back, &["get", "key"])), ("kept".into(), "kept".into()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

fn stranger() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_http_server_in_the_foreground_and_as_a_daemon() {
    if !is_installed("/usr/bin/python3") {
        return;
    }
    let mut desk = Desk::new().await;
    let folder = desk.folder("python", "root");
    let (front, back) = (port(), port());
    desk.apply(
        "http-server.yaml",
        &[
            ("8000", &front),
            ("8001", &back),
            ("/run/", &format!("{}/", folder.display())),
            ("/usr/share/doc", "/usr/share/doc/python3"),
            ("max_size: 10MiB", "max_size: 64KiB"),
            ("interval: 5s", "interval: 200ms, timeout: 500ms"),
            ("interval: 1s", "interval: 100ms"),
        ],
    );
    let (first, daemon) = (desk.ready("http-server", 1).await, desk.ready("http-server-daemon", 1).await);
    assert!(get(&front).contains("200 OK") && get(&back).contains("200 OK"));
    if is_root() {
        assert_eq!((user_of(first.pid).as_str(), user_of(daemon.pid).as_str()), ("nobody", "nobody"));
    }
    // It is answered before its line is through the pipe and in the file.
    eventually("its log has the request", || async {
        desk.run(0, &["logs", "http-server", "--tail", "3"]).contains("GET / HTTP/1.").then_some(())
    })
    .await;

    // Its log is rotated under it, and its name stays.
    let log = desk.cluster.path().join("slave-1/logs/http-server:1/stdout.log");
    let requests = async {
        while !log.with_extension("log.1").exists() {
            (0..50).for_each(|_| drop(get(&front)));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), requests).await.expect("no rotation");
    get(&front);
    eventually("it goes on in a file of the same name", || async {
        fs::read_to_string(&log).unwrap_or_default().contains("GET /").then_some(())
    })
    .await;

    desk.lose_the_slave(&["http-server", "http-server-daemon"], || assert!(get(&back).contains("200 OK"))).await;

    // It hangs: its port is open and nobody answers.
    kill(first.pid, Kill::SIGSTOP);
    let again = desk.ready("http-server", 2).await;
    assert!(!again.exits.last().unwrap().unhealthy.is_empty() && !is_alive(first.pid), "{again:?}");

    // What requires it stays when it goes, and does not start without it.
    desk.run(0, &["stop", "http-server"]);
    let status = desk.status("http-server").await;
    assert_eq!(last_exit(&status), (Some(Kind::Code(0)), true));
    assert!(desk.run(3, &["status", "http-server"]).contains("Keyboard interrupt received, exiting."));
    assert!(is_alive(daemon.pid));
    desk.run(0, &["restart", "http-server-daemon", "--no-wait"]);
    let said = eventually("it waits", || async {
        let said = desk.run(0, &["explain", "http-server-daemon@host-1"]);
        said.contains("waits for http-server, which is not wanted running").then_some(said)
    })
    .await;
    assert!(said.contains("PENDING"), "{said}");
    desk.run(0, &["start", "http-server"]);
    desk.ready("http-server-daemon", 2).await;
    desk.run(0, &["delete", "http-server", "http-server-daemon", "--yes"]);
    let pid_file = folder.join("http-server-daemon.pid");
    eventually("its hook clears the pid file away", || async { (!pid_file.exists()).then_some(()) }).await;
}

/// Each of the three under a slave that is replaced by the next version, and by the one before again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slave_is_upgraded_under_them() {
    let previous = std::env::var_os("MINDER_PREVIOUS_BIN_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let Some(previous) = previous else {
        eprintln!("skipped: no programs of the version before; say MINDER_PREVIOUS_BIN_DIR=$(deploy/setup/previous)");
        return;
    };
    if !["nginx", "redis-server", "/usr/bin/python3"].into_iter().all(is_installed) {
        return;
    }
    let mut desk = Desk::new().await;
    let present = bin("minder-slave").parent().unwrap().to_owned();
    desk.cluster.slaves[0].kill();
    desk.cluster.slaves[0].move_to(&previous);
    desk.cluster.slaves[0].start();
    desk.cluster.wait_for_sessions(1).await;
    let (data, run) = (desk.folder("redis", "redis"), desk.folder("run", "root"));
    let configuration = desk.cluster.path().join("redis-server.conf");
    fs::write(&configuration, format!("bind 127.0.0.1\ndir {}\n", data.display())).unwrap();
    let places = [
        ("/etc/redis/redis.conf", configuration.to_str().unwrap()),
        ("/var/lib/redis", data.to_str().unwrap()),
        ("6379", &port()),
        ("6380", &port()),
        ("interval: 1s", "interval: 100ms"),
    ];
    desk.apply("redis.yaml", &places);
    let places = [("8000", port()), ("8001", port()), ("/run/", format!("{}/", run.display()))];
    desk.apply("http-server.yaml", &places.each_ref().map(|(there, here)| (*there, here.as_str())));
    let (own, logs) = (port(), desk.folder("nginx-logs", "www-data"));
    let http = format!("http {{ {}\n", temporary(&logs));
    let places = [("8080", own.as_str()), ("/var/log/nginx", logs.to_str().unwrap()), ("http {\n", http.as_str())];
    // The one with the host's own configuration would take the host's own port.
    desk.apply_some("nginx.yaml", &places, "nginx-own");
    let names = ["redis", "redis-daemon", "http-server", "http-server-daemon", "nginx-own"];
    for name in names {
        desk.ready(name, 1).await;
    }
    for folder in [&present, &previous] {
        let slave = &mut desk.cluster.slaves[0];
        slave.move_to(folder);
        desk.lose_the_slave(&names, || assert!(get(&own).contains("nginx-own"))).await;
        desk.run(0, &["reload", "nginx-own", "--no-wait"]);
    }
    // What the one version began the other ends.
    desk.run(0, &["stop", "redis-daemon", "http-server-daemon", "nginx-own"]);
    for name in ["redis-daemon", "http-server-daemon", "nginx-own"] {
        assert!(desk.status(name).await.exits.last().unwrap().requested, "{name}");
    }
}
