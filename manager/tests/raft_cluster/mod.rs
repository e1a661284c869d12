//! Managers as processes: the means of the consensus tests. Whatever is started here ends with its guard.
#![allow(dead_code)]

pub mod follower;
pub mod hold;
pub mod muffle;

use std::{
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use minder_proto::v1::{self, control_client::ControlClient, peer_client::PeerClient};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

/// Every wait ends within this, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// One try of a call.
const CALL: Duration = Duration::from_millis(1_500);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs one test alone: several clusters at once on few cores would measure each other.
pub fn run(test: impl Future<Output = ()>) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// A loopback address of this test process's own. A manager that restarts finds its port free, because nobody else
/// binds here and the kernel takes outgoing ports at 127.0.0.1.
pub fn own_loopback() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low.max(1))
}

/// A manager's process and what it needs to be started again.
pub struct Manager {
    folder: TempDir,
    settings: String,
    listen: String,
    pub peer_listen: String,
    pub peer_advertise: Option<String>,
    pub environment: Vec<(&'static str, PathBuf)>,
    child: Option<Child>,
    channel: Option<Channel>,
}

impl Manager {
    /// Starts a manager with an empty folder and these lines of configuration.
    pub fn start(settings: &str) -> Self {
        let mut manager = Self::prepare(settings);
        manager.restart();
        manager
    }

    /// A manager that is not started yet.
    pub fn prepare(settings: &str) -> Self {
        let free = format!("{}:0", own_loopback());
        Self {
            folder: tempfile::tempdir().unwrap(),
            settings: settings.into(),
            listen: free.clone(),
            peer_listen: free,
            peer_advertise: None,
            environment: Vec::new(),
            child: None,
            channel: None,
        }
    }

    /// Starts the process (again) and waits until it says that it is ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let config = self.folder.path().join("manager.toml");
        std::fs::write(&config, &self.settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_minder-manager"));
        command.arg("--config").arg(config).arg("--data").arg(self.data());
        command.args(["--listen", &self.listen, "--peer-listen", &self.peer_listen]);
        if let Some(advertise) = &self.peer_advertise {
            command.args(["--peer-advertise", advertise]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{}", self.log());
        self.listen = words.next().unwrap().trim_start_matches("client=").into();
        let peer = words.next().unwrap().trim_start_matches("peer=").to_owned();
        if self.peer_advertise.is_none() {
            self.peer_listen = peer;
        }
        self.channel = Some(minder_proto::dial::endpoint(&self.listen).unwrap().connect_lazy());
        self.child = Some(child);
    }

    /// From the next start on it listens somewhere else.
    pub fn move_away(&mut self) {
        let free = format!("{}:0", own_loopback());
        self.listen = free.clone();
        self.peer_listen = free;
    }

    /// A manager with a copy of another one's folder, which must not run while it is copied. Not started yet.
    pub fn copy_of(other: &Self) -> Self {
        assert!(!other.runs());
        let copy = Self::prepare(&other.settings);
        let copied = Command::new("cp").arg("-r").arg(other.data()).arg(copy.data()).status().unwrap();
        assert!(copied.success());
        copy
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(self.log_path()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn client_address(&self) -> &str {
        &self.listen
    }

    /// The address that the other managers are told.
    pub fn peer_address(&self) -> &str {
        self.peer_advertise.as_deref().unwrap_or(&self.peer_listen)
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.wait_for_exit().success(), "{}", self.log());
    }

    /// Waits until the process has ended by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begin.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it does not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it stands, by its own word.
    pub async fn status(&self) -> Result<v1::ManagerStatus, Status> {
        let request = v1::GetManagersRequest { local: true };
        let mut control = self.control();
        let reply = tokio::time::timeout(CALL, control.get_managers(request));
        let reply = reply.await.map_err(|_| Status::deadline_exceeded("in this test"))??.into_inner();
        Ok(reply.managers.into_iter().next().unwrap())
    }

    pub async fn init(&self, peers: Vec<String>) -> Result<v1::InitReply, Status> {
        let reply = self.control().init(v1::InitRequest { peer_addresses: peers }).await?;
        Ok(reply.into_inner())
    }

    /// Its node id, by its own word.
    pub async fn id(&self) -> u64 {
        self.status().await.unwrap().member.unwrap().id
    }

    /// Adds the manager at this peer address through this one. Gives all steps.
    pub async fn add(&self, peer_address: &str, replaces: &str) -> Result<Vec<v1::MembershipProgress>, Status> {
        let request = v1::AddManagerRequest { peer_address: peer_address.into(), replaces: replaces.into() };
        steps(self.control().add_manager(request).await?.into_inner()).await
    }

    pub async fn remove(&self, manager: impl ToString) -> Result<Vec<v1::MembershipProgress>, Status> {
        let request = v1::RemoveManagerRequest { manager: manager.to_string() };
        steps(self.control().remove_manager(request).await?.into_inner()).await
    }

    pub async fn promote(&self, manager: impl ToString) -> Result<Vec<v1::MembershipProgress>, Status> {
        let request = v1::PromoteManagerRequest { manager: manager.to_string() };
        steps(self.control().promote_manager(request).await?.into_inner()).await
    }

    pub async fn demote(&self, manager: impl ToString) -> Result<Vec<v1::MembershipProgress>, Status> {
        let request = v1::DemoteManagerRequest { manager: manager.to_string() };
        steps(self.control().demote_manager(request).await?.into_inner()).await
    }

    /// The cluster's id, as this manager knows it.
    pub async fn cluster_id(&self) -> String {
        let request = v1::GetManagersRequest { local: true };
        self.control().get_managers(request).await.unwrap().into_inner().cluster_id
    }

    /// What its peers ask of it.
    pub fn peer(&self) -> PeerClient<Channel> {
        PeerClient::new(minder_proto::dial::endpoint(self.peer_address()).unwrap().connect_lazy())
    }

    /// Gives it an identity, as a leader does.
    pub async fn adopt(&self, cluster_id: &str, node_id: u64) {
        let request = v1::AdoptRequest { cluster_id: cluster_id.into(), node_id };
        self.peer().adopt(request).await.unwrap();
    }

    /// All managers as this one knows them.
    pub async fn managers(&self) -> Vec<v1::ManagerStatus> {
        let request = v1::GetManagersRequest::default();
        self.control().get_managers(request).await.unwrap().into_inner().managers
    }

    /// One write, tried once: process `name` on a host of its own that nobody has.
    pub async fn write(&self, name: &str) -> Result<v1::Position, Status> {
        let spec = v1::ProcessSpec {
            name: name.into(),
            command: "/bin/true".into(),
            hosts: vec![format!("host-of-{name}")],
            ..Default::default()
        };
        let options = v1::WriteOptions { request_id: format!("write-{name}"), ..Default::default() };
        let request = v1::ApplyRequest { specs: vec![spec], options: Some(options) };
        let mut control = self.control();
        let reply = tokio::time::timeout(CALL, control.apply(request));
        let reply = reply.await.map_err(|_| Status::deadline_exceeded("in this test"))??.into_inner();
        Ok(reply.position.unwrap())
    }

    /// The names of all processes in this manager's own state.
    pub async fn names(&self) -> Vec<String> {
        let stale = v1::ReadOptions { stale: true };
        let request = v1::GetProcessesRequest { options: Some(stale), ..Default::default() };
        let reply = self.control().get_processes(request).await.unwrap().into_inner();
        reply.processes.into_iter().filter_map(|process| process.spec).map(|spec| spec.name).collect()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- end of the log of {}", self.listen);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Some managers of one cluster.
pub struct Cluster {
    pub managers: Vec<Manager>,
    written: usize,
}

impl Cluster {
    /// Three managers in one new cluster.
    pub async fn form(settings: &str) -> Self {
        Self::of((0..3).map(|_| Manager::start(settings)).collect()).await
    }

    /// These managers in one new cluster.
    pub async fn of(managers: Vec<Manager>) -> Self {
        let peers = managers.iter().map(|manager| manager.peer_address().to_owned()).collect();
        managers[0].init(peers).await.unwrap();
        let cluster = Self { managers, written: 0 };
        cluster.leader().await;
        cluster
    }

    /// The position of the one that leads, once there is one that runs.
    pub async fn leader(&self) -> usize {
        let begin = Instant::now();
        while begin.elapsed() < DEADLINE {
            for (at, manager) in self.managers.iter().enumerate().filter(|(_, manager)| manager.runs()) {
                if manager.status().await.is_ok_and(|status| status.role == "leader") {
                    return at;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody leads within {DEADLINE:?}");
    }

    /// The positions of those that run and do not lead.
    pub async fn followers(&self) -> Vec<usize> {
        let leader = self.leader().await;
        (0..self.managers.len()).filter(|at| *at != leader && self.managers[*at].runs()).collect()
    }

    /// Writes one more process through whoever takes it, as a client would: asking again until it is acknowledged.
    pub async fn write(&mut self) -> Duration {
        self.written += 1;
        let name = format!("p{}", self.written);
        let begin = Instant::now();
        for manager in self.managers.iter().filter(|manager| manager.runs()).cycle() {
            match manager.write(&name).await {
                Ok(_) => return begin.elapsed(),
                Err(status) => assert!(begin.elapsed() < DEADLINE, "{name} is not acknowledged: {status}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        unreachable!("nobody runs");
    }

    pub async fn write_many(&mut self, count: usize) {
        for _ in 0..count {
            self.write().await;
        }
    }

    /// Waits until all managers that run stand at the same entry, then checks that they hold the same state, byte for
    /// byte, with every acknowledged write in it.
    pub async fn check_in_step(&self) {
        let running: Vec<&Manager> = self.managers.iter().filter(|manager| manager.runs()).collect();
        let begin = Instant::now();
        loop {
            let statuses = futures::future::join_all(running.iter().map(|manager| manager.status())).await;
            let statuses: Vec<v1::ManagerStatus> = statuses.into_iter().filter_map(Result::ok).collect();
            let first = &statuses[0];
            if statuses.len() == running.len()
                && statuses.iter().all(|status| {
                    status.applied_index == first.applied_index && status.applied_index == status.last_log_index
                })
            {
                assert!(statuses.iter().all(|status| status.state_hash == first.state_hash), "{statuses:?}");
                break;
            }
            assert!(begin.elapsed() < DEADLINE, "not in step: {statuses:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for manager in running {
            let names = manager.names().await;
            for written in 1..=self.written {
                let name = format!("p{written}");
                assert!(names.contains(&name), "{} lost the acknowledged {name}", manager.client_address());
            }
        }
    }

    /// The highest term anybody is in.
    pub async fn term(&self) -> u64 {
        let mut term = 0;
        for manager in self.managers.iter().filter(|manager| manager.runs()) {
            term = term.max(manager.status().await.unwrap().term);
        }
        term
    }
}

async fn steps(mut stream: tonic::Streaming<v1::MembershipProgress>) -> Result<Vec<v1::MembershipProgress>, Status> {
    let mut steps = Vec::new();
    while let Some(step) = stream.message().await? {
        steps.push(step);
    }
    assert!(steps.last().is_some_and(|last| last.done), "{steps:?}");
    Ok(steps)
}

/// Waits until a condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
