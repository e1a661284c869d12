//! The life of a manager process: open, serve, follow leadership, stop in order.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt, future::join_all};
use minder_model::{MESSAGE_BYTES_MAX, RequestId};
use minder_proto::{FILE_DESCRIPTOR_SET, isolation::Isolated, v1};
use minder_state::{Command, Expect, Proposal};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    signal::unix::SignalKind,
    sync::watch,
    task::JoinHandle,
};
use tonic::transport::{
    Server,
    server::{Connected, TcpIncoming},
};

use crate::{
    attend::SlaveService,
    busy::Places,
    clock::wall_ms,
    control::{ControlService, Room},
    core::{self, Core},
    fleet::Fleet,
    forward::{ForwardLayer, Leader},
    gathered::Gathered,
    history::History,
    line::ManagerLineLayer,
    logs::LogBroker,
    presence::Presences,
    raft::{Addresses, Node, PeerService},
    settings::Settings,
    silence,
};

/// A client that sends nothing is asked whether it lives this often, and dropped when it does not answer as long.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Calls that one connection may have open at once.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// A manager that was paused finds the heartbeats of a minute, each given up by its sender. On other ports so many calls at
/// once that nobody waits for are an attack, and end the connection.
const BEATS_GIVEN_UP_MAX: usize = 1_200;
/// How long open calls may take to end when the process stops; streams do not end by themselves.
const DRAIN_DEADLINE: Duration = Duration::from_millis(500);

/// Backups that are saved from one manager at once: each holds a thread while somebody reads it.
const BACKUPS_MAX: usize = 2;

/// Why the process ends with an error.
pub struct End {
    /// What the process exits with.
    pub exit_code: u8,
    /// What went wrong and what to do.
    pub message: String,
}

impl End {
    fn start(problem: impl std::fmt::Display) -> Self {
        Self { exit_code: 1, message: problem.to_string() }
    }
}

/// Runs a manager until a signal or a fault ends it.
pub async fn run(settings: Settings) -> Result<(), End> {
    let (client_listener, client) = bind("--listen", settings.listen, settings.advertise.as_deref()).await?;
    let (peer_listener, peer) = bind("--peer-listen", settings.peer_listen, settings.peer_advertise.as_deref()).await?;
    let clients = Listening { incoming: incoming(client_listener), address: client };
    let peers = Listening { incoming: incoming(peer_listener), address: peer };
    let running = Running::start(&settings, clients, peers).await?;
    if let Some(address) = settings.metrics_listen {
        serve_metrics(running.core.clone(), address).await?;
    }
    let Addresses { client, peer } = &running.addresses;
    // Whoever started it may have stopped reading by the time it comes back from a drill.
    let _ = writeln!(std::io::stdout(), "ready client={client} peer={peer}");
    tracing::info!(client, peer, data = %settings.data.display(), "manager is up");
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).map_err(End::start)?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt()).map_err(End::start)?;
    // Both may be dropped at their await: the first to come ends the process.
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    running.until(told).await
}

/// Connections that come in, and the address at which others make them.
pub struct Listening<I> {
    /// The connections.
    pub incoming: I,
    /// What others are told, `HOST:PORT`.
    pub address: String,
}

/// A manager that serves.
pub struct Running {
    core: Arc<Core>,
    addresses: Addresses,
    stop: watch::Sender<bool>,
    servers: [JoinHandle<()>; 2],
    followers: [JoinHandle<()>; 2],
}

impl Running {
    /// Opens the data folder and serves on these connections. What `settings` say of addresses is not looked at.
    pub async fn start<S: Carrier>(
        settings: &Settings,
        clients: Listening<impl Incoming<S>>,
        peers: Listening<impl Incoming<S>>,
    ) -> Result<Self, End> {
        let addresses = Addresses { client: clients.address, peer: peers.address };
        let fleet = Arc::new(Fleet::new(settings.silence));
        let core = open(settings, addresses.clone(), &fleet).await?;
        let (stop, stopping) = watch::channel(false);
        let servers = [
            tokio::spawn(serve_peers(core.clone(), peers.incoming, stopping.clone())),
            tokio::spawn(serve_clients(core.clone(), clients.incoming, stopping)),
        ];
        let followers = [tokio::spawn(follow_leadership(core.clone())), tokio::spawn(silence::listen(core.clone()))];
        Ok(Self { core, addresses, stop, servers, followers })
    }

    /// Serves until it is told to stop, which it does in order, or a fault ends it.
    pub async fn until(self, told: impl Future<Output = ()>) -> Result<(), End> {
        // Both may be dropped at their await: the first to come ends the manager.
        let end = tokio::select! {
            () = told => Ok(()),
            fatal = self.core.node.fatal() => Err(End { exit_code: fatal.exit_code, message: fatal.message }),
        };
        if end.is_ok() {
            self.core.node.hand_over().await;
        }
        // What is under way is still answered, by passing it on; whoever connects anew finds another manager.
        self.stop.send_replace(true);
        // Streams of slaves and watchers end only with their connection, so the servers are not waited for any longer.
        let _ = tokio::time::timeout(DRAIN_DEADLINE, join_all(self.servers)).await;
        if end.is_ok() {
            self.core.node.shutdown().await;
        }
        self.followers.iter().for_each(JoinHandle::abort);
        end
    }
}

/// What can carry a connection.
pub trait Carrier: AsyncRead + AsyncWrite + Connected<ConnectInfo: Send + Sync> + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Connected<ConnectInfo: Send + Sync> + Send + Unpin + 'static> Carrier for S {}

/// Connections as they come in.
pub trait Incoming<S>: Stream<Item = std::io::Result<S>> + Send + 'static {}

impl<S, I: Stream<Item = std::io::Result<S>> + Send + 'static> Incoming<S> for I {}

async fn open(settings: &Settings, addresses: Addresses, fleet: &Arc<Fleet>) -> Result<Arc<Core>, End> {
    let (node, history) = Node::open(&settings.data, &settings.raft, settings.sync, addresses, |applied| {
        let history = Arc::new(History::new(applied));
        let hook = (history.clone(), fleet.clone());
        (
            history,
            crate::raft::Hooks {
                on_applied: Box::new({
                    let (history, fleet) = hook.clone();
                    move |batch| core::on_applied(&history, &fleet, batch)
                }),
                on_jump: Box::new(move |revision| {
                    hook.0.jump(revision);
                    hook.1.bump();
                }),
            },
        )
    })
    .await
    .map_err(|error| End {
        exit_code: error.exit_reason().code(),
        message: format!("{:#}", anyhow::Error::from(error)),
    })?;
    Ok(Arc::new(Core {
        node,
        fleet: fleet.clone(),
        history,
        logs: LogBroker::default(),
        leader: Leader::default(),
        backups: Arc::new(tokio::sync::Semaphore::new(BACKUPS_MAX)),
        room: Room::new(settings.disk_floor_bytes),
        presences: Presences::default(),
        places: Places::new(settings.streams_max),
        drills: settings.drills,
    }))
}

/// Listens at the address that this flag gives, or the file by the same name.
async fn bind(flag: &'static str, address: SocketAddr, advertise: Option<&str>) -> Result<(TcpListener, String), End> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let what = flag.trim_start_matches('-').replace('-', "_");
        End::start(format!("cannot listen at {address} ({what}): {error}; is another manager running there?"))
    })?;
    let bound = listener.local_addr().map_err(End::start)?;
    if address.port() == 0 {
        minder_proto::vanish::keep(flag, bound.to_string());
    }
    Ok((listener, advertise.map_or_else(|| bound.to_string(), Into::into)))
}

/// Metrics end with the process.
async fn serve_metrics(core: Arc<Core>, address: SocketAddr) -> Result<(), End> {
    let (listener, address) = bind("--metrics-listen", address, None).await?;
    tracing::info!(address, "metrics are served");
    tokio::spawn(minder_proto::metrics::serve(listener, move || crate::metrics::page(&core)));
    Ok(())
}

/// Keeps what belongs to being leader alive exactly as long as leadership.
async fn follow_leadership(core: Arc<Core>) {
    let mut leadership = core.node.leadership();
    let mut led_term = None;
    loop {
        let now = leadership.borrow_and_update().clone();
        let term = now.leading.then_some(now.term);
        match (led_term, term) {
            (None, Some(term)) => {
                tracing::info!(term, "this manager leads");
                core.fleet.lead(core.node.snapshot_state().0.hosts().map(|(host, _)| host));
                name_cluster(&core).await;
                let node = core.node.clone();
                tokio::spawn(async move { node.finish_change().await });
            }
            (Some(term), None) => {
                tracing::info!(term, "this manager leads no more");
                core.fleet.follow();
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        led_term = term;
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// The first write of a cluster's life. Said again by a later leader it is refused, which is as good.
async fn name_cluster(core: &Core) {
    let (false, Some(id)) = (core.node.look(|state| state.cluster().is_some()), core.cluster_id()) else { return };
    let Ok(request) = RequestId::new(format!("create-{id}")) else { return };
    let command = Command::CreateCluster(id, core.node.first_version().await);
    let actor = "init".into();
    let proposal = Proposal { request, time_ms: wall_ms(), actor, expect: Expect::Anything, command };
    if let Err(error) = core.node.propose(proposal).await {
        tracing::warn!(%error, "the cluster is not named yet; the next leader tries again");
    }
}

async fn serve_peers<S: Carrier>(core: Arc<Core>, incoming: impl Incoming<S>, stopping: watch::Receiver<bool>) {
    let service = v1::peer_server::PeerServer::new(PeerService::new(core.node.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let gathered = incoming.map_ok(|stream| Gathered::new(Isolated::managers(stream)));
    let served = server()
        .http2_max_pending_accept_reset_streams(Some(BEATS_GIVEN_UP_MAX))
        .add_service(service)
        .serve_with_incoming_shutdown(gathered, stopped(stopping))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "serving managers ended");
    }
}

async fn serve_clients<S: Carrier>(core: Arc<Core>, incoming: impl Incoming<S>, stopping: watch::Receiver<bool>) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<v1::control_server::ControlServer<ControlService>>().await;
    // Tools speak one or the other version of reflection.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let compiled_in = "the descriptor set was compiled with this program";
    let reflection_v1 = reflection().build_v1().expect(compiled_in);
    let reflection_v1alpha = reflection().build_v1alpha().expect(compiled_in);
    let control = v1::control_server::ControlServer::new(ControlService::new(core.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let slaves = v1::slave_server::SlaveServer::new(SlaveService::new(core.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = incoming.map_ok(|stream| Gathered::new(Isolated::anybodys(stream)));
    let served = server()
        .layer(ManagerLineLayer)
        .layer(ForwardLayer::new(core))
        .add_service(health_service)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha)
        .add_service(control)
        .add_service(slaves)
        .serve_with_incoming_shutdown(incoming, stopped(stopping))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "serving users and slaves ended");
    }
}

fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION_MAX))
}

fn incoming(listener: TcpListener) -> impl Incoming<TcpStream> {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}
