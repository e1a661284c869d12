//! A manager that only follows, in the test's own process: it takes everything and answers when the test says so.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use minder_model::CommandVersion;
use minder_proto::v1::{self, peer_server};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use super::own_loopback;

/// The follower. Ends when it is dropped.
pub struct Follower {
    /// Where it listens for managers.
    pub address: String,
    shared: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

/// What it answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Everything.
    All,
    /// Nothing.
    None,
    /// Entries, and nothing else: what the others took for lost is here again, and it is old.
    Entries,
}

struct Shared {
    address: String,
    identity: Mutex<(String, u64)>,
    /// The newest vote that it has seen, which it has given.
    vote: Mutex<Option<v1::RaftVote>>,
    answers: watch::Sender<Answers>,
    /// Requests with entries that have come in.
    entries: AtomicU64,
    /// Requests of the stream without entries that came behind some.
    news: AtomicU64,
    /// Signs of life.
    beats: AtomicU64,
    /// Times it was asked to lead.
    asked_to_lead: AtomicU64,
}

impl Follower {
    /// Begins to listen; it belongs to nobody yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            address: address.clone(),
            identity: Mutex::default(),
            vote: Mutex::default(),
            answers: watch::channel(Answers::All).0,
            entries: AtomicU64::new(0),
            news: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            asked_to_lead: AtomicU64::new(0),
        });
        let service = peer_server::PeerServer::new(Service(shared.clone()));
        let server = async {
            let incoming = TcpIncoming::from(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        };
        Self { address, shared, _server: AbortOnDropHandle::new(tokio::spawn(server)) }
    }

    /// Takes everything from now on and answers nothing.
    pub fn fall_silent(&self) {
        self.shared.entries.store(0, Ordering::Relaxed);
        self.shared.news.store(0, Ordering::Relaxed);
        self.shared.beats.store(0, Ordering::Relaxed);
        self.shared.answers.send_replace(Answers::None);
    }

    /// Answers to entries, and still to nothing else.
    pub fn answer_entries(&self) {
        self.shared.answers.send_replace(Answers::Entries);
    }

    /// Answers to everything again.
    pub fn answer_all(&self) {
        self.shared.answers.send_replace(Answers::All);
    }

    /// Requests with entries since it fell silent.
    pub fn entries(&self) -> u64 {
        self.shared.entries.load(Ordering::Relaxed)
    }

    /// News of commits behind them.
    pub fn news(&self) -> u64 {
        self.shared.news.load(Ordering::Relaxed)
    }

    /// Whether it was asked to lead, which it does not.
    pub fn was_asked_to_lead(&self) -> bool {
        self.shared.asked_to_lead.load(Ordering::Relaxed) > 0
    }

    /// Signs of life since it fell silent, or since its begin.
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }
}

struct Service(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The leader's log is taken to be its own.
fn matched(request: &v1::AppendRequest) -> v1::AppendReply {
    let previous = request.previous.map_or(0, |previous| previous.index + 1);
    let (term, node) = request.vote.map_or((0, 0), |vote| (vote.term, vote.node));
    let upto = match request.entries.len() as u64 {
        0 => request.previous,
        count => Some(v1::LogId { term, node, index: previous + count - 1 }),
    };
    v1::AppendReply { result: Some(v1::append_reply::Result::Matched(v1::Matched { upto })) }
}

impl Shared {
    async fn until(&self, fits: impl Fn(Answers) -> bool) {
        // The sender lives as long as this does.
        let _ = self.answers.subscribe().wait_for(|now| fits(*now)).await;
    }

    fn answer_in_order(
        self: Arc<Self>,
        requests: mpsc::UnboundedReceiver<v1::AppendRequest>,
    ) -> impl Stream<Item = Result<v1::AppendReply, Status>> + Send + 'static {
        futures::stream::unfold((self, requests), |(shared, mut requests)| async move {
            let request = requests.recv().await?;
            let has_entries = !request.entries.is_empty();
            shared.until(|now| now == Answers::All || now == Answers::Entries && has_entries).await;
            Some((Ok(matched(&request)), (shared, requests)))
        })
    }
}

#[tonic::async_trait]
impl peer_server::Peer for Service {
    type AppendStreamStream = BoxStream<'static, Result<v1::AppendReply, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (taken, waiting) = mpsc::unbounded_channel();
        let (mut requests, shared) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let counter = if request.entries.is_empty() { &shared.news } else { &shared.entries };
                counter.fetch_add(1, Ordering::Relaxed);
                if taken.send(request).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(self.0.clone().answer_in_order(waiting).boxed()))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendReply>, Status> {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        self.0.until(|now| now == Answers::All).await;
        Ok(Response::new(matched(request.get_ref())))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        *lock(&self.0.vote) = request.get_ref().vote;
        Ok(Response::new(v1::VoteReply { vote: request.get_ref().vote, granted: true, last_log: None }))
    }

    async fn pre_vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        Ok(Response::new(v1::VoteReply { vote: request.get_ref().vote, granted: true, last_log: None }))
    }

    async fn get_vote(&self, _request: Request<v1::GetVoteRequest>) -> Result<Response<v1::GetVoteReply>, Status> {
        self.0.until(|now| now == Answers::All).await;
        Ok(Response::new(v1::GetVoteReply { vote: *lock(&self.0.vote) }))
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptReply>, Status> {
        let request = request.into_inner();
        *lock(&self.0.identity) = (request.cluster_id, request.node_id);
        Ok(Response::new(v1::AdoptReply {}))
    }

    async fn describe(&self, _request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeReply>, Status> {
        let (cluster_id, node_id) = lock(&self.0.identity).clone();
        Ok(Response::new(v1::DescribeReply {
            cluster_id,
            node_id,
            client_address: self.0.address.clone(),
            peer_address: self.0.address.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.0.address.clone(),
            command_version: CommandVersion::NEWEST.to_wire(),
            ..Default::default()
        }))
    }

    async fn transfer_leader(
        &self,
        _request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferReply>, Status> {
        self.0.asked_to_lead.fetch_add(1, Ordering::Relaxed);
        Err(only_follows())
    }

    async fn install_snapshot(
        &self,
        _request: Request<Streaming<v1::SnapshotChunk>>,
    ) -> Result<Response<v1::SnapshotReply>, Status> {
        Err(only_follows())
    }

    async fn emptied(&self, _request: Request<v1::EmptiedRequest>) -> Result<Response<v1::EmptiedReply>, Status> {
        Err(only_follows())
    }

    async fn get_membership(
        &self,
        _request: Request<v1::GetMembershipRequest>,
    ) -> Result<Response<v1::GetMembershipReply>, Status> {
        Err(only_follows())
    }

    async fn leader_gone(
        &self,
        _request: Request<v1::LeaderGoneRequest>,
    ) -> Result<Response<v1::LeaderGoneReply>, Status> {
        Err(only_follows())
    }
}

fn only_follows() -> Status {
    Status::unimplemented("this one only follows")
}
