//! A pretended manager and the real slave: what the slave takes from whom, and what it tells. The pretended one can do
//! what no real leader should: send the past, contradict itself, speak for another cluster.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_model::{
    Assignment, Digest, Generation, HostName, InstanceKey, Item, ProcessName, Revision, RunSpec, Spec, Wanted,
};
use minder_proto::v1::{self, from_slave::Message as FromSlave, slave_server, to_slave::Message as ToSlave};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

const DEADLINE: Duration = Duration::from_secs(20);

/// One stream that the slave has opened.
struct Attended {
    to_slave: mpsc::Sender<Result<v1::ToSlave, Status>>,
    from_slave: mpsc::Receiver<FromSlave>,
}

struct Service {
    attended: mpsc::Sender<Attended>,
}

#[tonic::async_trait]
impl slave_server::Slave for Service {
    type AttendStream = ReceiverStream<Result<v1::ToSlave, Status>>;

    async fn attend(&self, request: Request<Streaming<v1::FromSlave>>) -> Result<Response<Self::AttendStream>, Status> {
        let (to_slave, out) = mpsc::channel(64);
        let (heard, from_slave) = mpsc::channel(1_024);
        let mut stream = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                if let Some(message) = message.message
                    && heard.send(message).await.is_err()
                {
                    return;
                }
            }
        });
        self.attended.send(Attended { to_slave, from_slave }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(out)))
    }

    async fn push_logs(&self, _: Request<Streaming<v1::LogPush>>) -> Result<Response<v1::LogPushReply>, Status> {
        Ok(Response::new(v1::LogPushReply {}))
    }
}

/// A pretended manager with one slave.
struct Stage {
    folder: tempfile::TempDir,
    address: String,
    streams: mpsc::Receiver<Attended>,
    stream: Option<Attended>,
    slave: Option<Child>,
    nonce: u64,
}

impl Stage {
    async fn set() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (attended, streams) = mpsc::channel(8);
        let server =
            tonic::transport::Server::builder().add_service(slave_server::SlaveServer::new(Service { attended }));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Self { folder, address, streams, stream: None, slave: None, nonce: 0 };
        stage.start_slave();
        stage
    }

    fn start_slave(&mut self) {
        let mut slave = Command::new(env!("CARGO_BIN_EXE_minder-slave"))
            .args(["--name", "h", "--managers", &self.address, "--shim", shim().to_str().unwrap(), "--data"])
            .arg(self.folder.path().join("slave"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(slave.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}");
        self.slave = Some(slave);
    }

    fn kill_slave(&mut self) {
        if let Some(mut slave) = self.slave.take() {
            slave.kill().unwrap();
            slave.wait().unwrap();
        }
    }

    /// Takes the slave's next stream and opens a session on it; gives its hello.
    async fn open(&mut self, term: u64) -> v1::Hello {
        self.stream = tokio::time::timeout(DEADLINE, self.streams.recv()).await.unwrap();
        let role =
            v1::Role { leader: true, term, managers: vec![self.address.clone()], leader_address: self.address.clone() };
        self.say(ToSlave::Role(role)).await;
        let hello = self.hear(|message| if let FromSlave::Hello(hello) = message { Some(hello) } else { None }).await;
        let reply = v1::HelloReply { cluster_id: "cluster-1".into(), ..Default::default() };
        self.say(ToSlave::Hello(reply)).await;
        self.hear(|message| if let FromSlave::Report(report) = message { report.full.then_some(()) } else { None })
            .await;
        hello
    }

    async fn say(&self, message: ToSlave) {
        self.stream.as_ref().unwrap().to_slave.send(Ok(v1::ToSlave { message: Some(message) })).await.unwrap();
    }

    /// Waits for a message that `choose` takes, answering heartbeats meanwhile.
    async fn hear<T>(&mut self, mut choose: impl FnMut(FromSlave) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.stream.as_mut().unwrap().from_slave.recv().await.expect("the stream has ended");
                if let FromSlave::Heartbeat(heartbeat) = &message {
                    self.nonce = heartbeat.nonce;
                    self.say(ToSlave::Heartbeat(v1::HeartbeatReply { nonce: heartbeat.nonce })).await;
                }
                if let Some(found) = choose(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("not heard in time")
    }

    async fn assign(&mut self, nonce: u64, assignment: &Assignment, base: Option<&Assignment>, specs: &[&RunSpec]) {
        let delta = minicbor::to_vec(assignment.delta_from(base)).unwrap().into();
        let run_specs = specs.iter().map(|spec| spec.to_bytes().into()).collect();
        self.say(ToSlave::Assignment(v1::Assignment { nonce, delta, run_specs })).await;
    }

    /// Waits for a report that the slave acts on this revision.
    async fn taken(&mut self, revision: u64) {
        self.hear(|message| match message {
            FromSlave::Report(report) => (report.assignment_revision == revision).then_some(()),
            _ => None,
        })
        .await;
    }

    async fn refused(&mut self) -> String {
        self.hear(|message| if let FromSlave::Refused(refused) = message { Some(refused.why) } else { None }).await
    }

    async fn running(&mut self) -> v1::InstanceStatus {
        self.hear(|message| match message {
            FromSlave::Report(report) => {
                report.statuses.into_iter().find(|status| status.phase() == v1::Phase::Running)
            }
            _ => None,
        })
        .await
    }

    async fn fresh_nonce(&mut self) -> u64 {
        self.hear(|message| if let FromSlave::Heartbeat(heartbeat) = message { Some(heartbeat.nonce) } else { None })
            .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill_slave();
        // What it left running is known by its bundle's folder.
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&format!("minder-shim {}", self.folder.path().display())) {
                let pid: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
                minder_shim::tree::kill(pid, std::path::Path::new(""));
                let _ =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// The shim lies beside the slave; `cargo build` makes both.
fn shim() -> std::path::PathBuf {
    let shim = std::path::Path::new(env!("CARGO_BIN_EXE_minder-slave")).with_file_name("minder-shim");
    assert!(shim.exists(), "there is no {}; say cargo build first", shim.display());
    shim
}

fn run_spec(arg: &str) -> RunSpec {
    let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/sleep");
    spec.args = vec![arg.into()];
    spec.start.healthy_after = minder_model::Millis(50);
    spec.resolve(&HostName::new("h").unwrap())
}

fn assignment(revision: u64, spec: Digest, wanted: Wanted) -> Assignment {
    let mut assignment = Assignment::empty(HostName::new("h").unwrap());
    assignment.revision = Revision(revision);
    let zero = Revision::ZERO;
    let item = Item { generation: Generation(1), spec, wanted, restart_at: zero, retry_at: zero, signal: None };
    assignment.items.insert(InstanceKey::parse("app").unwrap(), item);
    assignment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_the_contradictory_and_the_stale_are_refused() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let spec = run_spec("1000");
    let first = assignment(10, spec.digest(), Wanted::Running);
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &first, None, &[&spec]).await;
    let pid = stage.running().await.pid;

    let older = assignment(9, spec.digest(), Wanted::Stopped);
    stage.assign(nonce, &older, None, &[]).await;
    assert_eq!(stage.refused().await, "older");
    let contradiction = assignment(10, spec.digest(), Wanted::Stopped);
    stage.assign(nonce, &contradiction, None, &[]).await;
    assert_eq!(stage.refused().await, "same revision, other content");
    let newer = assignment(11, spec.digest(), Wanted::Stopped);
    stage.assign(nonce, &newer, Some(&older), &[]).await;
    assert_eq!(stage.refused().await, "other base");
    let stale = stage.nonce;
    while stage.fresh_nonce().await < stale + 2 {}
    stage.assign(stale, &newer, None, &[]).await;
    assert_eq!(stage.refused().await, "stale nonce");
    assert!(minder_shim::identity::stat(pid).is_some(), "nothing refused has touched the process");

    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &newer, Some(&first), &[]).await;
    stage.taken(11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_spec_is_asked_for_and_then_started() {
    let mut stage = Stage::set().await;
    stage.open(1).await;
    let spec = run_spec("1001");
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &assignment(5, spec.digest(), Wanted::Running), None, &[]).await;
    let wanted = stage
        .hear(|message| if let FromSlave::SpecsWanted(wanted) = message { Some(wanted.digests) } else { None })
        .await;
    assert_eq!(wanted, [spec.digest().0.to_vec()]);
    stage.say(ToSlave::Specs(v1::RunSpecs { run_specs: vec![spec.to_bytes().into()] })).await;
    assert!(stage.running().await.pid > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_slave_says_what_it_holds_and_keeps_its_cluster() {
    let mut stage = Stage::set().await;
    assert_eq!(stage.open(1).await.cluster_id, "");
    let spec = run_spec("1002");
    let held = assignment(7, spec.digest(), Wanted::Running);
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &held, None, &[&spec]).await;
    let pid = stage.running().await.pid;
    stage.kill_slave();
    stage.start_slave();
    let hello = stage.open(2).await;
    assert_eq!((hello.cluster_id.as_str(), hello.assignment_revision), ("cluster-1", 7));
    assert_eq!(hello.assignment_digest, held.digest().0.to_vec());
    // Nothing was sent again, and the process is the same.
    let newer = Assignment { revision: Revision(8), ..held.clone() };
    let nonce = stage.fresh_nonce().await;
    stage.assign(nonce, &newer, Some(&held), &[]).await;
    stage.taken(8).await;
    assert!(minder_shim::identity::stat(pid).is_some());
}
