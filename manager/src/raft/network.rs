//! From this manager to its peers. Each peer has a connection for entries, one for heartbeats and votes, and one for
//! snapshots, so that a megabyte of entries never stands in front of a sign of life.
//!
//! Every call has a deadline, and the entry stream has a watchdog: openraft itself waits for replies for ever.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use minder_model::{ClusterId, MESSAGE_BYTES_MAX};
use minder_proto::v1::{self, peer_client::PeerClient};
use minder_raft_store::{ManagerNode, SnapshotFile, SnapshotMeta, TypeConfig, Vote, encode_snapshot_meta};
use openraft::{
    OptionalSend, StorageError,
    errors::{ErrorSource, NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    impls::BoxedErrorSource,
    network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    storage::Snapshot,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::wire;

/// A peer on a local network accepts within milliseconds; a dead machine's silence must not hold up an election.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failed attempt the next one waits this long: a peer that restarts is back at once, and a dead one costs
/// ten small packets a second.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A request on the entry stream that stays unanswered for between one and two of these ends the stream. A healthy
/// peer answers when its disk has synced; a slow disk takes tens of milliseconds.
const WATCHDOG: Duration = Duration::from_millis(1_000);
/// Pieces of a snapshot: small enough to share a connection fairly, large enough to be quick.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait to be sent.
const PIECES_QUEUED: usize = 4;
/// A piece that cannot be handed over for this long means that the peer makes no progress.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// After the last piece the peer checks and installs the whole.
const INSTALL_DEADLINE: Duration = Duration::from_secs(60);

/// Makes the connections to peers.
pub struct Peers {
    cluster: ClusterId,
    own: u64,
    channels: Arc<Mutex<BTreeMap<(String, Purpose), Channel>>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Entries,
    Heartbeats,
    Snapshots,
}

/// One connection to one peer.
pub struct Peer {
    addressing: v1::Addressing,
    purpose: Purpose,
    client: Result<PeerClient<Channel>, String>,
}

impl Peers {
    /// Peers of manager `own` in this cluster.
    pub fn new(cluster: ClusterId, own: u64) -> Self {
        Self { cluster, own, channels: Arc::default() }
    }

    fn peer(&self, target: u64, node: &ManagerNode, purpose: Purpose) -> Peer {
        Peer {
            addressing: v1::Addressing { cluster_id: self.cluster.to_string(), from: self.own, to: target },
            purpose,
            client: self.channel(&node.peer_address, purpose).map(client),
        }
    }

    fn channel(&self, address: &str, purpose: Purpose) -> Result<Channel, String> {
        let mut channels = crate::lock(&self.channels);
        let key = (address.to_owned(), purpose);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let channel = minder_proto::dial::endpoint(address)
            .map_err(|error| format!("{address:?} is no address: {error}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .connect_lazy();
        channels.insert(key, channel.clone());
        Ok(channel)
    }
}

fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &ManagerNode) -> Peer {
        self.peer(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &ManagerNode) -> Peer {
        self.peer(target, node, Purpose::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &ManagerNode) -> Peer {
        self.peer(target, node, Purpose::Snapshots)
    }
}

impl Peer {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        self.client.clone().map_err(Unreachable::from_string)
    }
}

/// A call with its deadline.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RPCError<TypeConfig>> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => Err(Unreachable::from_string(format!("no answer within {deadline:?}")).into()),
    }
}

/// Every failure means "wait a little, then try again"; what the peer says is for people.
fn failed(status: &Status) -> RPCError<TypeConfig> {
    Unreachable::from_string(format!("{}: {}", status.code(), status.message())).into()
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client()?;
        let request = wire::append_to_wire(self.addressing.clone(), &request);
        let reply = within(option.hard_ttl(), client.append(request)).await?;
        wire::append_result_from_wire(reply).map(wire::append_response).map_err(|status| failed(&status))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        // A heartbeat is a stream of one message: one call is cheaper than a stream, and has its own deadline.
        if self.purpose == Purpose::Heartbeats {
            return stream_append_sequential(self, input, option);
        }
        let addressing = self.addressing.clone();
        let client = self.client();
        async move {
            let sent = Arc::new(AtomicU64::new(0));
            let counter = sent.clone();
            let requests = input.map(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                wire::append_to_wire(addressing.clone(), &request)
            });
            let mut client = client?;
            let opened = tokio::time::timeout(CONNECT_TIMEOUT * 2, client.append_stream(requests)).await;
            let replies = match opened {
                Ok(Ok(replies)) => replies.into_inner(),
                Ok(Err(status)) => return Err(failed(&status)),
                Err(_) => return Err(Unreachable::from_string("the entry stream was not answered").into()),
            };
            let watched = Watched { replies, sent, received: 0, overdue: false };
            Ok(futures::stream::unfold(Some(watched), Watched::next).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client()?;
        let request = wire::vote_request_to_wire(self.addressing.clone(), &request);
        let reply = within(option.hard_ttl(), client.vote(request)).await?;
        wire::vote_response_from_wire(reply).map_err(|status| failed(&status))
    }

    /// A peer that cannot be asked has not granted anything.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client()?;
        let request = wire::vote_request_to_wire(self.addressing.clone(), &request);
        let reply = within(option.hard_ttl(), client.pre_vote(request)).await?;
        wire::vote_response_from_wire(reply).map_err(|status| failed(&status))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client()?;
        let request = wire::transfer_to_wire(self.addressing.clone(), &request);
        let reply = within(option.hard_ttl().max(CONNECT_TIMEOUT), client.transfer_leader(request)).await?;
        match reply.refused.is_empty() {
            true => Ok(Ok(())),
            false => Err(NetworkError::from_string(reply.refused).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<
            openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
            u64,
            ManagerNode,
            SnapshotFile,
        >,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client()?;
        let (pieces, queue) = tokio::sync::mpsc::channel(PIECES_QUEUED);
        let first = v1::SnapshotChunk {
            addressing: Some(self.addressing.clone()),
            vote: Some(wire::vote_to_wire(&vote)),
            meta: encode_snapshot_meta(&snapshot.meta).into(),
            data: Default::default(),
        };
        let feeding = feed(snapshot.snapshot, &snapshot.meta, first, pieces);
        let call = async {
            client.install_snapshot(ReceiverStream::new(queue)).await.map_err(|status| {
                StreamingError::from(Unreachable::from_string(format!("{}: {}", status.code(), status.message())))
            })
        };
        // Dropping the losers ends the transfer; the peer removes what it spooled.
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            sent = async {
                // Both run together: the call takes what the feeder reads.
                let (fed, reply) = futures::join!(feeding, call);
                fed.and(reply)
            } => sent?,
        };
        let vote = wire::vote_from_wire(reply.into_inner().vote)
            .map_err(|status| Unreachable::from_string(status.message()))?;
        Ok(SnapshotResponse::new(vote))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_INTERVAL)))
    }
}

/// Reads the file and hands its pieces over, as fast as the peer takes them.
async fn feed(
    snapshot: SnapshotFile,
    meta: &SnapshotMeta,
    first: v1::SnapshotChunk,
    pieces: tokio::sync::mpsc::Sender<v1::SnapshotChunk>,
) -> Result<(), StreamingError<TypeConfig>> {
    let mut next = first;
    let mut offset = 0;
    loop {
        let handed = tokio::time::timeout(PIECE_DEADLINE, pieces.send(next)).await;
        if !matches!(handed, Ok(Ok(()))) {
            return Err(Unreachable::from_string("the snapshot makes no progress").into());
        }
        let mut data = vec![0; PIECE_BYTES];
        let read = snapshot.read_at(&mut data, offset).map_err(|error| {
            let signature = Some(meta.signature());
            StreamingError::StorageError(StorageError::read_snapshot(signature, BoxedErrorSource::from_error(&error)))
        })?;
        if read == 0 {
            drop(pieces);
            return Ok(());
        }
        data.truncate(read);
        offset += read as u64;
        next = v1::SnapshotChunk { data: data.into(), ..Default::default() };
    }
}

/// The replies of an entry stream, with somebody who looks whether they come.
struct Watched {
    replies: tonic::Streaming<v1::AppendReply>,
    sent: Arc<AtomicU64>,
    received: u64,
    /// At the last look something was unanswered, and nothing has been answered since.
    overdue: bool,
}

type WatchedItem = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl Watched {
    async fn next(watched: Option<Self>) -> Option<(WatchedItem, Option<Self>)> {
        let mut watched = watched?;
        loop {
            match tokio::time::timeout(WATCHDOG, watched.replies.next()).await {
                Ok(Some(Ok(reply))) => {
                    watched.received += 1;
                    watched.overdue = false;
                    return match wire::append_result_from_wire(reply) {
                        Ok(result) => Some((Ok(result), Some(watched))),
                        Err(status) => Some((Err(failed(&status)), None)),
                    };
                }
                Ok(Some(Err(status))) => return Some((Err(failed(&status)), None)),
                Ok(None) => return None,
                Err(_) => {
                    let unanswered = watched.sent.load(Ordering::Relaxed) > watched.received;
                    if unanswered && watched.overdue {
                        let error = Unreachable::from_string("entries stay unanswered");
                        return Some((Err(error.into()), None));
                    }
                    watched.overdue = unanswered;
                }
            }
        }
    }
}

/// The deadline of the peer's side of a snapshot, for the service.
pub(super) const SNAPSHOT_INSTALL_DEADLINE: Duration = INSTALL_DEADLINE;
/// The deadline of one piece, for the service.
pub(super) const SNAPSHOT_PIECE_DEADLINE: Duration = PIECE_DEADLINE;
