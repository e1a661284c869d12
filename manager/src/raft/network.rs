//! From this manager to its peers. Each peer has a connection for entries, one for heartbeats and votes, and one for
//! snapshots, so that a megabyte of entries never stands in front of a sign of life.
//!
//! Every call has a deadline, and the entry stream has a watchdog: openraft itself waits for replies for ever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use minder_model::{ClusterId, MESSAGE_BYTES_MAX};
use minder_proto::v1::{self, peer_client::PeerClient};
use minder_raft_store::{CommittedLeaderId, ManagerNode, SnapshotFile, TypeConfig, Vote, encode_snapshot_meta};
use openraft::{
    OptionalSend,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    storage::Snapshot,
};
use tokio::sync::mpsc;
use tonic::{Status, transport::Channel};

use super::{
    companions::Companions,
    emptied, gap,
    leadership::Member,
    snapshot,
    watchdog::{self, Sent},
    wire,
};

/// A peer on a local network accepts within milliseconds; a dead machine's silence must not hold up an election.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failed attempt the next one waits this long: a peer that restarts is back at once, and a dead one costs
/// ten small packets a second.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Opening an entry stream needs a connection and one round trip.
const STREAM_DEADLINE: Duration = Duration::from_secs(1);

/// Where managers are, as of the latest change of them. openraft keeps the connections it has made over a change of
/// address, so each call looks here.
#[derive(Debug, Default)]
pub struct Directory(Mutex<BTreeMap<u64, String>>);

impl Directory {
    /// Takes in all managers there are.
    pub fn learn(&self, managers: &[Member]) {
        let peers = managers.iter().map(|member| (member.id, member.peer_address.clone()));
        *crate::lock(&self.0) = peers.collect();
    }

    fn address(&self, id: u64) -> Option<String> {
        crate::lock(&self.0).get(&id).cloned()
    }
}

type Channels = Arc<Mutex<BTreeMap<(String, Purpose), Channel>>>;

/// Makes the connections to peers. Clones share them.
#[derive(Clone)]
pub struct Peers {
    cluster: ClusterId,
    own: u64,
    directory: Arc<Directory>,
    channels: Channels,
    /// Who refused a heartbeat because it is empty.
    empty: mpsc::Sender<u64>,
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
    /// Where it was when openraft made this.
    address: String,
    directory: Arc<Directory>,
    channels: Channels,
    empty: mpsc::Sender<u64>,
    /// Whether the last heartbeat was answered; a change is told to people, once.
    answers: bool,
}

impl Peers {
    /// Peers of manager `own` in this cluster. Whoever refuses a heartbeat because its folder is empty is passed on.
    pub fn new(cluster: ClusterId, own: u64, directory: Arc<Directory>, empty: mpsc::Sender<u64>) -> Self {
        Self { cluster, own, directory, channels: Arc::default(), empty }
    }

    /// This manager's id.
    pub fn own(&self) -> u64 {
        self.own
    }

    /// A peer's newest vote, as it stands now.
    pub async fn vote_of(&self, target: u64, node: &ManagerNode, deadline: Duration) -> Result<Vote, Status> {
        let (mut client, addressing) = self.urgent(target, node)?;
        let request = v1::GetVoteRequest { addressing: Some(addressing) };
        wire::vote_from_wire(in_time(deadline, client.get_vote(request)).await?.vote)
    }

    /// Tells a peer that this cluster counts on it, though its folder is empty.
    pub async fn tell_emptied(&self, target: u64, node: &ManagerNode, deadline: Duration) -> Result<(), Status> {
        let (mut client, addressing) = self.urgent(target, node)?;
        let request = v1::EmptiedRequest { addressing: Some(addressing) };
        in_time(deadline, client.emptied(request)).await.map(drop)
    }

    /// The way for what must not wait behind entries, and whom it names.
    fn urgent(&self, target: u64, node: &ManagerNode) -> Result<(PeerClient<Channel>, v1::Addressing), Status> {
        let peer = self.peer(target, node, Purpose::Heartbeats);
        let client = peer.client().map_err(|error| Status::unavailable(error.to_string()))?;
        Ok((client, peer.addressing))
    }

    fn peer(&self, target: u64, node: &ManagerNode, purpose: Purpose) -> Peer {
        Peer {
            addressing: v1::Addressing { cluster_id: self.cluster.to_string(), from: self.own, to: target },
            purpose,
            address: node.peer_address.clone(),
            directory: self.directory.clone(),
            channels: self.channels.clone(),
            empty: self.empty.clone(),
            answers: true,
        }
    }
}

fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
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
        self.channel(self.purpose).map(client).map_err(Unreachable::from_string)
    }

    /// Votes and transfers, whatever this connection is for.
    fn urgent(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        self.channel(Purpose::Heartbeats).map(client).map_err(Unreachable::from_string)
    }

    fn channel(&self, purpose: Purpose) -> Result<Channel, String> {
        let address = self.directory.address(self.addressing.to).unwrap_or_else(|| self.address.clone());
        let mut channels = crate::lock(&self.channels);
        let key = (address, purpose);
        if let Some(channel) = channels.get(&key) {
            return Ok(channel.clone());
        }
        let endpoint = minder_proto::dial::endpoint(&key.0)
            .map_err(|error| format!("{:?} is no address: {error}", key.0))?
            .connect_timeout(CONNECT_TIMEOUT);
        let channel = minder_proto::dial::lazy(&endpoint);
        channels.insert(key, channel.clone());
        Ok(channel)
    }

    fn look_whether_empty(&self, refusal: &Status) {
        if emptied::is_its_reason(refusal) {
            // One that waits to be told is as good as many.
            let _ = self.empty.try_send(self.addressing.to);
        }
    }

    /// Tells people when a peer begins or ceases to answer; openraft's own word on every single beat is too much.
    fn note<T>(&mut self, result: &Result<T, RPCError<TypeConfig>>) {
        let peer = self.addressing.to;
        match result {
            Ok(_) if !self.answers => tracing::info!(peer, "peer answers again"),
            Err(error) if self.answers => tracing::warn!(peer, %error, "peer does not answer"),
            Ok(_) | Err(_) => {}
        }
        self.answers = result.is_ok();
    }
}

/// A call of our own with its deadline.
async fn in_time<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {deadline:?}"));
    tokio::time::timeout(deadline, call).await.map_err(late)?.map(tonic::Response::into_inner)
}

/// A call of openraft's with its deadline.
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
pub(super) fn failed(status: &Status) -> RPCError<TypeConfig> {
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
        // A little less than openraft's own patience, so that what is noted is noted here.
        let call = async { client.append(request).await.inspect_err(|status| self.look_whether_empty(status)) };
        let reply = within(option.soft_ttl(), call).await;
        self.note(&reply);
        wire::append_result_from_wire(reply?).map(wire::append_response).map_err(|status| failed(&status))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
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
            let mut client = client?;
            // openraft waits out its backoff where it is asked for a request. So it is asked before anybody is called: a
            // peer that refuses connections would else be called again and again without a pause.
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let sent = Sent::default();
            let input = gap::until(futures::stream::iter([first]).chain(input), sent.clone());
            let requests = Companions::new(input)
                .map(sent.count(move |request| wire::append_to_wire(addressing.clone(), &request)));
            let replies = within(STREAM_DEADLINE, client.append_stream(requests)).await?;
            Ok(watchdog::watch(replies, sent).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.urgent()?;
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
        let mut client = self.urgent()?;
        let request = wire::vote_request_to_wire(self.addressing.clone(), &request);
        let reply = within(option.hard_ttl(), client.pre_vote(request)).await?;
        wire::vote_response_from_wire(reply).map_err(|status| failed(&status))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.urgent()?;
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
        snapshot: Snapshot<CommittedLeaderId, u64, ManagerNode, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client()?;
        let first = v1::SnapshotChunk {
            addressing: Some(self.addressing.clone()),
            vote: Some(wire::vote_to_wire(&vote)),
            meta: encode_snapshot_meta(&snapshot.meta).into(),
            data: Default::default(),
        };
        // Dropping the loser ends the transfer; the peer removes what it spooled.
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = snapshot::send(client, snapshot.snapshot, first) => sent,
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_INTERVAL)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A leader beside a stopped peer called it without a pause, as fast as its machine refused.
    #[tokio::test]
    async fn a_request_is_asked_for_before_a_peer_is_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer_address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let node = ManagerNode { peer_address, client_address: String::new() };
        let cluster = ClusterId::new("cluster").unwrap();
        let mut peer = Peers::new(cluster, 1, Arc::default(), mpsc::channel(1).0).new_client(2, &node).await;
        let asked = Arc::new(AtomicBool::new(false));
        let noted = asked.clone();
        let input = futures::stream::poll_fn(move |_| {
            noted.store(true, Ordering::Relaxed);
            std::task::Poll::Ready(None)
        });
        drop(peer.stream_append(input, RPCOption::new(Duration::from_secs(1))).await);
        assert!(asked.load(Ordering::Relaxed));
    }
}
