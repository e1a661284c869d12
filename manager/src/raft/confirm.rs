//! Proof that this manager leads: a majority of the voters says so in answers to questions that were sent after somebody
//! wanted to know. Leases are never trusted.
//!
//! openraft has a proof of its own, which can be had too cheaply (0.10.0-alpha.37): an answer to some entries counts for
//! every later request that adds nothing to them, answered or not. A leader that was cut off gets the answers from before
//! that first, commits with the one, tells the other of it, and then takes the other's old answer for a new one. Here an
//! answer belongs to the call that it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use minder_model::Revision;
use minder_raft_store::{ManagerNode, Planted, Vote};
use openraft::{
    errors::{LinearizableReadError, RaftError},
    raft::ReadPolicy,
};
use tokio::time::Instant;

use super::{error::ReadError, network::Peers, node::Node};

/// A quorum round takes milliseconds; a leader that cannot finish one for this long cannot serve reads.
const DEADLINE: Duration = Duration::from_secs(2);

/// Voters that did not answer when they were asked last, with the time. Each read would else dial one that is down.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<BTreeMap<u64, Instant>>);

impl Silent {
    fn note(&self, id: u64, answers: bool) {
        let mut since = crate::lock(&self.0);
        match answers {
            true => since.remove(&id),
            false => since.insert(id, Instant::now()),
        };
    }

    /// How much is left of a pause after that.
    fn rest_of(&self, pause: Duration, id: u64) -> Option<Duration> {
        let since = *crate::lock(&self.0).get(&id)?;
        pause.checked_sub(since.elapsed())
    }
}

impl Node {
    /// Confirms leadership by a quorum round that begins from now on; everything that anybody was told is written before
    /// has been applied here then.
    pub async fn confirm(&self) -> Result<Revision, ReadError> {
        // Not the handle itself: whoever holds that keeps the folder open.
        let node = Arc::downgrade(&self.inner);
        let round = move || {
            let node = node.clone();
            async move {
                match node.upgrade() {
                    Some(inner) => Self { inner }.confirm_now().await,
                    None => Err(ReadError::Stopped),
                }
            }
        };
        self.inner.rounds.join(round).await
    }

    async fn confirm_now(&self) -> Result<Revision, ReadError> {
        if self.raft().is_none() {
            return Err(ReadError::NoCluster);
        }
        if Planted::ReadsByQuorumClock.is_in() {
            return self.confirm_by_core().await;
        }
        let mut leadership = self.leadership();
        let now = leadership.borrow().clone();
        if !now.leading {
            return Err(ReadError::NotLeader);
        }
        // What this leader told anybody was applied before, and what others did lies before its own first entry, which is.
        let revision = self.applied();
        if Planted::ReadsUnconfirmed.is_in() {
            return Ok(revision);
        }
        tokio::select! {
            biased;
            confirmed = tokio::time::timeout(DEADLINE, self.is_followed(now.term)) => match confirmed {
                Ok(true) => Ok(revision),
                Ok(false) => Err(ReadError::NotLeader),
                Err(_) => Err(ReadError::NoQuorum(format!("no answer within {DEADLINE:?}"))),
            },
            changed = leadership.wait_for(|later| !later.leading || later.term != now.term) => match changed {
                Ok(_) => Err(ReadError::NotLeader),
                Err(_) => Err(ReadError::Stopped),
            },
        }
    }

    /// Asks the voters until a majority follows this manager in `term`; `false` as soon as one follows somebody newer.
    async fn is_followed(&self, term: u64) -> bool {
        // A membership is seen here before anybody can have answered to it, so nothing newer was in force when this began.
        let (Some(peers), Ok(members)) = (self.peers(), self.members()) else { return false };
        let vote = Vote::new_committed(term, peers.own());
        let others = members.voter_ids().filter(|id| *id != peers.own());
        let others = others.filter_map(|id| Some((id, members.get_node(&id)?)));
        let mut asked: FuturesUnordered<_> =
            others.map(|(id, voter)| async move { (id, self.follows(peers, id, voter, &vote).await) }).collect();
        let mut following = BTreeSet::from([peers.own()]);
        loop {
            let majority = |voters: &BTreeSet<u64>| voters.intersection(&following).count() > voters.len() / 2;
            if members.get_joint_config().iter().all(majority) {
                // Its own vote counts with them, and may be for somebody newer before this manager knows it otherwise.
                return self.store().vote().is_some_and(|own| own.leader_id == vote.leader_id);
            }
            match asked.next().await {
                Some((id, true)) => following.insert(id),
                Some((_, false)) | None => return false,
            };
        }
    }

    /// Asks one voter until it answers whether it follows this vote.
    async fn follows(&self, peers: &Peers, id: u64, voter: &ManagerNode, vote: &Vote) -> bool {
        loop {
            if let Some(rest) = self.inner.silent.rest_of(self.beat(), id) {
                tokio::time::sleep(rest).await;
            }
            let answer = peers.follows(id, voter, vote, self.belief()).await;
            self.inner.silent.note(id, answer.is_ok());
            if let Ok(follows) = answer {
                return follows;
            }
        }
    }

    /// What openraft takes for a proof.
    async fn confirm_by_core(&self) -> Result<Revision, ReadError> {
        let raft = self.raft().ok_or(ReadError::NoCluster)?;
        match tokio::time::timeout(DEADLINE, raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
            Ok(Ok(read)) => Ok(Revision(read.index())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Err(ReadError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ReadError::NoQuorum(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoQuorum(format!("no answer within {DEADLINE:?}"))),
        }
    }
}
