//! One consensus node: opened from a folder, adopted into a cluster, proposing, confirming, watched.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use minder_model::Revision;
use minder_proto::v1;
use minder_raft_store::{
    ExitReason, Hooks, Identity, LogStore, Machine, OpenError, Raft, Store, StoreOptions, TypeConfig,
};
use minder_state::{Proposal, Reply, State};
use openraft::{
    Config, RaftMetrics,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
    raft::ReadPolicy,
    type_config::alias::WatchReceiverOf,
};
use tokio::sync::{Semaphore, watch};

use super::{RaftSettings, network::Peers};

/// Proposals in flight: at 20,000 a second and 20 ms each there are 400; ten times that is a queue nobody should wait
/// in, so the next one is told so at once.
const PROPOSALS_MAX: usize = 4_096;
/// A proposal without an answer for this long has an unknown outcome: its client should ask again.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(5);
/// A quorum round takes milliseconds; a leader that cannot finish one for this long cannot serve reads.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(2);
/// A transfer takes milliseconds; after this the leader leads on.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(3);

/// Where this manager is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// By users and slaves.
    pub client: String,
    /// By the other managers.
    pub peer: String,
}

/// A manager of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Node id.
    pub id: u64,
    /// Where managers reach it.
    pub peer_address: String,
    /// Where users and slaves reach it.
    pub client_address: String,
    /// Whether it votes.
    pub voter: bool,
}

/// Whoever leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Node id.
    pub id: u64,
    /// Where users and slaves reach it.
    pub client_address: String,
    /// It is this manager.
    pub own: bool,
}

/// Who leads whom, as this manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Leader>,
    /// This manager leads, and has applied an entry of its own term: its state is as new as anybody's.
    pub leading: bool,
    /// All managers.
    pub managers: Vec<Member>,
}

/// Why a proposal has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// There is no cluster yet.
    #[error("this manager belongs to no cluster yet")]
    NoCluster,
    /// It was not appended; another manager leads, or nobody does.
    #[error("this manager does not lead")]
    NotLeader,
    /// Too many proposals are in flight; it was not appended.
    #[error("too busy: {PROPOSALS_MAX} writes are in flight; try again in a moment")]
    TooBusy,
    /// It may or may not happen.
    #[error("no answer: {0}")]
    Unknown(String),
    /// This manager is stopping.
    #[error("this manager is stopping")]
    Stopped,
}

/// Why leadership was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no cluster yet.
    #[error("this manager belongs to no cluster yet")]
    NoCluster,
    /// Another manager leads, or nobody does.
    #[error("this manager does not lead")]
    NotLeader,
    /// Fewer than half of the managers answered.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// This manager is stopping.
    #[error("this manager is stopping")]
    Stopped,
}

/// Why leadership was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can.
    #[error("this manager does not lead")]
    NotLeader,
    /// The target is unknown.
    #[error("there is no manager {0}")]
    NoSuchManager(u64),
    /// The target cannot lead.
    #[error("{0}")]
    Refused(String),
    /// It did not happen in time; the leader leads on.
    #[error("manager {0} did not take over within {TRANSFER_DEADLINE:?}; is it up and in step?")]
    NotInTime(u64),
}

/// Why the process must end.
#[derive(Debug, Clone)]
pub struct Fatal {
    /// What it exits with.
    pub exit_code: u8,
    /// What happened and what to do.
    pub message: String,
}

/// The handle. Clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// openraft's parts, until it takes them.
    parts: Mutex<Option<(LogStore, Machine)>>,
    raft: OnceLock<Raft>,
    identity: OnceLock<Identity>,
    adopting: tokio::sync::Mutex<()>,
    config: Arc<Config>,
    addresses: Addresses,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
    proposals: Semaphore,
    leader_changes: AtomicU64,
    started: Instant,
}

impl Node {
    /// Opens the folder and, when it belongs to a cluster, takes part in it. `make` gets the revision that the state
    /// stands at and gives whatever follows it with the hooks that feed it.
    pub async fn open<T>(
        data: &Path,
        settings: &RaftSettings,
        addresses: Addresses,
        make: impl FnOnce(Revision) -> (T, Hooks),
    ) -> Result<(Self, T), OpenError> {
        let invalid = |error: anyhow::Error| OpenError::Storage {
            folder: data.into(),
            source: std::io::Error::other(format!("{error:#}")),
        };
        let config = settings.config().map_err(invalid)?;
        let mut made = None;
        let opened = Store::open(&StoreOptions { folder: data.into() }, |published| {
            let (value, hooks) = make(published.revision());
            made = Some(value);
            hooks
        })?;
        let identity = opened
            .store
            .identity()
            .map_err(|source| OpenError::Storage { folder: data.into(), source })?;
        let inner = Inner {
            store: opened.store,
            parts: Mutex::new(Some((opened.log, opened.machine))),
            raft: OnceLock::new(),
            identity: OnceLock::new(),
            adopting: tokio::sync::Mutex::new(()),
            config,
            addresses,
            leadership: watch::channel(Leadership::default()).0,
            fatal: watch::channel(None).0,
            proposals: Semaphore::new(PROPOSALS_MAX),
            leader_changes: AtomicU64::new(0),
            started: Instant::now(),
        };
        let node = Self { inner: Arc::new(inner) };
        if let Some(identity) = identity {
            node.start(identity).await.map_err(invalid)?;
        }
        match made {
            Some(value) => Ok((node, value)),
            None => Err(invalid(anyhow::anyhow!("the store opened without asking whom to tell"))),
        }
    }

    /// The Raft node, once this manager belongs to a cluster.
    pub fn raft(&self) -> Option<&Raft> {
        self.inner.raft.get()
    }

    /// Who this manager is, once it was told.
    pub fn identity(&self) -> Option<&Identity> {
        self.inner.identity.get()
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.inner.addresses
    }

    /// The state as of the last applied entry here, and that entry's index. Cheap.
    pub fn snapshot_state(&self) -> (State, Revision) {
        let published = self.inner.store.published();
        let revision = published.revision();
        (published.state, revision)
    }

    /// Who leads, followed.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Proposes and waits for the answer.
    pub async fn propose(&self, proposal: Proposal) -> Result<Reply, ProposeError> {
        let raft = self.raft().ok_or(ProposeError::NoCluster)?;
        let _permit = self.inner.proposals.try_acquire().map_err(|_| ProposeError::TooBusy)?;
        let written = tokio::time::timeout(PROPOSE_DEADLINE, raft.client_write(proposal.into())).await;
        match written {
            Ok(Ok(answer)) => answer.data.ok_or_else(|| ProposeError::Unknown("an entry without an answer".into())),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ProposeError::Unknown(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Unknown(format!("not decided within {PROPOSE_DEADLINE:?}"))),
        }
    }

    /// Confirms leadership by a quorum round that begins now, and waits until everything that was committed before is
    /// applied here. The round is the only proof: leases are never trusted.
    pub async fn confirm(&self) -> Result<Revision, ReadError> {
        let raft = self.raft().ok_or(ReadError::NoCluster)?;
        let confirmed = tokio::time::timeout(CONFIRM_DEADLINE, raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        match confirmed {
            Ok(Ok(read)) => Ok(Revision(read.index())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Err(ReadError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ReadError::NoQuorum(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoQuorum(format!("no answer within {CONFIRM_DEADLINE:?}"))),
        }
    }

    /// Gives leadership to `to`, or to the voter that is furthest in step. Returns who leads then.
    pub async fn transfer(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let raft = self.raft().ok_or(TransferError::NotLeader)?;
        let mut leadership = self.leadership();
        let now = leadership.borrow_and_update().clone();
        if !now.leading {
            return Err(TransferError::NotLeader);
        }
        let own = *raft.node_id();
        let target = match to {
            Some(to) if to == own => return Ok(own),
            Some(to) => to,
            None => self.furthest_voter(own).ok_or_else(|| {
                TransferError::Refused("there is no other manager to transfer leadership to".into())
            })?,
        };
        match now.managers.iter().find(|member| member.id == target) {
            None => return Err(TransferError::NoSuchManager(target)),
            Some(member) if !member.voter => {
                return Err(TransferError::Refused(format!("manager {target} does not vote, so it cannot lead")));
            }
            Some(_) => {}
        }
        raft.trigger().transfer_leader(target).await.map_err(|_| TransferError::NotLeader)?;
        let moved = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|leader| leader.id == target));
        match tokio::time::timeout(TRANSFER_DEADLINE, moved).await {
            Ok(Ok(_)) => Ok(target),
            Ok(Err(_)) | Err(_) => Err(TransferError::NotInTime(target)),
        }
    }

    fn furthest_voter(&self, own: u64) -> Option<u64> {
        let metrics = self.metrics()?;
        let voters: Vec<u64> = metrics.membership_config.voter_ids().filter(|id| *id != own).collect();
        let matched = |id: &u64| {
            let replication = metrics.replication.as_ref()?;
            replication.get(id)?.as_ref().map(|log_id| log_id.index)
        };
        voters.into_iter().max_by_key(|id| matched(id))
    }

    /// Stops in order: a leader first gives its leadership away.
    pub async fn shutdown(&self) {
        let Some(raft) = self.raft() else { return };
        if self.leadership().borrow().leading
            && let Err(error) = self.transfer(None).await
        {
            tracing::info!(%error, "stopping without a transfer of leadership");
        }
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
    }

    /// Waits for a reason to end the process.
    pub async fn fatal(&self) -> Fatal {
        let mut fatal = self.inner.fatal.subscribe();
        let found = fatal.wait_for(Option::is_some).await.map(|found| found.clone());
        match found {
            Ok(Some(fatal)) => fatal,
            // The sender lives as long as this node.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn fail(&self, fatal: Fatal) {
        self.inner.fatal.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(fatal);
            }
            is_first
        });
    }

    /// Bytes left on the data folder's file system; none when it cannot be asked.
    pub fn disk_free_bytes(&self) -> u64 {
        self.inner.store.disk_free_bytes().unwrap_or_default()
    }

    /// Takes the identity that `init` or an operator gives, durably, and begins to take part.
    pub(super) async fn adopt(&self, identity: Identity) -> anyhow::Result<()> {
        let _one_at_a_time = self.inner.adopting.lock().await;
        if self.identity() == Some(&identity) {
            return Ok(());
        }
        self.inner.store.set_identity(&identity)?;
        self.start(identity).await
    }

    pub(super) fn describe(&self) -> v1::DescribeReply {
        let identity = self.identity();
        v1::DescribeReply {
            cluster_id: identity.map(|identity| identity.cluster.to_string()).unwrap_or_default(),
            node_id: identity.map_or(0, |identity| identity.manager.0),
            client_address: self.inner.addresses.client.clone(),
            peer_address: self.inner.addresses.peer.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    async fn start(&self, identity: Identity) -> anyhow::Result<()> {
        let Some((log, machine)) = crate::lock(&self.inner.parts).take() else {
            bail!("this manager takes part already");
        };
        let id = identity.manager.0;
        let peers = Peers::new(identity.cluster.clone(), id);
        let raft = Raft::new(id, self.inner.config.clone(), peers, log, machine)
            .await
            .context("consensus does not start")?;
        tokio::spawn(follow(self.clone(), raft.metrics()));
        // Set once, under the lock of `parts`: only the first caller found them.
        let _ = self.inner.identity.set(identity);
        let _ = self.inner.raft.set(raft);
        Ok(())
    }

    fn metrics(&self) -> Option<RaftMetrics<TypeConfig>> {
        Some(self.raft()?.metrics().borrow_watched().clone())
    }

    /// How this manager stands, for people.
    pub fn status(&self) -> v1::ManagerStatus {
        let published = self.inner.store.published();
        let sync = self.inner.store.sync_stats();
        let base = v1::ManagerStatus {
            member: Some(v1::ManagerMember {
                id: self.identity().map_or(0, |identity| identity.manager.0),
                peer_address: self.inner.addresses.peer.clone(),
                client_address: self.inner.addresses.client.clone(),
            }),
            role: "no cluster".into(),
            applied_index: published.revision().0,
            state_hash: published.state.hash().to_string(),
            fsync_p50_us: sync.p50.as_micros() as u64,
            fsync_p99_us: sync.p99.as_micros() as u64,
            leader_changes: self.inner.leader_changes.load(Ordering::Relaxed),
            uptime_seconds: self.inner.started.elapsed().as_secs(),
            disk_free_bytes: self.disk_free_bytes(),
            ..Default::default()
        };
        let Some(metrics) = self.metrics() else { return base };
        let index = |log_id: &Option<minder_raft_store::LogId>| log_id.as_ref().map_or(0, |log_id| log_id.index);
        v1::ManagerStatus {
            role: role(metrics.state).into(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            committed_index: index(&metrics.local_committed),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            voter: metrics.membership_config.voter_ids().any(|id| id == metrics.id),
            ..base
        }
    }
}

fn role(state: openraft::ServerState) -> &'static str {
    match state {
        openraft::ServerState::Leader => "leader",
        openraft::ServerState::Follower => "follower",
        openraft::ServerState::Candidate => "candidate",
        openraft::ServerState::Learner => "learner",
        openraft::ServerState::Shutdown => "stopping",
    }
}

/// Turns openraft's metrics into leadership, and its end into a reason for the process to end.
async fn follow(node: Node, mut metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>) {
    loop {
        let now = metrics.borrow_watched().clone();
        if let Err(fatal) = &now.running_state {
            if !matches!(fatal, openraft::errors::Fatal::Stopped) {
                let message = format!(
                    "consensus stopped: {fatal}. Look at the disk under the data folder, then start this manager again"
                );
                node.fail(Fatal { exit_code: ExitReason::Storage.code(), message });
            }
            return;
        }
        let leadership = leadership(&now);
        node.inner.leadership.send_if_modified(|before| {
            let changed = *before != leadership;
            let leader = |leadership: &Leadership| leadership.leader.as_ref().map(|leader| leader.id);
            if leader(&leadership).is_some() && leader(&leadership) != leader(before) {
                node.inner.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            *before = leadership;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn leadership(metrics: &RaftMetrics<TypeConfig>) -> Leadership {
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let managers = membership.nodes().map(|(id, node)| Member {
        id: *id,
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        voter: voters.contains(id),
    });
    let leader = metrics.current_leader.and_then(|id| {
        let node = membership.get_node(&id)?;
        Some(Leader { id, client_address: node.client_address.clone(), own: id == metrics.id })
    });
    let own_entry_applied =
        metrics.last_applied.as_ref().is_some_and(|applied| applied.leader_id.term == metrics.current_term);
    Leadership {
        term: metrics.current_term,
        leading: metrics.state.is_leader() && own_entry_applied && leader.as_ref().is_some_and(|leader| leader.own),
        leader,
        managers: managers.collect(),
    }
}
