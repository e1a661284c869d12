//! One consensus node: opened from a folder, adopted into a cluster, proposing, confirming, watched.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use minder_model::{CommandVersion, Revision};
use minder_proto::v1;
use minder_raft_store::{
    ExitReason, Hooks, Identity, LogStore, Machine, OpenError, Raft, SharedProposal, Store, StoreOptions, SyncExecutor,
    TypeConfig,
};
use minder_state::{Outline, Reply, State};
use openraft::{
    Config, RaftLogReader as _, RaftMetrics,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, Fatal as CoreEnd, ForwardReason, RaftError},
};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::{
    RaftSettings,
    belonging::look_after,
    confirm::Silent,
    emptied,
    error::{Fatal, ProposeError, ReadError},
    gone::follow_hints,
    leadership::{Leader, Leadership, follow},
    log_bound::{LogBound, keep_log_bound},
    network::{Directory, Peers},
    proposals::{Proposals, Queue, Written},
    rounds::Rounds,
    stuck,
};

/// A proposal without an answer for this long has an unknown outcome: its client should ask again.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(5);
/// A leader whose last quorum is older than its lease takes no proposals. Late heartbeats on a busy machine mend
/// themselves within a few beats; somebody cut off is told so after this.
const LEASE_PATIENCE: Duration = Duration::from_secs(1);
/// With less room than this a failed write is taken for a full disk.
const DISK_FULL_BYTES: u64 = 1024 * 1024;
/// Consensus has said how it stands within this, at the latest.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Exit code for an end that only a mistake in this program explains (`EX_SOFTWARE`).
const EXIT_MISTAKE: u8 = 70;

/// Where this manager is reached.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// By users and slaves.
    pub client: String,
    /// By the other managers.
    pub peer: String,
}

/// The handle. Clones share it.
#[derive(Clone)]
pub struct Node {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    store: Store,
    /// openraft's parts, until it takes them.
    pub(super) parts: Mutex<Option<(LogStore, Machine)>>,
    raft: OnceLock<Raft>,
    identity: OnceLock<Identity>,
    pub(super) adopting: tokio::sync::Mutex<()>,
    /// Held by the one `init` that may be under way.
    pub(super) initialising: tokio::sync::Mutex<()>,
    /// Held by the one change of managers that may be under way.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// When a leader's message last came in, in milliseconds after `started`.
    heard_ms: AtomicU64,
    /// Leaders whose stream of entries has ended.
    pub(super) hints: mpsc::Sender<u64>,
    /// The other end, until the node takes part.
    hinted: Mutex<Option<mpsc::Receiver<u64>>>,
    /// The term in which this manager has given leadership up although its core leads on, and its successor.
    resigned: Mutex<Option<(u64, Option<Leader>)>>,
    /// Wakes whoever waits for an answer of a leader that has given up.
    resigning: Notify,
    /// Where the other managers are.
    directory: Arc<Directory>,
    /// The way to them, once the node takes part.
    peers: OnceLock<Peers>,
    /// Snapshots being received: from a leader that was just deposed, and from its successor.
    pub(super) receiving: Semaphore,
    config: Arc<Config>,
    pub(super) log_bound: LogBound,
    addresses: Addresses,
    /// Drawn at this start.
    pub(super) instance: String,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
    /// Who waits for leadership to be confirmed.
    pub(super) rounds: Rounds<Result<Revision, ReadError>>,
    /// Whom it is no use to ask again at once.
    pub(super) silent: Silent,
    proposals: Proposals,
    /// Their other end, until the node takes part.
    queue: Mutex<Option<Queue>>,
    pub(super) leader_changes: AtomicU64,
    pub(super) started: Instant,
    stopping: AtomicBool,
    /// It was said that somebody calls this manager by an id, and its folder is empty.
    pub(super) called_though_empty: AtomicBool,
}

impl Node {
    /// Opens the folder and, when it belongs to a cluster, takes part in it. `make` gets the revision that the state
    /// stands at and gives whatever follows it with the hooks that feed it.
    pub async fn open<T>(
        data: &Path,
        settings: &RaftSettings,
        sync: SyncExecutor,
        addresses: Addresses,
        make: impl FnOnce(Revision) -> (T, Hooks),
    ) -> Result<(Self, T), OpenError> {
        let invalid = |error: anyhow::Error| OpenError::Storage {
            folder: data.into(),
            source: std::io::Error::other(format!("{error:#}")),
        };
        let config = settings.config().map_err(invalid)?;
        let mut made = None;
        let opened = Store::open_with(&StoreOptions { folder: data.into() }, sync, |published| {
            let (value, hooks) = make(published.revision());
            made = Some(value);
            hooks
        })?;
        let identity = opened.store.identity().map_err(|source| OpenError::Storage { folder: data.into(), source })?;
        let (hints, hinted) = mpsc::channel(1);
        let (proposals, queue) = Proposals::new(settings.writes_in_flight_mib);
        let inner = Inner {
            store: opened.store,
            parts: Mutex::new(Some((opened.log, opened.machine))),
            raft: OnceLock::new(),
            identity: OnceLock::new(),
            adopting: tokio::sync::Mutex::new(()),
            initialising: tokio::sync::Mutex::new(()),
            changing: tokio::sync::Mutex::new(()),
            heard_ms: AtomicU64::new(0),
            hints,
            hinted: Mutex::new(Some(hinted)),
            resigned: Mutex::default(),
            resigning: Notify::new(),
            directory: Arc::default(),
            peers: OnceLock::new(),
            receiving: Semaphore::new(2),
            config,
            log_bound: LogBound::from(settings),
            addresses,
            instance: uuid::Uuid::new_v4().to_string(),
            leadership: watch::channel(Leadership::default()).0,
            fatal: watch::channel(None).0,
            rounds: Rounds::default(),
            silent: Silent::default(),
            proposals,
            queue: Mutex::new(Some(queue)),
            leader_changes: AtomicU64::new(0),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            called_though_empty: AtomicBool::new(false),
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

    /// A look at the state as of the last applied entry here, for what is over at once: nothing is applied meanwhile.
    /// Cheaper than [`Self::snapshot_state`] for every write that comes after it.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.inner.store.look(|published| look(&published.state))
    }

    /// A look at what every write asks, which waits for nothing that is applied meanwhile.
    pub fn outline<T>(&self, look: impl FnOnce(&Outline) -> T) -> T {
        self.inner.store.outline(look)
    }

    /// The last applied entry's index here.
    pub fn applied(&self) -> Revision {
        self.inner.store.look(minder_raft_store::Published::revision)
    }

    /// Whether this manager leads.
    pub fn leads(&self) -> bool {
        self.inner.leadership.borrow().leading
    }

    /// Who leads, followed.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Proposes and waits for the answer.
    pub async fn propose(&self, proposal: impl Into<SharedProposal>) -> Result<Reply, ProposeError> {
        if self.raft().is_none() {
            return Err(ProposeError::NoCluster);
        }
        let proposal: SharedProposal = proposal.into();
        let _room = self.inner.proposals.admit(proposal.bytes().len())?;
        // Dropping a proposal in flight takes nothing back: its answer is lost, which is what is said.
        let written = tokio::select! {
            biased;
            written = tokio::time::timeout(PROPOSE_DEADLINE, self.write(proposal)) => written,
            () = self.inner.resigning.notified() => {
                return Err(ProposeError::Unknown("this manager was stuck and has given its leadership up".into()));
            }
        };
        match written {
            Ok(Ok(answer)) => answer.ok_or_else(|| ProposeError::Unknown("an entry without an answer".into())),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ProposeError::Unknown(error.to_string())),
            // It may have been appended before the end.
            Ok(Err(RaftError::Fatal(_))) if !self.is_stopping() => {
                Err(ProposeError::Unknown("this manager's consensus has ended".into()))
            }
            Ok(Err(RaftError::Fatal(_))) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Unknown(format!("not decided within {PROPOSE_DEADLINE:?}"))),
        }
    }

    /// Writes, and again as long as nothing was appended only because the lease has run out.
    async fn write(&self, proposal: SharedProposal) -> Written {
        let begin = Instant::now();
        loop {
            match self.inner.proposals.write(proposal.clone()).await {
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))
                    if forward.reason == ForwardReason::LeaseExpired && begin.elapsed() < LEASE_PATIENCE =>
                {
                    tokio::time::sleep(self.beat()).await;
                }
                other => return other,
            }
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

    /// A message of a leader came in.
    pub(super) fn heard(&self) {
        self.inner.heard_ms.store(self.inner.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Nobody has led this manager for so long, and it does not lead itself.
    pub(super) fn heard_nothing_for(&self, silence: Duration) -> bool {
        let heard = Duration::from_millis(self.inner.heard_ms.load(Ordering::Relaxed));
        let leading = self.inner.leadership.borrow().leading;
        !leading && self.inner.started.elapsed().saturating_sub(heard) > silence
    }

    /// Notes who leads now.
    pub(super) fn lead(&self, now: Leadership) {
        self.inner.directory.learn(&now.managers);
        let now = self.unless_resigned(now);
        let leader = |leadership: &Leadership| leadership.leader.as_ref().map(|leader| leader.id);
        self.inner.leadership.send_if_modified(|before| {
            if leader(&now).is_some() && leader(&now) != leader(before) {
                self.inner.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Gives leadership in this term up for everybody here, whatever the core says; `successor` once one is known.
    pub(super) fn resign(&self, term: u64, successor: Option<Leader>) {
        *crate::lock(&self.inner.resigned) = Some((term, successor));
        let now = self.inner.leadership.borrow().clone();
        self.lead(now);
        self.inner.resigning.notify_waiters();
    }

    /// It was stuck and gave leadership in this term up; its core has not noticed yet that somebody else leads.
    pub(super) fn has_resigned(&self, in_term: u64) -> bool {
        crate::lock(&self.inner.resigned).as_ref().is_some_and(|(term, _)| *term == in_term)
    }

    fn unless_resigned(&self, now: Leadership) -> Leadership {
        match &*crate::lock(&self.inner.resigned) {
            Some((term, successor)) if *term == now.term => {
                Leadership { leader: successor.clone(), leading: false, ..now }
            }
            Some(_) | None => now,
        }
    }

    /// Consensus has ended. Unless it was told to, the process must end too: a manager that answers but takes part in
    /// nothing would look alive.
    pub(super) fn ended(&self, why: &CoreEnd<TypeConfig>) {
        let before = self.inner.leadership.borrow().clone();
        self.lead(Leadership { leading: false, leader: None, ..before });
        if self.is_stopping() {
            return;
        }
        if let Some(damage) = self.inner.store.damage() {
            return self.fail(Fatal { exit_code: damage.exit_reason().code(), message: damage.to_string() });
        }
        let (exit_code, advice) = match why {
            CoreEnd::StorageError(_) if self.disk_free_bytes() < DISK_FULL_BYTES => {
                (ExitReason::DiskFull.code(), "the disk under the data folder is full: make room, then start again")
            }
            CoreEnd::StorageError(_) => {
                (ExitReason::Storage.code(), "look at the disk under the data folder, then start this manager again")
            }
            CoreEnd::Panicked | CoreEnd::Stopped => {
                (EXIT_MISTAKE, "this is a mistake in the program: keep the log, start this manager again")
            }
        };
        self.fail(Fatal { exit_code, message: format!("consensus stopped: {why}; {advice}") });
    }

    pub(super) fn begin_to_stop(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Relaxed)
    }

    /// How long a follower believes in a leader it does not hear.
    pub(super) fn belief(&self) -> Duration {
        Duration::from_millis(self.inner.config.election_timeout_max)
    }

    /// Between two signs of a leader.
    pub(super) fn beat(&self) -> Duration {
        Duration::from_millis(self.inner.config.heartbeat_interval)
    }

    /// The way to the other managers, once this one takes part.
    pub(super) fn peers(&self) -> Option<&Peers> {
        self.inner.peers.get()
    }

    /// Proposals without an answer yet.
    pub fn proposals_in_flight(&self) -> usize {
        self.inner.proposals.in_flight()
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
        self.check_not_rebuilt()?;
        self.inner.store.set_identity(&identity)?;
        self.start(identity).await.inspect_err(|error| {
            // It knows who it is but takes no part; a fresh start can mend that, this process cannot.
            self.fail(Fatal { exit_code: ExitReason::Storage.code(), message: format!("{error:#}") });
        })
    }

    pub(super) async fn describe(&self) -> v1::DescribeReply {
        let identity = self.identity();
        let initialized = match self.raft() {
            // One that cannot tell is better left alone.
            Some(raft) => raft.is_initialized().await.unwrap_or(true),
            None => false,
        };
        v1::DescribeReply {
            cluster_id: identity.map(|identity| identity.cluster.to_string()).unwrap_or_default(),
            node_id: identity.map_or(0, |identity| identity.manager.0),
            client_address: self.inner.addresses.client.clone(),
            peer_address: self.inner.addresses.peer.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            initialized,
            rebuilt: self.is_rebuilt(),
            instance: self.inner.instance.clone(),
            command_version: CommandVersion::NEWEST.to_wire(),
        }
    }

    pub(super) async fn start(&self, identity: Identity) -> anyhow::Result<()> {
        let Some((mut log, machine)) = crate::lock(&self.inner.parts).take() else {
            bail!("this manager takes part already");
        };
        let id = identity.manager.0;
        let term = log.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
        let (empty, refusals) = mpsc::channel(1);
        let peers = Peers::new(identity.cluster.clone(), id, self.inner.directory.clone(), empty);
        // Set once: only the first caller found the parts.
        let _ = self.inner.peers.set(peers.clone());
        let raft =
            Raft::new(id, self.inner.config.clone(), peers, log, machine).await.context("consensus does not start")?;
        // Before it has said how it stands, it would be seen to have gone back to where nothing was.
        let standing = raft.wait(Some(START_DEADLINE));
        standing
            .metrics(|now| now.current_term >= term, "the term it had")
            .await
            .context("consensus does not start")?;
        if let Some(queue) = crate::lock(&self.inner.queue).take() {
            tokio::spawn(queue.propose(raft.clone()));
        }
        tokio::spawn(follow(self.clone(), raft.metrics()));
        tokio::spawn(keep_log_bound(self.clone(), raft.clone()));
        tokio::spawn(look_after(self.clone()));
        tokio::spawn(stuck::watch(self.clone()));
        tokio::spawn(emptied::tell(self.clone(), refusals));
        if let Some(hinted) = crate::lock(&self.inner.hinted).take() {
            tokio::spawn(follow_hints(self.clone(), hinted));
        }
        // Set once, under the lock of `parts`: only the first caller found them.
        let _ = self.inner.identity.set(identity);
        let _ = self.inner.raft.set(raft);
        Ok(())
    }

    pub(super) fn metrics(&self) -> Option<RaftMetrics<TypeConfig>> {
        Some(self.raft()?.metrics().borrow_watched().clone())
    }
}
