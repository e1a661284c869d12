//! The way to the managers: one stream to each of them, kept warm, so that after an election nobody dials. Whoever says
//! with the highest term that it leads gets the session; a leader of an older term loses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use minder_model::{MESSAGE_BYTES_MAX, MachineFacts, MachineHistory, MachineUsage};
use minder_proto::v1::{self, slave_client::SlaveClient};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{events::Events, host::HostHandle, known, session, settings::Settings};

/// Messages on their way to one manager. A report is one message however long it is.
const QUEUE: usize = 64;
/// Between two attempts to reach a manager: at once after the first failure, then slower, with full jitter, so that
/// ten thousand slaves do not come back in step.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A manager that accepts a connection but does not open the stream within this is stuck.
const OPEN_DEADLINE: Duration = Duration::from_secs(3);

/// What every stream shares.
pub struct Link {
    /// Flags and file.
    pub settings: Arc<Settings>,
    /// The host.
    pub host: HostHandle,
    /// What happened here.
    pub events: Arc<Events>,
    /// Samples of the machine.
    pub machine: watch::Receiver<Option<MachineUsage>>,
    /// The machine's last hour.
    pub history: Arc<Mutex<MachineHistory>>,
    /// What rarely changes of it.
    pub facts: MachineFacts,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Drawn at this start.
    pub slave_id: String,
    /// Where an instance's output lies.
    pub logs: Box<dyn Fn(&minder_model::InstanceKey) -> PathBuf + Send + Sync>,
    /// Managers there are, as far as is known.
    managers: watch::Sender<BTreeSet<String>>,
    /// The highest term in which a manager said that it leads, and which one.
    leader: watch::Sender<(u64, String)>,
    /// For metrics alone: open streams, and those that carry a session.
    streams: Arc<AtomicUsize>,
    sessions: Arc<AtomicUsize>,
}

/// Counts as one until it is dropped.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One manager's stream.
pub struct Stream {
    /// To it.
    pub out: mpsc::Sender<v1::FromSlave>,
    /// From it.
    pub from_manager: Streaming<v1::ToSlave>,
    /// For streams beside this one.
    pub channel: Channel,
    /// Whose it is.
    pub address: String,
}

impl Link {
    /// What every stream will share.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        settings: Arc<Settings>,
        host: HostHandle,
        events: Arc<Events>,
        machine: watch::Receiver<Option<MachineUsage>>,
        history: Arc<Mutex<MachineHistory>>,
        facts: MachineFacts,
        boot_id: String,
        logs: Box<dyn Fn(&minder_model::InstanceKey) -> PathBuf + Send + Sync>,
    ) -> Self {
        let managers = settings.managers.iter().cloned().chain(known::read(&settings.data)).collect();
        Self {
            settings,
            host,
            events,
            machine,
            history,
            facts,
            boot_id,
            slave_id: uuid::Uuid::new_v4().to_string(),
            logs,
            managers: watch::channel(managers).0,
            leader: watch::channel((0, String::new())).0,
            streams: Arc::default(),
            sessions: Arc::default(),
        }
    }

    /// Attends every manager for ever, those that a leader tells of included.
    pub async fn run(self: Arc<Self>) {
        let mut managers = self.managers.subscribe();
        let attending: Mutex<BTreeMap<String, tokio::task::JoinHandle<()>>> = Mutex::default();
        let mut kept = managers.borrow().clone();
        loop {
            let wanted = managers.borrow_and_update().clone();
            if wanted != kept {
                kept = wanted.clone();
                self.keep(kept.clone()).await;
            }
            {
                let mut attending = attending.lock().unwrap_or_else(PoisonError::into_inner);
                attending.retain(|address, task| {
                    let stays = wanted.contains(address);
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for address in wanted {
                    attending
                        .entry(address.clone())
                        .or_insert_with(|| tokio::spawn(self.clone().attend_for_ever(address)));
                }
            }
            if managers.changed().await.is_err() {
                return;
            }
        }
    }

    /// What cannot be kept costs something only when this slave starts again after all its managers were replaced.
    async fn keep(&self, managers: BTreeSet<String>) {
        let data = self.settings.data.clone();
        let written = tokio::task::spawn_blocking(move || known::write(&data, &managers)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the addresses of the managers cannot be kept in the data folder");
        }
    }

    async fn attend_for_ever(self: Arc<Self>, address: String) {
        let mut wait = RETRY_MIN;
        loop {
            match self.open(&address).await {
                Ok(stream) => {
                    wait = RETRY_MIN;
                    let _open = Counted::new(&self.streams);
                    session::attend(&self, stream).await;
                    tracing::debug!(address, "the stream to this manager ended");
                }
                Err(error) => tracing::debug!(address, error, "manager not reached"),
            }
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.2..1.0))).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn open(&self, address: &str) -> Result<Stream, String> {
        let endpoint = minder_proto::dial::endpoint(address).map_err(|error| error.to_string())?;
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let (out, queue) = mpsc::channel(QUEUE);
        let mut client = SlaveClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let opened = tokio::time::timeout(OPEN_DEADLINE, client.attend(ReceiverStream::new(queue))).await;
        let from_manager = opened
            .map_err(|_| format!("no stream within {OPEN_DEADLINE:?}"))?
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        Ok(Stream { out, from_manager, channel, address: address.into() })
    }

    /// Managers that this slave has a stream to.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Managers that this slave knows of.
    pub fn managers_known(&self) -> usize {
        self.managers.borrow().len()
    }

    /// Whether a leader has the session.
    pub fn in_session(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) > 0
    }

    /// A session is open until this is dropped.
    pub fn open_session(&self) -> Counted {
        Counted::new(&self.sessions)
    }

    /// Whose the session is: the term and address of the leader known best.
    pub fn leader(&self) -> watch::Receiver<(u64, String)> {
        self.leader.subscribe()
    }

    /// A manager of this slave's cluster says that it leads in this term. `true` when nobody is known to lead in a later
    /// one.
    pub fn claim(&self, term: u64, address: &str) -> bool {
        let mut leads = false;
        self.leader.send_if_modified(|(best, whose)| {
            leads = term >= *best;
            let changed = leads && (term, address) != (*best, whose.as_str());
            if changed {
                (*best, *whose) = (term, address.into());
            }
            changed
        });
        leads
    }

    /// A leader tells which managers there are. Those of the configuration are kept, for a leader may be mistaken about
    /// how it is reached.
    pub fn learn_managers(&self, told: &[String]) {
        let told = told.iter().filter(|address| !address.is_empty());
        let all: BTreeSet<String> = self.settings.managers.iter().chain(told).cloned().collect();
        self.managers.send_if_modified(|known| {
            let changed = *known != all;
            *known = all;
            changed
        });
    }
}
