//! A pretended manager and the real slave. The pretended one can do what no real leader should: send the past,
//! contradict itself, speak for another cluster.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_model::{
    Assignment, Digest, Generation, HostName, InstanceKey, Item, ProcessName, Revision, RunSpec, Spec, Wanted,
};
use minder_proto::v1::{self, from_slave::Message as FromSlave, slave_server, to_slave::Message as ToSlave};
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::groups::remove_group;

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const CLUSTER: &str = "cluster-1";

/// One stream that the slave has opened.
struct Attended {
    to_slave: mpsc::Sender<Result<v1::ToSlave, Status>>,
    from_slave: mpsc::Receiver<FromSlave>,
}

struct Service {
    attended: mpsc::Sender<Attended>,
    pushed: mpsc::Sender<v1::LogPush>,
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

    async fn push_logs(&self, pushes: Request<Streaming<v1::LogPush>>) -> Result<Response<v1::LogPushReply>, Status> {
        let mut pushes = pushes.into_inner();
        while let Some(Ok(push)) = pushes.next().await {
            self.pushed.send(push).await.unwrap();
        }
        // An empty word tells that this stream has ended.
        self.pushed.send(v1::LogPush::default()).await.unwrap();
        Ok(Response::new(v1::LogPushReply {}))
    }
}

/// The programs of one version.
#[derive(Debug, Clone)]
pub struct Programs {
    pub slave: PathBuf,
    pub shim: PathBuf,
}

impl Programs {
    /// Those of this version. The shim lies beside the slave; `cargo build` makes both.
    pub fn present() -> Self {
        let slave = PathBuf::from(env!("CARGO_BIN_EXE_minder-slave"));
        let shim = slave.with_file_name("minder-shim");
        assert!(shim.exists(), "there is no {}; say cargo build first", shim.display());
        Self { slave, shim }
    }
}

/// A pretended manager with one slave.
pub struct Stage {
    pub programs: Programs,
    pub folder: tempfile::TempDir,
    pub address: String,
    streams: mpsc::Receiver<Attended>,
    stream: Option<Attended>,
    pub slave: Option<Child>,
    pub nonce: u64,
    /// What the reports of this session add up to.
    pub seen: BTreeMap<String, v1::InstanceStatus>,
    pub machine: Option<v1::MachineUsage>,
    pub events: Vec<v1::SlaveEvent>,
    /// Incarnations whose exits each report of this session told.
    pub exits_told: Vec<Vec<u64>>,
    pub pushed: mpsc::Receiver<v1::LogPush>,
    /// What the slave said of its machine when it came last.
    pub facts: v1::MachineFacts,
    /// What the slave was last made to hold.
    pub held: Assignment,
}

const CONFIGURATION: &str = "slave.toml";

fn configured(further: &str) -> String {
    format!("heartbeat_interval_ms = 200\nmachine_interval_ms = 200\n{further}")
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with("").await
    }

    /// With further lines in the slave's configuration.
    pub async fn set_with(configuration: &str) -> Self {
        Self::set_by(Programs::present(), configuration).await
    }

    /// By programs of another version.
    pub async fn set_by(programs: Programs, configuration: &str) -> Self {
        let mut stage = Self::set_without_slave(programs, configuration).await;
        stage.start_slave();
        stage
    }

    /// Everything but the slave.
    pub async fn set_without_slave(programs: Programs, configuration: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (attended, streams) = mpsc::channel(8);
        let (push, pushed) = mpsc::channel(1_024);
        let service = slave_server::SlaveServer::new(Service { attended, pushed: push });
        let server = tonic::transport::Server::builder().add_service(service);
        // As managers do, without the kernel's waiting for more to send.
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(server.serve_with_incoming(incoming));
        let folder = tempfile::tempdir().unwrap();
        let configuration = configured(configuration);
        fs::write(folder.path().join(CONFIGURATION), configuration).unwrap();
        Self {
            programs,
            folder,
            address,
            streams,
            stream: None,
            slave: None,
            nonce: 0,
            seen: BTreeMap::new(),
            machine: None,
            events: Vec::new(),
            exits_told: Vec::new(),
            pushed,
            facts: v1::MachineFacts::default(),
            held: Assignment::empty(host()),
        }
    }

    /// With other further lines from its next start on.
    pub fn configure(&self, configuration: &str) {
        fs::write(self.folder.path().join(CONFIGURATION), configured(configuration)).unwrap();
    }

    pub fn start_slave(&mut self) {
        let managers = self.address.clone();
        self.start_slave_with(&managers);
    }

    /// A slave that may die before it is ready, with a variable of its own.
    pub fn spawn_slave(&mut self, variable: Option<(&str, String)>) {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("slave.log")).unwrap();
        let mut command = self.command(&self.address);
        command.envs(variable).stdout(Stdio::null()).stderr(log);
        self.slave = Some(command.spawn().unwrap());
    }

    /// A slave whose managers are all gone.
    pub fn start_slave_alone(&mut self) {
        // Nothing listens on port 1.
        self.start_slave_with("127.0.0.1:1");
    }

    /// A slave of these managers, separated by commas.
    pub fn start_slave_with(&mut self, managers: &str) {
        let log = self.folder.path().join("slave.log");
        let errors = fs::File::create(&log).unwrap();
        let mut slave = self.command(managers).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(slave.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}{}", fs::read_to_string(log).unwrap());
        self.slave = Some(slave);
    }

    pub fn command(&self, managers: &str) -> Command {
        let mut command = Command::new(&self.programs.slave);
        command.arg("--config").arg(self.folder.path().join(CONFIGURATION));
        command.args(["--name", "h", "--managers", managers, "--shim"]).arg(&self.programs.shim);
        command.arg("--data").arg(self.data());
        command
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("slave")
    }

    pub fn kill_slave(&mut self) {
        self.stream = None;
        if let Some(mut slave) = self.slave.take() {
            slave.kill().unwrap();
            slave.wait().unwrap();
        }
    }

    /// Takes the slave's next stream and opens a session on it; gives its hello.
    pub async fn open(&mut self, term: u64) -> v1::Hello {
        let hello = self.lead(term, CLUSTER).await;
        self.hear(|message| if let FromSlave::Report(report) = message { report.full.then_some(()) } else { None })
            .await;
        hello
    }

    /// Takes the slave's next stream and leads a cluster on it.
    pub async fn lead(&mut self, term: u64, cluster: &str) -> v1::Hello {
        self.next_stream().await;
        self.claim(term, cluster).await
    }

    /// Takes the slave's next stream.
    pub async fn next_stream(&mut self) {
        // What an attempt before this one left behind is passed over.
        self.stream = None;
        self.stream = tokio::time::timeout(DEADLINE, self.streams.recv()).await.unwrap();
    }

    /// Says that it leads, on the stream that there is, and welcomes whoever believes it.
    pub async fn claim(&mut self, term: u64, cluster: &str) -> v1::Hello {
        let hello = self.claim_only(term).await;
        self.welcome(cluster).await;
        hello
    }

    /// Says that it leads, and is told who is there.
    pub async fn claim_only(&mut self, term: u64) -> v1::Hello {
        let role =
            v1::Role { leader: true, term, managers: vec![self.address.clone()], leader_address: self.address.clone() };
        self.say(ToSlave::Role(role)).await;
        let hello = self.hear(|message| if let FromSlave::Hello(hello) = message { Some(hello) } else { None }).await;
        self.facts = hello.facts.clone().unwrap_or_default();
        hello
    }

    /// Takes in whoever has said hello.
    pub async fn welcome(&mut self, cluster: &str) {
        let reply = v1::HelloReply { cluster_id: cluster.into(), ..Default::default() };
        self.say(ToSlave::Hello(reply)).await;
    }

    /// Takes the slave's newest stream, if it has opened one, and claims to lead on it. `false` without one.
    pub async fn take_stream(&mut self, term: u64) -> bool {
        while let Ok(stream) = self.streams.try_recv() {
            self.stream = Some(stream);
            let managers = vec![self.address.clone()];
            let role = v1::Role { leader: true, term, managers, leader_address: self.address.clone() };
            self.try_say(ToSlave::Role(role)).await;
        }
        self.stream.is_some()
    }

    /// Says something to a slave that may be dead.
    pub async fn try_say(&self, message: ToSlave) {
        if let Some(stream) = &self.stream {
            let _ = stream.to_slave.send(Ok(v1::ToSlave { message: Some(message) })).await;
        }
    }

    pub async fn say(&self, message: ToSlave) {
        self.stream.as_ref().unwrap().to_slave.send(Ok(v1::ToSlave { message: Some(message) })).await.unwrap();
    }

    /// Waits for a message that `choose` takes, answering heartbeats meanwhile.
    pub async fn hear<T>(&mut self, mut choose: impl FnMut(FromSlave) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.next().await;
                if let Some(found) = choose(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("not heard in time")
    }

    /// Waits until what was heard is as `choose` wants it.
    pub async fn until<T>(&mut self, what: &str, choose: impl FnMut(&Self) -> Option<T>) -> T {
        self.until_within(DEADLINE, what, choose).await
    }

    /// Likewise, for what takes its time by design.
    pub async fn until_within<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        mut choose: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let begin = std::time::Instant::now();
        loop {
            if let Some(found) = choose(self) {
                return found;
            }
            let left = deadline.saturating_sub(begin.elapsed());
            let heard = tokio::time::timeout(left, self.next()).await;
            assert!(heard.is_ok(), "not in time: {what}; seen {:?}", self.seen);
        }
    }

    async fn next(&mut self) -> FromSlave {
        self.try_next().await.expect("the stream has ended")
    }

    /// The next message; `None` when the stream has ended.
    pub async fn try_next(&mut self) -> Option<FromSlave> {
        let Some(message) = self.stream.as_mut()?.from_slave.recv().await else {
            self.stream = None;
            return None;
        };
        match &message {
            FromSlave::Heartbeat(heartbeat) => {
                self.nonce = heartbeat.nonce;
                self.try_say(ToSlave::Heartbeat(v1::HeartbeatReply { nonce: heartbeat.nonce })).await;
            }
            FromSlave::Report(report) => {
                if report.full {
                    self.seen.clear();
                    self.exits_told.clear();
                }
                for status in &report.statuses {
                    self.exits_told.push(status.exits.iter().map(|exit| exit.incarnation).collect());
                    self.see(status.clone());
                }
                for gone in &report.gone {
                    self.seen.remove(&if gone.contains(':') { gone.clone() } else { format!("{gone}:1") });
                }
            }
            FromSlave::Machine(machine) => self.machine = machine.usage.clone(),
            FromSlave::Events(events) => self.events.extend(events.events.iter().cloned()),
            FromSlave::Hello(_)
            | FromSlave::Refused(_)
            | FromSlave::SpecsWanted(_)
            | FromSlave::Presence(_)
            | FromSlave::History(_) => {}
        }
        Some(message)
    }

    /// Takes a status in as a manager does.
    fn see(&mut self, mut status: v1::InstanceStatus) {
        let key = format!("{}:{}", status.process, status.index);
        if status.exits_added {
            let before = self.seen.get(&key).map(|before| before.exits.clone()).unwrap_or_default();
            let added = std::mem::replace(&mut status.exits, before);
            status.exits.extend(added);
            let kept = status.exits.len().saturating_sub(minder_model::EXITS_KEPT_MAX);
            status.exits.drain(..kept);
            let old = status.exits.len().saturating_sub(minder_model::EXITS_WITH_OUTPUT_MAX);
            for exit in &mut status.exits[..old] {
                (exit.last_stdout, exit.last_stderr) = Default::default();
            }
        }
        self.seen.insert(key, status);
    }

    pub async fn assign(&mut self, nonce: u64, assignment: &Assignment, base: Option<&Assignment>, specs: &[&RunSpec]) {
        let delta = minicbor::to_vec(assignment.delta_from(base)).unwrap().into();
        let run_specs = specs.iter().map(|spec| spec.to_bytes().into()).collect();
        self.say(ToSlave::Assignment(v1::Assignment { nonce, delta, run_specs })).await;
    }

    /// Makes the slave hold a changed assignment, at the next revision; gives that.
    pub async fn want(&mut self, specs: &[&RunSpec], change: impl FnOnce(&mut Assignment)) -> Revision {
        let before = self.held.clone();
        self.held.revision = Revision(before.revision.0 + 1);
        change(&mut self.held);
        let (held, wanted) = (self.held.clone(), self.held.revision.0);
        // Under the latest heartbeat's, as a manager does.
        let mut nonce = if self.nonce > 0 { self.nonce } else { self.fresh_nonce().await };
        loop {
            self.assign(nonce, &held, Some(&before).filter(|base| base.revision > Revision::ZERO), specs).await;
            let taken = self
                .hear(|message| match message {
                    FromSlave::Report(report) if report.assignment_revision == wanted => Some(true),
                    // On a busy machine two heartbeats may have gone by.
                    FromSlave::Refused(refused) => {
                        assert_eq!(refused.why, "stale nonce");
                        Some(false)
                    }
                    _ => None,
                })
                .await;
            if taken {
                return Revision(wanted);
            }
            nonce = self.fresh_nonce().await;
        }
    }

    /// Assigns these specs as well, to run.
    pub async fn start(&mut self, specs: &[&RunSpec]) {
        self.want(specs, |assignment| {
            for spec in specs {
                let key = InstanceKey::new(spec.spec().name.clone(), 1);
                assignment.items.insert(key, item(spec.digest(), Wanted::Running));
            }
        })
        .await;
    }

    /// Changes one instance's item.
    pub async fn change(&mut self, name: &str, change: impl FnOnce(Revision, &mut Item)) {
        self.want(&[], |assignment| {
            let revision = assignment.revision;
            change(revision, assignment.items.get_mut(&InstanceKey::parse(name).unwrap()).unwrap());
        })
        .await;
    }

    /// Waits until an instance is in this phase; gives its status.
    pub async fn phase(&mut self, name: &str, phase: v1::Phase) -> v1::InstanceStatus {
        let key = format!("{name}:1");
        self.until(&format!("{name} is {phase:?}"), |stage| {
            stage.seen.get(&key).filter(|status| status.phase() == phase).cloned()
        })
        .await
    }

    pub async fn refused(&mut self) -> String {
        self.hear(|message| if let FromSlave::Refused(refused) = message { Some(refused.why) } else { None }).await
    }

    pub async fn fresh_nonce(&mut self) -> u64 {
        self.hear(|message| if let FromSlave::Heartbeat(heartbeat) = message { Some(heartbeat.nonce) } else { None })
            .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill_slave();
        // What it left running is known by its bundle's folder.
        for pid in shims(&self.data()) {
            minder_shim::tree::kill(pid, Path::new(""));
            kill(pid, Signal::SIGKILL);
        }
        remove_group(&self.data());
    }
}

/// The shims that work below a folder; not the one that waits for something to run.
pub fn shims(folder: &Path) -> Vec<u32> {
    let spare = format!("minder-shim {}/spare/", folder.display());
    let begin = format!("minder-shim {}", folder.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let shims = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&begin) && !line.contains(&spare)
    });
    shims.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

/// Sends a signal to a process that may be gone.
pub fn kill(pid: u32, signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid as i32), signal);
}

/// Whether a process lives; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).is_some_and(|state| state != 'Z')
}

/// Processes that were given this as a variable of their environment, and what they have become since.
pub fn marked(variable: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has).filter(|pid| is_alive(*pid)).collect()
}

/// Waits for something that no report tells.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn host() -> HostName {
    HostName::new("h").unwrap()
}

/// A spec that counts as running soon and is restarted soon.
pub fn spec(name: &str, command: &str, args: &[&str]) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), command);
    spec.args = args.iter().map(ToString::to_string).collect();
    spec.start.healthy_after = minder_model::Millis(50);
    spec.restart.delay = minder_model::Millis(50);
    spec.restart.jitter_percent = 0;
    spec
}

pub fn item(spec: Digest, wanted: Wanted) -> Item {
    let zero = Revision::ZERO;
    Item { generation: Generation(1), spec, wanted, restart_at: zero, retry_at: zero, signal: None, start_at: zero }
}
