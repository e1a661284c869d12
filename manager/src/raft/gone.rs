//! A killed leader costs no timer: its kernel closes its connections at once and refuses new ones.
//!
//! That a connection ends is only a hint. A follower then dials the leader, and that nobody listens there any more is what
//! it goes by: a machine that vanished, a frozen process and a cut cable all keep silent instead. It asks the other
//! voters, each of which dials for itself and looks whether the caller's log is as long as its own. With a majority it
//! campaigns as if the leader had handed over to it, which is the one kind of election that need not wait until the
//! leader's lease has run out. The lease protects a leader that lives from being disturbed and nothing else: no read here
//! goes by it, and who may be elected is decided by terms and logs as ever.

use std::{collections::BTreeSet, io, time::Duration};

use futures::future::join_all;
use minder_proto::v1::{self, peer_client::PeerClient};
use minder_raft_store::Vote;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::mpsc;

use super::{leadership::Member, membership::is_majority, node::Node, wire};

/// A peer on a local network takes or refuses a connection within a millisecond.
const DIAL_DEADLINE: Duration = Duration::from_millis(100);
/// A dying process may close its connections a moment before its listener.
const DIALS: u32 = 5;
const DIAL_INTERVAL: Duration = Duration::from_millis(10);
/// The voters campaign one after the other, by id, so that they do not take each other's votes. An election takes two
/// round trips and two syncs.
const STAGGER: Duration = Duration::from_millis(40);
/// The others may not have noticed yet.
const ROUNDS: u32 = 3;
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Dialling and answering.
const ASK_DEADLINE: Duration = Duration::from_millis(200);

/// Fires when a leader's stream of entries ends, for whatever reason.
pub(super) struct StreamEnd {
    node: Node,
    leader: u64,
}

impl StreamEnd {
    pub(super) fn new(node: Node, leader: u64) -> Self {
        Self { node, leader }
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        // One hint that waits is as good as many.
        let _ = self.node.inner.hints.try_send(self.leader);
    }
}

/// Looks into each hint, for as long as the node lives.
pub(super) async fn follow_hints(node: Node, mut hints: mpsc::Receiver<u64>) {
    while let Some(leader) = hints.recv().await {
        node.look_into(leader).await;
    }
}

impl Node {
    async fn look_into(&self, leader: u64) {
        let Some(vote) = self.followed(leader) else { return };
        let Some(address) = self.peer_address(leader) else { return };
        if !is_refused(&address).await {
            return;
        }
        let Some(rank) = self.rank_without(leader) else { return };
        tokio::time::sleep(STAGGER * rank).await;
        for _ in 0..ROUNDS {
            if self.followed(leader) != Some(vote) {
                return;
            }
            if self.majority_lost(leader, vote).await {
                tracing::info!(leader, "the leader's process is gone, for a majority; campaigning at once");
                return self.campaign(vote).await;
            }
            tokio::time::sleep(ROUND_INTERVAL).await;
        }
    }

    /// The vote by which that manager leads this one, if it does.
    fn followed(&self, leader: u64) -> Option<Vote> {
        let metrics = self.metrics()?;
        let follows = metrics.current_leader == Some(leader) && metrics.id != leader && metrics.vote.committed;
        follows.then_some(metrics.vote)
    }

    fn peer_address(&self, id: u64) -> Option<String> {
        let leadership = self.leadership();
        let now = leadership.borrow();
        now.managers.iter().find(|member| member.id == id).map(|member| member.peer_address.clone())
    }

    /// The place of this manager among the voters that are left; `None` when it does not vote.
    fn rank_without(&self, leader: u64) -> Option<u32> {
        let own = self.metrics()?.id;
        let leadership = self.leadership();
        let now = leadership.borrow();
        let left = now.managers.iter().filter(|member| member.voter && member.id != leader);
        left.map(|member| member.id).position(|id| id == own).map(|rank| rank as u32)
    }

    /// Whether a majority of the voters, this one among them, finds that nobody listens where the leader was.
    async fn majority_lost(&self, leader: u64, vote: Vote) -> bool {
        let Some((metrics, own)) = self.metrics().zip(self.identity()) else { return false };
        let request = |to: u64| v1::LeaderGoneRequest {
            addressing: Some(v1::Addressing { cluster_id: own.cluster.to_string(), from: own.manager.0, to }),
            leader: Some(wire::vote_to_wire(&vote)),
            last_index: metrics.last_log_index.unwrap_or_default(),
        };
        let asked = self.others().into_iter().filter(|member| member.voter && member.id != leader).map(|member| {
            let request = request(member.id);
            async move { ask(&member, request).await.then_some(member.id) }
        });
        let mut agreed: BTreeSet<u64> = join_all(asked).await.into_iter().flatten().collect();
        agreed.insert(own.manager.0);
        is_majority(metrics.membership_config.membership(), &agreed)
    }

    async fn campaign(&self, vote: Vote) {
        let (Some(raft), Some(own)) = (self.raft(), self.identity()) else { return };
        let request = TransferLeaderRequest::new(vote, own.manager.0, None);
        match raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "no campaign; the timer decides"),
            // Whoever follows the node's end says why.
            Err(_) => {}
        }
    }

    /// The answer to a peer that has lost this leader: it is gone from here as well, and the peer's log is long enough.
    pub(super) async fn is_gone(&self, vote: Vote, last_index: u64) -> bool {
        let leader = vote.leader_id.node_id;
        let longer = self.metrics().is_none_or(|metrics| metrics.last_log_index.unwrap_or_default() > last_index);
        if longer || self.followed(leader) != Some(vote) {
            return false;
        }
        match self.peer_address(leader) {
            Some(address) => is_refused(&address).await,
            None => false,
        }
    }
}

/// Whether nobody listens there, said by the machine itself.
async fn is_refused(address: &str) -> bool {
    for _ in 0..DIALS {
        match tokio::time::timeout(DIAL_DEADLINE, minder_proto::dial::connect(address)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Ok(Ok(_)) => tokio::time::sleep(DIAL_INTERVAL).await,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}

async fn ask(member: &Member, request: v1::LeaderGoneRequest) -> bool {
    let Ok(endpoint) = minder_proto::dial::endpoint(&member.peer_address) else { return false };
    let mut client = PeerClient::new(minder_proto::dial::lazy(&endpoint));
    let asked = tokio::time::timeout(ASK_DEADLINE, client.leader_gone(request)).await;
    asked.is_ok_and(|reply| reply.is_ok_and(|reply| reply.into_inner().gone))
}
