//! Changes of the managers themselves, one at a time, each safe to say again.
//!
//! A change goes in steps that are committed one after the other, in an order in which every state between two of them
//! can be left standing: adopted, learner, caught up, voter by joint consensus; and the other way round voter, learner,
//! gone. What a leader left half done is finished by its successor, or by the same command said again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::join_all;
use minder_model::CommandVersion;
use minder_raft_store::{ManagerNode, TypeConfig};
use openraft::{
    ChangeMembers, Membership, RaftMetrics,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};

use super::{
    error::{MembershipError, TransferError},
    init::{InitError, Peer, adopt, describe},
    node::Node,
};

type Change = ChangeMembers<u64, ManagerNode>;

/// Every write goes to every manager; more of them make a cluster slower, not safer.
pub(super) const MANAGERS_MAX: usize = 9;
/// Ids that `init` gives: a cluster begins with at most five managers.
const INIT_IDS_MAX: u64 = 5;
/// One step is one or two entries; a leader that cannot commit them for this long has no quorum.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// A change waits this long for one that is under way, which is mostly its own repetition at a new leader.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
/// Whoever lives says so within this; a person waits.
pub(super) const ALIVE_DEADLINE: Duration = Duration::from_secs(1);
/// A manager that takes nothing for this long while it catches up is stuck or gone.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(30);
/// A learner that lacks no more than this is caught up: the rest comes in one message.
const CAUGHT_UP_ENTRIES: u64 = 64;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A person is told this often how far it is.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// What is told while a change goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Something was done.
    Did(String),
    /// A manager catches up: entries it has, entries there are.
    CatchingUp(u64, u64),
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// The manager it was about: id, addresses, whether it votes. `None` when it is gone.
    pub member: Option<(u64, ManagerNode, bool)>,
    /// Allowed, but worth knowing.
    pub warnings: Vec<String>,
}

/// Whom to tell of steps. `false` when nobody listens any more.
pub type Tell<'a> = &'a (dyn Fn(Step) -> bool + Send + Sync);

impl Node {
    /// Adds the manager at this peer address, as a learner first and then as a voter. `replaces` goes in the same change.
    pub async fn add_manager(
        &self,
        address: String,
        replaces: Option<&str>,
        tell: Tell<'_>,
    ) -> Result<Changed, MembershipError> {
        let _turn = self.turn(tell).await?;
        let peer = describe(address).await.map_err(refused_by_peer)?;
        self.check_knows(&peer)?;
        let old = replaces.map(|name| self.find_old(name, &peer)).transpose()?.flatten();
        if let Some((id, _)) = &old {
            self.check_leads_not(*id)?;
        }
        let id = self.identify(peer, tell).await?;
        let gone = old.as_ref().map(|(id, _)| *id);
        self.make_voter(id, gone, tell).await?;
        if let Some((gone, node)) = old {
            self.step(Change::RemoveNodes(BTreeSet::from([gone]))).await?;
            tell(Step::Did(format!("manager {gone} at {} is removed", node.peer_address)));
        }
        self.changed(id)
    }

    /// Takes a manager out of the cluster.
    pub async fn remove_manager(&self, name: &str, tell: Tell<'_>) -> Result<Changed, MembershipError> {
        let _turn = self.turn(tell).await?;
        let (id, node) = self.find(name)?;
        self.take_out(id, tell).await?;
        tell(Step::Did(format!("manager {id} at {} is removed", node.peer_address)));
        Ok(Changed { member: None, warnings: self.warnings()? })
    }

    /// Gives a learner a vote, once it has caught up.
    pub async fn promote_manager(&self, name: &str, tell: Tell<'_>) -> Result<Changed, MembershipError> {
        let _turn = self.turn(tell).await?;
        let (id, _) = self.find(name)?;
        self.make_voter(id, None, tell).await?;
        self.changed(id)
    }

    /// Takes a voter's vote; it goes on following as a learner.
    pub async fn demote_manager(&self, name: &str, tell: Tell<'_>) -> Result<Changed, MembershipError> {
        let _turn = self.turn(tell).await?;
        let (id, _) = self.find(name)?;
        self.take_vote(id, tell).await?;
        self.changed(id)
    }

    /// Notes where a manager runs now, after asking there whether it is the one.
    pub async fn set_manager_address(
        &self,
        id: u64,
        address: String,
        tell: Tell<'_>,
    ) -> Result<Changed, MembershipError> {
        let _turn = self.turn(tell).await?;
        let (_, known) = self.find(&id.to_string())?;
        let there = describe(address).await.map_err(refused_by_peer)?;
        self.check_is(&there, id)?;
        let instance = there.description.instance.clone();
        let moved =
            ManagerNode { peer_address: there.address, client_address: there.description.client_address.clone() };
        if moved == known {
            self.done_already().await?;
            return self.changed(id);
        }
        let members = self.members()?;
        if let Some((other, _)) = members.nodes().find(|(other, node)| {
            **other != id && (node.peer_address == moved.peer_address || node.client_address == moved.client_address)
        }) {
            return Err(MembershipError::Refused(format!(
                "manager {other} is known at one of the addresses of manager {id}, {moved}; move or remove that one first"
            )));
        }
        // One process may be reached at both.
        let still = self.at(id, &known.peer_address).await.filter(|other| *other != instance);
        if still.is_some() {
            return Err(MembershipError::TwoOfOne(format!(
                "manager {id} answers at {} and, as another process, at {}: two run with copies of one data folder. Stop \
                 the one that is wrong and remove its folder",
                known.peer_address, moved.peer_address
            )));
        }
        self.step(Change::SetNodes(BTreeMap::from([(id, moved.clone())]))).await?;
        tell(Step::Did(format!("manager {id} is at {moved} now")));
        self.changed(id)
    }

    /// Finishes what a leader that fell in the middle of a change has left: the cluster would need both majorities for
    /// ever. Says nothing when there is nothing to do.
    pub async fn finish_change(&self) {
        let joint = |node: &Self| node.members().is_ok_and(|members| members.get_joint_config().len() > 1);
        if !joint(self) {
            return;
        }
        tracing::warn!("a change of managers was left half done; finishing it");
        if let Err(error) = self.turn(&|_| true).await {
            tracing::warn!(%error, "the change of managers is not finished yet; the next change or leader does it");
        }
    }

    /// Waits for its turn, makes sure that this manager leads, and finishes what another leader has left.
    pub(super) async fn turn(&self, tell: Tell<'_>) -> Result<tokio::sync::MutexGuard<'_, ()>, MembershipError> {
        let turn = tokio::time::timeout(TURN_DEADLINE, self.inner.changing.lock())
            .await
            .map_err(|_| MembershipError::Refused("another change of managers is under way; wait for it".into()))?;
        if !self.leadership().borrow().leading {
            return Err(MembershipError::NotLeader);
        }
        if self.members()?.get_joint_config().len() > 1 {
            self.step(Change::AddVoterIds(BTreeSet::new())).await?;
            tell(Step::Did("a change of managers that was left half done is finished".into()));
        }
        Ok(turn)
    }

    /// Nothing has to be changed, as far as this manager knows. One that was frozen leads no more and does not know, and what
    /// it takes for done may be undone since; only a quorum's word lets it say so.
    async fn done_already(&self) -> Result<(), MembershipError> {
        self.confirm().await.map(drop).map_err(|_| MembershipError::NotLeader)
    }

    /// The id of a manager that is not a voter yet: the one it was given before, or a new one that nobody had.
    async fn identify(&self, mut peer: Peer, tell: Tell<'_>) -> Result<u64, MembershipError> {
        let refused = |text: String| Err(MembershipError::Refused(text));
        let own = self.identity().ok_or(MembershipError::NotLeader)?.cluster.clone();
        let (known, address) = (peer.description.clone(), peer.address.clone());
        let members = self.members()?;
        if !known.cluster_id.is_empty() && known.cluster_id != own.as_str() {
            return refused(format!(
                "the manager at {address} belongs to cluster {}; empty its data folder if it is not wanted there",
                known.cluster_id
            ));
        }
        let member = members.get_node(&known.node_id);
        match (known.node_id, member) {
            (0, _) => {}
            (id, Some(node)) if node.peer_address == address => return Ok(id),
            (id, Some(node)) => {
                return refused(format!(
                    "the manager at {address} is manager {id}, which is known at {}; if it has moved, say `manager \
                     set-address {id} {address}`",
                    node.peer_address
                ));
            }
            (id, None) if known.initialized => {
                return refused(format!(
                    "the manager at {address} was manager {id} of this cluster and has been removed; an id is never used \
                     again. Empty its data folder and start it again, then it gets a new one"
                ));
            }
            (_, None) => {}
        }
        if let Some((id, _)) = members.nodes().find(|(_, node)| node.peer_address == address) {
            return refused(format!(
                "{address} is the address of manager {id}, whose data folder is gone; say `manager remove {id}`, start the \
                 empty one there again, then add it"
            ));
        }
        if members.nodes().count() >= MANAGERS_MAX {
            return refused(format!("the cluster has {MANAGERS_MAX} managers, which is the limit; remove one first"));
        }
        let last = self.metrics().and_then(|metrics| metrics.last_log_index).unwrap_or_default();
        let id = match known.node_id {
            0 => self.draw_id().await?,
            // Adopted by a leader that fell before it could go on; it has no log and never voted.
            id if id <= last => id,
            id => return refused(format!("the manager at {address} has id {id}, which this cluster never gave")),
        };
        adopt(&mut peer, &own, id).await.map_err(refused_by_peer)?;
        let node = ManagerNode { peer_address: address, client_address: known.client_address };
        self.step(Change::AddNodes(BTreeMap::from([(id, node.clone())]))).await?;
        tell(Step::Did(format!("manager {id} at {} follows as a learner", node.peer_address)));
        Ok(id)
    }

    /// Draws an id: the index of an entry that is committed for nothing else, so nobody had it and nobody will.
    async fn draw_id(&self) -> Result<u64, MembershipError> {
        loop {
            let index = self.step(Change::AddNodes(BTreeMap::new())).await?;
            if index > INIT_IDS_MAX {
                return Ok(index);
            }
        }
    }

    /// Waits until a learner has caught up, then gives it a vote; in the same change `gone` loses its own.
    async fn make_voter(&self, id: u64, gone: Option<u64>, tell: Tell<'_>) -> Result<(), MembershipError> {
        let voters: BTreeSet<u64> = self.members()?.voter_ids().collect();
        let mut wanted = voters.clone();
        wanted.insert(id);
        if let Some(gone) = gone {
            wanted.remove(&gone);
        }
        if wanted == voters {
            return self.done_already().await;
        }
        if !voters.contains(&id) {
            self.catch_up(id, tell).await?;
        }
        self.check_quorum(&wanted).await?;
        self.step(Change::ReplaceAllVoters(wanted)).await?;
        tell(Step::Did(match gone {
            Some(gone) => format!("manager {id} votes in the place of manager {gone}"),
            None => format!("manager {id} votes"),
        }));
        Ok(())
    }

    async fn catch_up(&self, id: u64, tell: Tell<'_>) -> Result<(), MembershipError> {
        let (mut before, mut since, mut told) = (None, Instant::now(), None::<Instant>);
        loop {
            let metrics = self.metrics().ok_or(MembershipError::NotLeader)?;
            let replication = metrics.replication.as_ref().ok_or(MembershipError::NotLeader)?;
            let matched = replication.get(&id).and_then(|log_id| log_id.as_ref()).map(|log_id| log_id.index);
            let last = metrics.last_log_index.unwrap_or_default();
            if matched.is_some_and(|matched| matched + CAUGHT_UP_ENTRIES >= last) {
                return Ok(());
            }
            if matched != before {
                (before, since) = (matched, Instant::now());
            }
            if since.elapsed() > CATCH_UP_PATIENCE {
                return Err(MembershipError::Refused(format!(
                    "manager {id} has {} of {last} entries and has taken none for {CATCH_UP_PATIENCE:?}; it stays a \
                     learner. Look at its log, then say it again",
                    matched.unwrap_or_default()
                )));
            }
            if told.is_none_or(|at| at.elapsed() > TELL_INTERVAL) {
                told = Some(Instant::now());
                if !tell(Step::CatchingUp(matched.unwrap_or_default(), last)) {
                    return Err(MembershipError::Refused("nobody waits for it any more; it stays a learner".into()));
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn take_out(&self, id: u64, tell: Tell<'_>) -> Result<(), MembershipError> {
        self.take_vote(id, tell).await?;
        self.step(Change::RemoveNodes(BTreeSet::from([id]))).await?;
        Ok(())
    }

    async fn take_vote(&self, id: u64, tell: Tell<'_>) -> Result<(), MembershipError> {
        let mut wanted: BTreeSet<u64> = self.members()?.voter_ids().collect();
        if !wanted.remove(&id) {
            return self.done_already().await;
        }
        if wanted.is_empty() {
            return Err(MembershipError::Refused(format!(
                "manager {id} is the only one that votes; add another one first"
            )));
        }
        self.check_quorum(&wanted).await?;
        self.check_leads_not(id)?;
        // Kept as a learner: what is left standing here is a manager that follows.
        self.step(Change::RemoveVoters(BTreeSet::from([id]))).await?;
        tell(Step::Did(format!("manager {id} votes no more")));
        Ok(())
    }

    /// Refuses a manager that could not read what the others write.
    fn check_knows(&self, peer: &Peer) -> Result<(), MembershipError> {
        let (known, version) = (CommandVersion::from_wire(peer.description.command_version), self.version());
        if known >= version {
            return Ok(());
        }
        Err(MembershipError::Refused(format!(
            "the manager at {} knows commands up to version {known}, the cluster takes those of version {version}; run a \
             newer minder-manager there",
            peer.address
        )))
    }

    /// A leader does not take itself out: somebody else leads first.
    fn check_leads_not(&self, id: u64) -> Result<(), MembershipError> {
        match self.identity().is_some_and(|identity| identity.manager.0 == id) {
            true => Err(MembershipError::Leads(id)),
            false => Ok(()),
        }
    }

    /// Refuses a set of voters of which too few live to decide anything.
    async fn check_quorum(&self, voters: &BTreeSet<u64>) -> Result<(), MembershipError> {
        let members = self.members()?;
        let asked = voters.iter().map(|id| {
            let address = members.get_node(id).map(|node| node.peer_address.clone()).unwrap_or_default();
            async move { (*id, self.at(*id, &address).await.is_some()) }
        });
        let silent: Vec<String> =
            join_all(asked).await.into_iter().filter(|(_, lives)| !lives).map(|(id, _)| id.to_string()).collect();
        let (live, needed) = (voters.len() - silent.len(), voters.len() / 2 + 1);
        if live >= needed {
            return Ok(());
        }
        Err(MembershipError::Refused(format!(
            "this would lose the quorum: of the {} managers that would vote, {needed} are needed and {live} answer (silent: \
             {}). Bring one back, or replace a silent one, first",
            voters.len(),
            silent.join(", ")
        )))
    }

    /// The process that answers as manager `id` at this address.
    async fn at(&self, id: u64, address: &str) -> Option<String> {
        let peer = tokio::time::timeout(ALIVE_DEADLINE, describe(address.to_owned())).await.ok()?.ok()?;
        self.check_is(&peer, id).ok()?;
        Some(peer.description.instance)
    }

    pub(super) fn check_is(&self, peer: &Peer, id: u64) -> Result<(), MembershipError> {
        let own = self.identity().map(|identity| identity.cluster.to_string()).unwrap_or_default();
        let known = &peer.description;
        if known.cluster_id == own && known.node_id == id {
            return Ok(());
        }
        let who = match known.node_id {
            0 => "belongs to no cluster".to_owned(),
            other => format!("is manager {other} of cluster {}", known.cluster_id),
        };
        Err(MembershipError::Refused(format!("the manager at {} {who}, it is not manager {id}", peer.address)))
    }

    /// One change, committed. Gives the log index of its last entry.
    async fn step(&self, change: Change) -> Result<u64, MembershipError> {
        let raft = self.raft().ok_or(MembershipError::NotLeader)?;
        let written = tokio::time::timeout(STEP_DEADLINE, raft.change_membership(change, true)).await;
        match written {
            Ok(Ok(answer)) => Ok(answer.log_id.index),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(MembershipError::NotLeader),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => Err(MembershipError::Unsure("the change of managers before this one is not committed yet".into())),
            Ok(Err(error)) => Err(MembershipError::Unsure(error.to_string())),
            Err(_) => Err(MembershipError::Unsure(format!("not committed within {STEP_DEADLINE:?}"))),
        }
    }

    /// The manager of that id, or at that peer or client address.
    fn find(&self, name: &str) -> Result<(u64, ManagerNode), MembershipError> {
        let members = self.members()?;
        let found = members
            .nodes()
            .find(|(id, node)| id.to_string() == name || node.peer_address == name || node.client_address == name);
        found
            .map(|(id, node)| (*id, node.clone()))
            .ok_or_else(|| MembershipError::NoSuchManager(format!("there is no manager {name} in this cluster")))
    }

    /// The manager that is to be replaced by this one; none when that has happened already.
    fn find_old(&self, name: &str, new: &Peer) -> Result<Option<(u64, ManagerNode)>, MembershipError> {
        match self.find(name) {
            Ok(old) => Ok(Some(old)),
            // Said again: whoever has an id of this cluster was let in by the same command.
            Err(_) if self.check_is(new, new.description.node_id).is_ok() => Ok(None),
            Err(MembershipError::NoSuchManager(text)) => Err(MembershipError::NoSuchManager(format!(
                "{text}; if it was removed before, say `manager add {}`",
                new.address
            ))),
            Err(error) => Err(error),
        }
    }

    /// Who takes part, as of the latest change of it.
    pub(super) fn members(&self) -> Result<Membership<u64, ManagerNode>, MembershipError> {
        let metrics: RaftMetrics<TypeConfig> = self.metrics().ok_or(MembershipError::NotLeader)?;
        Ok(metrics.membership_config.membership().clone())
    }

    fn changed(&self, id: u64) -> Result<Changed, MembershipError> {
        let members = self.members()?;
        let voter = members.voter_ids().any(|voter| voter == id);
        let member = members.get_node(&id).map(|node| (id, node.clone(), voter));
        Ok(Changed { member, warnings: self.warnings()? })
    }

    fn warnings(&self) -> Result<Vec<String>, MembershipError> {
        let voters = self.members()?.voter_ids().count();
        Ok(match voters {
            1 => vec!["1 manager votes: nothing can be decided without it".into()],
            even if even % 2 == 0 => {
                vec![format!(
                    "{even} managers vote, which stand no more failures than {}; an odd number is better",
                    even - 1
                )]
            }
            _ => Vec::new(),
        })
    }
}

fn refused_by_peer(error: InitError) -> MembershipError {
    match error {
        InitError::Usage(text) | InitError::Exists(text) | InitError::Failed(text) => MembershipError::Refused(text),
    }
}

impl From<TransferError> for MembershipError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotLeader => Self::NotLeader,
            error => Self::Refused(error.to_string()),
        }
    }
}

/// Whether these are a majority of the voters; while the voters change, of those before and of those after.
pub(super) fn is_majority(members: &Membership<u64, ManagerNode>, agreed: &BTreeSet<u64>) -> bool {
    members.get_joint_config().iter().all(|voters| voters.intersection(agreed).count() > voters.len() / 2)
}
