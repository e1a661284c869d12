//! Proof that this manager leads: a majority of the voters has given no newer vote, by answers to questions that were sent
//! after somebody wanted to know. Leases are never trusted.
//!
//! openraft has a proof of its own, which can be had too cheaply (0.10.0-alpha.37): an answer to some entries counts for
//! every later request that adds nothing to them, answered or not. A leader that was cut off gets the answers from before
//! that first, commits with the one, tells the other of it, and then takes the other's old answer for a new one. Here an
//! answer belongs to the call that it answers.
//!
//! To ask is no sign of life: a leader whose core hangs, or gives leadership away and has stopped its heartbeats for that, is
//! not kept in office by those who read from it.

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
use tonic::Code;

use super::{error::ReadError, membership::is_majority, network::Peers, node::Node};

/// A quorum round takes milliseconds; a leader that cannot finish one for this long cannot serve reads.
const DEADLINE: Duration = Duration::from_secs(2);

/// Voters of which nothing was learnt when they were asked last, with the time. Each read would else dial one that is down.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<BTreeMap<u64, Instant>>);

impl Silent {
    fn note(&self, id: u64, said: bool) {
        let mut since = crate::lock(&self.0);
        match said {
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

/// What the voters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// They follow this manager.
    Followed,
    /// They follow somebody newer, or nobody here can tell.
    Deposed,
    /// One of an earlier version does not know the question. Until all do, openraft's proof has to do.
    NotUnderstood,
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
        let deposed = async {
            // Its end means that this manager stops, which ends the answers as well.
            let _ = leadership.wait_for(|later| !later.leading || later.term != now.term).await;
        };
        let said = tokio::select! {
            biased;
            said = tokio::time::timeout(DEADLINE, self.ask_voters(now.term)) => said,
            () = deposed => Ok(Said::Deposed),
        };
        match said {
            Ok(Said::Followed) => Ok(revision),
            Ok(Said::Deposed) => Err(ReadError::NotLeader),
            Ok(Said::NotUnderstood) => self.confirm_by_core().await,
            Err(_) => Err(ReadError::NoQuorum(format!("no answer within {DEADLINE:?}"))),
        }
    }

    /// Asks the voters until a majority follows this manager in `term`, or one follows somebody newer.
    async fn ask_voters(&self, term: u64) -> Said {
        // A membership is seen here before anybody can have answered to it, so nothing newer was in force when this began.
        let (Some(peers), Ok(members)) = (self.peers(), self.members()) else { return Said::Deposed };
        let own = Vote::new_committed(term, peers.own());
        let others = members.voter_ids().filter(|id| *id != peers.own());
        let others = others.filter_map(|id| Some((id, members.get_node(&id)?)));
        let mut asked: FuturesUnordered<_> =
            others.map(|(id, voter)| async move { (id, self.ask_voter(peers, id, voter, &own).await) }).collect();
        let mut following = BTreeSet::from([peers.own()]);
        loop {
            if is_majority(&members, &following) {
                // Its own vote counts with them, and may be for somebody newer before this manager knows it otherwise.
                let is_own = self.store().vote().is_some_and(|vote| vote.leader_id == own.leader_id);
                return if is_own { Said::Followed } else { Said::Deposed };
            }
            match asked.next().await {
                Some((id, Said::Followed)) => following.insert(id),
                Some((_, said)) => return said,
                None => return Said::Deposed,
            };
        }
    }

    /// Asks one voter until it has given this vote, or a newer one.
    async fn ask_voter(&self, peers: &Peers, id: u64, voter: &ManagerNode, own: &Vote) -> Said {
        loop {
            if let Some(rest) = self.inner.silent.rest_of(self.beat(), id) {
                tokio::time::sleep(rest).await;
            }
            let answer = peers.vote_of(id, voter, self.belief()).await;
            let answers = match answer {
                Ok(vote) if vote.leader_id == own.leader_id => Some(Said::Followed),
                Ok(vote) if vote.leader_id.term > own.leader_id.term => Some(Said::Deposed),
                // It has not heard of its leader yet, and may have voted for another one in the same term.
                Ok(_) => None,
                Err(status) if status.code() == Code::Unimplemented => Some(Said::NotUnderstood),
                Err(_) => None,
            };
            self.inner.silent.note(id, answers.is_some());
            if let Some(said) = answers {
                return said;
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
