//! What peers ask of this manager. Every Raft call names its cluster, its sender and the node it means, and anybody
//! else refuses it: a reused address or a wrong cluster cannot do harm.

use std::pin::Pin;

use futures::{Stream, StreamExt, TryStreamExt, future};
use minder_model::{ClusterId, ManagerId};
use minder_proto::v1::{self, peer_server};
use minder_raft_store::{ExitReason, Identity, Raft};
use tonic::{Request, Response, Status, Streaming};

use super::{error::Fatal, gone::StreamEnd, node::Node, snapshot, wire};

/// The `Peer` service of one manager.
#[derive(Clone)]
pub struct PeerService {
    node: Node,
}

impl PeerService {
    /// Answers peers for this node.
    pub fn new(node: Node) -> Self {
        Self { node }
    }

    /// The Raft node, if this call is for it. Who calls is not compared with the membership: a manager that was away
    /// may not know its new leader yet, and can only learn of it from that leader.
    fn raft_for(&self, addressing: Option<&v1::Addressing>) -> Result<Raft, Status> {
        let addressing = addressing.ok_or_else(|| Status::invalid_argument("addressing: is missing"))?;
        let Some(identity) = self.node.identity() else {
            return Err(self.node.called_though_empty(addressing));
        };
        if addressing.cluster_id != identity.cluster.as_str() {
            return Err(Status::failed_precondition(format!(
                "this manager belongs to cluster {}, not to {}",
                identity.cluster, addressing.cluster_id
            )));
        }
        if addressing.to != identity.manager.0 {
            return Err(Status::failed_precondition(format!(
                "this is manager {}, not {}",
                identity.manager, addressing.to
            )));
        }
        self.node.raft().cloned().ok_or_else(|| Status::unavailable("this manager is starting"))
    }

    /// Takes in a stream of entries; the first message says whose it is.
    async fn entries(self, mut requests: Streaming<v1::AppendRequest>) -> Result<Replies, Status> {
        let Some(first) = requests.message().await? else { return Ok(futures::stream::empty().boxed()) };
        let raft = self.raft_for(first.addressing.as_ref())?;
        let addressing = first.addressing.clone();
        let node = self.node.clone();
        let end = StreamEnd::new(node.clone(), addressing.as_ref().map_or(0, |addressing| addressing.from));
        // A message that cannot be read, or is for somebody else, ends the stream; the leader begins a new one.
        let all = futures::stream::once(future::ok(first)).chain(requests);
        let entries = tokio_stream::StreamExt::map_while(all, move |request| {
            let request = request.ok().filter(|request| request.addressing == addressing)?;
            node.heard();
            let _until_the_end = &end;
            wire::append_from_wire(request).inspect_err(|status| entries_refused(&node, status)).ok()
        });
        let replies = raft.stream_append(entries).map(|result| match result {
            Ok(result) => Ok(wire::append_result_to_wire(result)),
            Err(fatal) => Err(Status::unavailable(fatal.to_string())),
        });
        Ok(replies.boxed())
    }
}

/// A manager that cannot read what the others write takes part in nothing: it must say so and end, and be upgraded.
fn entries_refused(node: &Node, status: &Status) {
    tracing::error!(message = status.message(), "entries from a peer refused");
    if status.code() == tonic::Code::FailedPrecondition {
        node.fail(Fatal {
            exit_code: ExitReason::NewerFormat.code(),
            message: format!("this program is too old for its cluster: {}", status.message()),
        });
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<v1::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type AppendStreamStream = Replies;

    async fn append_stream(&self, request: Request<Streaming<v1::AppendRequest>>) -> Result<Response<Replies>, Status> {
        // Answered at once, so that the caller knows of the stream before it has something to say.
        let replies = futures::stream::once(self.clone().entries(request.into_inner())).try_flatten();
        Ok(Response::new(replies.boxed()))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendReply>, Status> {
        use openraft::raft::AppendEntriesResponse as Answer;
        let request = request.into_inner();
        let raft = self.raft_for(request.addressing.as_ref())?;
        self.node.heard();
        let request = wire::append_from_wire(request).inspect_err(|status| entries_refused(&self.node, status))?;
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let previous = request.prev_log_id;
        let answer = raft.append_entries(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let result = match (answer, previous) {
            (Answer::Success, _) => Ok(last),
            (Answer::PartialSuccess(upto), _) => Ok(upto),
            (Answer::Conflict, Some(previous)) => Err(openraft::raft::StreamAppendError::Conflict(previous)),
            (Answer::Conflict, None) => return Err(Status::internal("a conflict before the first entry")),
            (Answer::HigherVote(vote), _) => Err(openraft::raft::StreamAppendError::HigherVote(vote)),
        };
        Ok(Response::new(wire::append_result_to_wire(result)))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        let request = request.into_inner();
        let raft = self.raft_for(request.addressing.as_ref())?;
        let answer = raft
            .vote(wire::vote_request_from_wire(request)?)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_response_to_wire(&answer)))
    }

    async fn pre_vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteReply>, Status> {
        let request = request.into_inner();
        let raft = self.raft_for(request.addressing.as_ref())?;
        let answer = raft
            .pre_vote(wire::vote_request_from_wire(request)?)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_response_to_wire(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferReply>, Status> {
        let request = request.into_inner();
        let raft = self.raft_for(request.addressing.as_ref())?;
        let answer = raft
            .handle_transfer_leader(wire::transfer_from_wire(request)?)
            .await
            .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(v1::TransferReply { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotChunk>>,
    ) -> Result<Response<v1::SnapshotReply>, Status> {
        let mut pieces = request.into_inner();
        let first = pieces.message().await?.ok_or_else(|| Status::invalid_argument("no piece at all"))?;
        let raft = self.raft_for(first.addressing.as_ref())?;
        let _permit = self.node.inner.receiving.try_acquire().map_err(|_| {
            Status::resource_exhausted("other snapshots are being received; try again when they are through")
        })?;
        Ok(Response::new(snapshot::receive(self.node.store(), &raft, first, pieces).await?))
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptReply>, Status> {
        let request = request.into_inner();
        let cluster = ClusterId::new(request.cluster_id)
            .map_err(|error| Status::invalid_argument(format!("cluster_id: {error}")))?;
        if request.node_id == 0 {
            return Err(Status::invalid_argument("node_id: is missing"));
        }
        let identity = Identity { cluster, manager: ManagerId(request.node_id) };
        self.node.adopt(identity).await.map_err(|error| Status::failed_precondition(format!("{error:#}")))?;
        Ok(Response::new(v1::AdoptReply {}))
    }

    async fn leader_gone(
        &self,
        request: Request<v1::LeaderGoneRequest>,
    ) -> Result<Response<v1::LeaderGoneReply>, Status> {
        let request = request.into_inner();
        self.raft_for(request.addressing.as_ref())?;
        let gone = self.node.is_gone(wire::vote_from_wire(request.leader)?, request.last_index).await;
        Ok(Response::new(v1::LeaderGoneReply { gone }))
    }

    async fn get_vote(&self, request: Request<v1::GetVoteRequest>) -> Result<Response<v1::GetVoteReply>, Status> {
        self.raft_for(request.get_ref().addressing.as_ref())?;
        let vote = self.node.store().vote().as_ref().map(wire::vote_to_wire);
        Ok(Response::new(v1::GetVoteReply { vote: Some(vote.unwrap_or_default()) }))
    }

    async fn get_membership(
        &self,
        _request: Request<v1::GetMembershipRequest>,
    ) -> Result<Response<v1::GetMembershipReply>, Status> {
        Ok(Response::new(self.node.committed_membership()))
    }

    async fn emptied(&self, request: Request<v1::EmptiedRequest>) -> Result<Response<v1::EmptiedReply>, Status> {
        let addressing = request.into_inner().addressing.unwrap_or_default();
        self.node.is_missed(&addressing);
        Ok(Response::new(v1::EmptiedReply {}))
    }

    async fn describe(&self, _request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeReply>, Status> {
        Ok(Response::new(self.node.describe().await))
    }
}
