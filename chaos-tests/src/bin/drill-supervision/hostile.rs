//! Programs that do what they should not, one kind after the other, beside ten that only put out numbered lines: those must
//! lose none and never be restarted, and another process must start as ever.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape, Spread, all, eventually_within, is_alive, named, pids_with_variable};
use minder_client::{Client, Write, v1};
use minder_model::{Limit, LogFull, Millis, Spec};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::{
    PATIENCE, Shape,
    account::{Account, Lines, is_free},
    cost::{Cost, mib, size_of},
    probe::Probe,
    spec,
};

/// Those who only put out lines.
const BYSTANDERS: u32 = 10;
const GRACE: Duration = Duration::from_secs(2);
/// Open files of one program.
const FILES: u64 = 100_000;
/// The disk of one program's log.
const DISK: &str = "size=1m";
/// Leaves its session and goes on forking, so that no pid of it lasts longer than a moment.
const STORM: &str = r#"use POSIX; $SIG{CHLD} = $SIG{TERM} = $SIG{HUP} = 'IGNORE'; $until = time + 60;
for (1..3) { last unless fork } setsid;
while (time < $until) { my $child = fork; if (defined $child && $child) { exit 0 } select(undef, undef, undef, 0.002) }"#;
/// A child of it leaves the session, and so does a child of that; neither hears TERM.
const LEAVE: &str =
    "setsid sh -c 'trap \"\" TERM HUP; (setsid sleep 1000 &); while :; do sleep 0.2; done' & exec sleep 1000";

/// The host under test.
struct Host {
    cluster: Cluster,
    client: Client,
    accounts: PathBuf,
    probe: Probe,
    /// How long each thing goes on.
    duration: Duration,
}

/// All of them; `processes` is the number of those that are deaf.
pub async fn run(shape: Shape) {
    println!("\nhostile programs, {} s each", shape.seconds);
    let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let accounts = cluster.path().join("accounts");
    std::fs::create_dir(&accounts).unwrap();
    let (client, probe) = (cluster.client(), Probe::begin(&cluster).await);
    let host = Host { cluster, client, accounts, probe, duration: Duration::from_secs(shape.seconds) };
    let mut bystander = spec("bystander", "steady", &host.accounts, 0);
    bystander.instances = BYSTANDERS;
    host.start(bystander).await;
    host.deaf(shape.processes as u32).await;
    host.trees().await;
    host.stopped().await;
    host.files().await;
    host.full_disk().await;
    for on_full in [LogFull::Drop, LogFull::Block] {
        host.flood(on_full).await;
    }
    host.judge_bystanders().await;
}

impl Host {
    fn logs(&self, instance: &str) -> PathBuf {
        self.cluster.path().join("slave-1/logs").join(instance)
    }

    fn account(&self, instance: &str) -> Account {
        Account::read(&self.accounts, instance)
    }

    /// Applies it and waits until all of it runs.
    async fn start(&self, spec: Spec) {
        let (name, count) = (spec.name.to_string(), spec.instances as usize);
        self.client.apply(&[spec], &Write::default()).await.unwrap();
        self.cluster.wait_until_running(named(&[&name]), count).await;
    }

    /// Stops it; gives how long that took until `gone`, as the kernel sees it.
    async fn stop(&self, name: &str, gone: impl Fn() -> bool) -> Duration {
        let begin = Instant::now();
        self.client.order(v1::OrderKind::Stop, 0, named(&[name]), &Write::default()).await.unwrap();
        eventually_within(PATIENCE, &format!("{name} is gone"), || async { gone().then_some(()) }).await;
        begin.elapsed()
    }

    async fn status(&self, name: &str) -> v1::InstanceStatus {
        self.client.instances(named(&[name])).await.unwrap().instances[0].status.clone().unwrap_or_default()
    }

    async fn deaf(&self, count: u32) {
        let mut deaf = spec("deaf", "deaf", &self.accounts, 0);
        deaf.instances = count;
        deaf.stop.grace = Millis(GRACE.as_millis() as u64);
        self.start(deaf).await;
        let instances: Vec<String> = (1..=count).map(|index| format!("deaf:{index}")).collect();
        let took = self.stop("deaf", || instances.iter().all(|one| is_free(&self.accounts, one))).await;
        println!("{count} that do not hear TERM, stopped together: {took:.2?} with a grace of {GRACE:?}");
        assert!(took >= GRACE && took < GRACE + Duration::from_secs(1), "{took:?}");
    }

    async fn trees(&self) {
        let mark = self.cluster.path().display().to_string();
        let variable = format!("MARK={mark}");
        let storm = "perl -e \"$0\" & exec sleep 1000";
        for (name, script, arg) in [("storm", storm, STORM), ("leaving", LEAVE, "")] {
            let mut tree = spec(name, "", Path::new("/"), 0);
            tree.command = "/bin/sh".into();
            tree.args = vec!["-c".into(), script.into(), arg.into()];
            tree.env.insert("MARK".into(), mark.clone());
            self.start(tree).await;
            eventually_within(PATIENCE, "they are some", || async {
                (pids_with_variable(&variable).len() > 2).then_some(())
            })
            .await;
            // Looked at more than once: a storm has no moment in which all of it can be seen.
            let gone = || (0..10).all(|_| pids_with_variable(&variable).is_empty());
            println!("{name}: nothing left {:.2?} after the order to stop", self.stop(name, gone).await);
        }
    }

    async fn stopped(&self) {
        let mut stopped = spec("stopped", "deaf", &self.accounts, 0);
        stopped.stop.grace = Millis(GRACE.as_millis() as u64);
        self.start(stopped).await;
        let pid = self.status("stopped").await.pid;
        kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
        let took = self.stop("stopped", || !is_alive(pid)).await;
        println!("a stopped one that does not hear TERM either: gone after {took:.2?}");
        assert!(took < GRACE + Duration::from_secs(1), "{took:?}");
    }

    /// As many files as a drill asks for; where the machine forbids that, as many as it allows.
    async fn files(&self) {
        if let Err(why) = self.open_files("files", FILES).await {
            let allowed = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
            println!("{FILES} open files: this machine allows {allowed}: {why}");
            self.open_files("fewer-files", allowed - 100).await.unwrap();
        }
    }

    async fn open_files(&self, name: &str, count: u64) -> Result<(), String> {
        let instance = format!("{name}:1");
        let mut files = spec(name, "files", &self.accounts, count);
        let limit = Some(count + 100);
        files.limits.insert("nofile".into(), Limit { soft: limit, hard: limit });
        self.client.apply(&[files], &Write::default()).await.unwrap();
        let noted = eventually_within(PATIENCE, "the files are open", || async {
            let failure = self.status(name).await.exits.last().and_then(|exit| exit.start_failure.clone());
            let open = self.account(&instance).last("open");
            open.map(Ok).or(failure.map(|failure| Err(failure.message)))
        })
        .await;
        if noted.is_ok() {
            let before = Cost::of(&self.cluster);
            let took = self.probe.starts_for(self.duration).await;
            let after = Cost::of(&self.cluster);
            let cpu = (after.slave_cpu - before.slave_cpu).as_secs_f64() / (after.at - before.at).as_secs_f64() * 100.0;
            println!("{count} open files: slave CPU {cpu:.1} %, another process starts: {}", Spread(took));
        }
        let took = self.stop(name, || is_free(&self.accounts, &instance)).await;
        println!("gone {took:.2?} after the order to stop");
        noted.map(drop)
    }

    async fn full_disk(&self) {
        for on_full in [LogFull::Drop, LogFull::Block] {
            let name = format!("full-{on_full:?}").to_lowercase();
            let instance = format!("{name}:1");
            let Some(_disk) = Disk::mount(self.logs(&instance)) else {
                println!("a log disk of 1 MiB: this user may not mount one");
                return;
            };
            let mut full = spec(&name, "full", &self.accounts, 0);
            full.logs.on_full = on_full;
            self.start(full).await;
            tokio::time::sleep(self.duration).await;
            let taken = self.account(&instance).last("bytes").unwrap_or_default();
            let starts = self.account(&instance).starts();
            let took = self.stop(&name, || is_free(&self.accounts, &instance)).await;
            println!(
                "a log disk of 1 MiB, {on_full:?}: the program has put out {} when it last could say so, {} are on the disk, \
                 gone {took:.2?} after the order to stop",
                mib(taken),
                mib(size_of(&self.logs(&instance)).0),
            );
            assert_eq!(starts, 1, "a full disk harmed its program");
            match on_full {
                LogFull::Drop => assert!(taken > 8 << 20, "it was held up: {taken}"),
                LogFull::Block => assert!(taken < 8 << 20, "it was not held up: {taken}"),
            }
            self.client.delete(vec![name], &Write::default()).await.unwrap();
        }
    }

    async fn flood(&self, on_full: LogFull) {
        let name = format!("flood-{on_full:?}").to_lowercase();
        let instance = format!("{name}:1");
        let mut flood = spec(&name, "flood", &self.accounts, 0);
        flood.logs.on_full = on_full;
        self.start(flood).await;
        let begin = Instant::now();
        let took = self.probe.starts_for(self.duration).await;
        let elapsed = begin.elapsed().as_secs_f64();
        let bytes = self.account(&instance).last("bytes").unwrap_or_default();
        let (kept, _) = size_of(&self.logs(&instance));
        println!(
            "a flood, {on_full:?}: {} a second, {} kept, another process starts: {}",
            mib((bytes as f64 / elapsed) as u64),
            mib(kept),
            Spread(took)
        );
        assert!(kept < 60 << 20, "the log grows: {kept}");
        self.stop(&name, || is_free(&self.accounts, &instance)).await;
    }

    async fn judge_bystanders(&self) {
        self.client.order(v1::OrderKind::Stop, 0, all(), &Write::default()).await.unwrap();
        let (mut put_out, mut lost, mut torn) = (0, 0, 0);
        for instance in (1..=BYSTANDERS).map(|index| format!("bystander:{index}")) {
            let ended = || self.account(&instance).ends() == 1;
            eventually_within(PATIENCE, "who stood by ends", || async { ended().then_some(()) }).await;
            // The shim writes what it has read before it says that all is over.
            eventually_within(PATIENCE, "its end is noted", || async {
                (self.status(&instance).await.phase() == v1::Phase::Stopped).then_some(())
            })
            .await;
            let (account, lines) = (self.account(&instance), Lines::read(&self.logs(&instance)));
            assert_eq!((account.starts(), account.doubles), (1, 0), "{instance} was not left alone");
            let expected = account.lives[0].end.as_ref().map_or(0, |(_, lines)| *lines);
            (put_out, torn) = (put_out + expected, torn + lines.wrong);
            lost += expected - lines.of(account.lives[0].incarnation).min(expected);
        }
        println!("{BYSTANDERS} that stood by: {put_out} lines put out, {lost} lost, {torn} torn, no restart");
        assert_eq!((lost, torn), (0, 0));
    }
}

/// A small file system, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some(DISK)).ok()?;
        Some(Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until he ends.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
