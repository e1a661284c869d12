//! The way in for people on the machine itself, with or without managers: a unix socket in the data folder. Its mode
//! keeps strangers out, and every call looks at who its peer is.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use futures::Stream;
use minder_model::{
    ClusterId, HostName, InstanceKey, MESSAGE_BYTES_MAX, MachineFacts, MachineUsage, Selection, Wanted, host_warnings,
    owed_by,
};
use minder_proto::{
    convert::status::{instance_status_to_wire, process_usage_to_wire},
    v1::{self, LocalOrderKind, local_server},
};
use minder_supervisor::{LocalOrder, LocalRefusal};
use nix::unistd::Gid;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::UdsConnectInfo},
};

use crate::{
    host::{HostHandle, Listed, Local, Message},
    logs,
    os::peer::Allowed,
};

/// The socket's name in the data folder.
const SOCKET: &str = "control.sock";
/// Nobody but its owner and its group reaches the socket.
const SOCKET_MODE: u32 = 0o660;
/// Instances whose output is read locally at once: each costs a task and open files.
const LOGS_MAX: usize = 200;
/// Past lines a request may ask for of each instance, as with the managers.
const TAIL_LINES_MAX: u32 = 100_000;
/// Pieces of output waiting for one reader.
const QUEUE: usize = 16;
/// Calls at a time through one connection: a person has one or two.
const CALLS_MAX: usize = 32;

/// What local calls are answered from.
pub struct LocalService {
    name: HostName,
    allowed: Allowed,
    host: HostHandle,
    machine: watch::Receiver<Option<MachineUsage>>,
    facts: MachineFacts,
    logs: Box<dyn Fn(&InstanceKey) -> PathBuf + Send + Sync>,
    readers: Arc<Semaphore>,
}

/// Opens the socket in the data folder, for its owner and for `group`. The path goes through a descriptor, for a
/// socket's path may be too long otherwise. What lies there is of a slave before this one: the folder is held.
pub fn listen(data: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
    let socket = data.join(SOCKET);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let folder = File::open(data)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    fs::set_permissions(&socket, Permissions::from_mode(SOCKET_MODE))?;
    if let Some(group) = group {
        std::os::unix::fs::chown(&socket, None, Some(group.as_raw()))?;
    }
    Ok(listener)
}

impl LocalService {
    /// What local calls will be answered from.
    pub fn new(
        name: HostName,
        group: Option<Gid>,
        host: HostHandle,
        machine: watch::Receiver<Option<MachineUsage>>,
        facts: MachineFacts,
        logs: Box<dyn Fn(&InstanceKey) -> PathBuf + Send + Sync>,
    ) -> Self {
        let readers = Arc::new(Semaphore::new(LOGS_MAX));
        Self { name, allowed: Allowed { group }, host, machine, facts, logs, readers }
    }

    /// Answers for ever.
    pub async fn serve(self, listener: UnixListener) {
        let service = local_server::LocalServer::new(self).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let server = Server::builder().concurrency_limit_per_connection(CALLS_MAX).add_service(service);
        if let Err(error) = server.serve_with_incoming(UnixListenerStream::new(listener)).await {
            tracing::error!(%error, "local orders are not taken any more; the slave goes on without");
        }
    }

    /// The name of the caller, who is allowed to be one.
    fn caller<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let info = request.extensions().get::<UdsConnectInfo>();
        let peer = info
            .and_then(|info| info.peer_cred)
            .ok_or_else(|| Status::permission_denied("the kernel does not say who calls"))?;
        // The system's user table may be far away.
        let name = tokio::task::block_in_place(|| self.allowed.name_of(peer.uid(), peer.gid()));
        name.ok_or_else(|| {
            Status::permission_denied(format!(
                "uid {} may give no orders on this machine: be root, the user of minder-slave, or a member of its \
                 local_group",
                peer.uid()
            ))
        })
    }

    async fn ask<T>(&self, local: Local, answer: oneshot::Receiver<T>) -> Result<T, Status> {
        let gone = |_| Status::unavailable("the slave is ending");
        self.host.inbox.send(Message::Local(local)).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }

    async fn list_instances(&self, selection: Selection) -> Result<Vec<v1::Instance>, Status> {
        let (reply, answer) = oneshot::channel();
        let listed = self.ask(Local::List { selection, reply }, answer).await?;
        let machine = self.machine.borrow().clone();
        Ok(listed.iter().map(|listed| self.to_wire(listed, machine.as_ref())).collect())
    }

    /// As managers would show it; what an instance that is not assigned any more owes is to be gone.
    fn to_wire(&self, Listed { item, status, resources }: &Listed, machine: Option<&MachineUsage>) -> v1::Instance {
        let owed = item.as_ref().map_or(Some(minder_model::OwedWhy::Remove), |item| owed_by(item, Some(status)));
        let text = status.key.to_string();
        let strays = machine.map(|machine| machine.strays.as_slice()).unwrap_or_default();
        let warnings = host_warnings(&status.key, *resources, &self.facts, strays);
        // The last sample may be of a process that has ended since.
        let machine = machine.filter(|_| status.pid > 0);
        let usage = machine.and_then(|usage| usage.processes.iter().find(|usage| usage.instance == text));
        v1::Instance {
            name: Some(self.name_of(&status.key)),
            wanted_running: item.is_some_and(|item| item.wanted == Wanted::Running),
            generation_wanted: item.map_or(status.generation, |item| item.generation).0,
            status: Some(instance_status_to_wire(status)),
            owed: owed.map_or("", minder_model::OwedWhy::word).into(),
            usage: usage.map(process_usage_to_wire),
            warnings,
            ..Default::default()
        }
    }

    fn name_of(&self, key: &InstanceKey) -> v1::InstanceName {
        v1::InstanceName { host: self.name.to_string(), process: key.process.to_string(), index: key.index }
    }
}

#[tonic::async_trait]
impl local_server::Local for LocalService {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

    async fn list(&self, request: Request<v1::LocalListRequest>) -> Result<Response<v1::LocalListReply>, Status> {
        self.caller(&request)?;
        let instances = self.list_instances(selection(request.into_inner().selection)?).await?;
        Ok(Response::new(v1::LocalListReply { host: self.name.to_string(), instances }))
    }

    async fn order(&self, request: Request<v1::LocalOrderRequest>) -> Result<Response<v1::LocalOrderReply>, Status> {
        let by = self.caller(&request)?;
        let request = request.into_inner();
        let order = match request.kind() {
            LocalOrderKind::Stop => LocalOrder::Stop,
            LocalOrderKind::Start => LocalOrder::Start,
            LocalOrderKind::Restart => LocalOrder::Restart,
            LocalOrderKind::Unspecified => return Err(Status::invalid_argument("kind: is missing")),
        };
        let (reply, answer) = oneshot::channel();
        let selection = selection(request.selection)?;
        tracing::info!(user = by, ?order, "local order");
        let ordered = self.ask(Local::Order { order, selection, by, reply }, answer).await?;
        if !ordered.unmatched.is_empty() {
            let terms = ordered.unmatched.join(", ");
            return Err(Status::not_found(format!("nothing on this host matches {terms}; nothing was changed")));
        }
        Ok(Response::new(v1::LocalOrderReply {
            instances: ordered.told.iter().map(|key| self.name_of(key)).collect(),
            refused: ordered.refused.iter().map(|(key, why)| refusal(self.name_of(key), *why)).collect(),
        }))
    }

    async fn accept_cluster(
        &self,
        request: Request<v1::LocalAcceptClusterRequest>,
    ) -> Result<Response<v1::LocalAcceptClusterReply>, Status> {
        let by = self.caller(&request)?;
        let cluster = ClusterId::new(request.into_inner().cluster_id)
            .map_err(|error| Status::invalid_argument(format!("cluster_id: {error}")))?;
        tracing::warn!(user = by, %cluster, "moving to another cluster");
        let (reply, answer) = oneshot::channel();
        let accepted = self.ask(Local::Accept { cluster, by, reply }, answer).await?;
        Ok(Response::new(v1::LocalAcceptClusterReply {
            before: accepted.before.map(|before| before.to_string()).unwrap_or_default(),
            instances: accepted.instances as u64,
        }))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        self.caller(&request)?;
        let request = request.into_inner();
        if !matches!(request.stream.as_str(), "" | "stdout" | "stderr") {
            return Err(Status::invalid_argument(format!("stream: {:?} is neither stdout nor stderr", request.stream)));
        }
        if request.tail_lines > TAIL_LINES_MAX {
            return Err(Status::invalid_argument(format!("tail_lines: is above the limit of {TAIL_LINES_MAX}")));
        }
        let instances = self.list_instances(selection(request.selection)?).await?;
        let names: Vec<v1::InstanceName> = instances.into_iter().filter_map(|instance| instance.name).collect();
        if names.is_empty() {
            return Err(Status::not_found("nothing on this host matches the selection"));
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        for name in names {
            let permit = self.readers.clone().try_acquire_owned().map_err(|_| {
                Status::resource_exhausted(format!(
                    "output of {LOGS_MAX} instances is being read; narrow the selection"
                ))
            })?;
            let order = v1::LogOrder {
                process: name.process.clone(),
                index: name.index,
                tail_lines: request.tail_lines,
                follow: request.follow,
                stream: request.stream.clone(),
                ..Default::default()
            };
            let process = minder_model::ProcessName::new(name.process.clone())
                .map_err(|error| Status::internal(error.to_string()))?;
            let pieces = logs::read_to_queue(order, (self.logs)(&InstanceKey::new(process, name.index)));
            let sender = sender.clone();
            tokio::spawn(async move {
                pass_on(name, pieces, sender).await;
                drop(permit);
            });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Marks each piece with its instance, until either side ends.
async fn pass_on(
    name: v1::InstanceName,
    mut pieces: mpsc::Receiver<v1::LogPush>,
    sender: mpsc::Sender<Result<v1::LogChunk, Status>>,
) {
    loop {
        // Both may be dropped at their await: the queue keeps what it holds, and a closed reader stays closed.
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = sender.closed() => None,
        };
        let Some(v1::LogPush { stream, data, error, incarnation, .. }) = piece else { return };
        let chunk = v1::LogChunk { instance: Some(name.clone()), stream, data, error, incarnation };
        if sender.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
}

/// What is meant; nothing said means everything.
fn selection(wire: Option<v1::Selection>) -> Result<Selection, Status> {
    let wire = wire.unwrap_or_default();
    if !wire.labels.is_empty() {
        return Err(Status::invalid_argument("labels are known to managers only; write names"));
    }
    match wire.all {
        true => Ok(Selection::all()),
        false => Selection::parse(&wire.terms, &wire.labels)
            .map_err(|error| Status::invalid_argument(format!("selection: {error}"))),
    }
}

fn refusal(instance: v1::InstanceName, why: LocalRefusal) -> v1::LocalRefusal {
    let why = match why {
        LocalRefusal::NotAssigned => "the managers have not assigned it, or not any more",
        LocalRefusal::WantedStopped => "the managers want it stopped; only they can start it, with `minderctl start`",
    };
    v1::LocalRefusal { instance: Some(instance), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_long_path_an_old_socket_and_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a-long-name".repeat(20));
        fs::create_dir(&data).unwrap();
        let group = nix::unistd::Gid::effective();
        drop(listen(&data, None).unwrap());
        let _listener = listen(&data, Some(group)).unwrap();
        let metadata = fs::metadata(data.join(SOCKET)).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid()), (SOCKET_MODE, group.as_raw()));
        let folder = File::open(&data).unwrap();
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        tokio::net::UnixStream::connect(path).await.unwrap();
    }
}
