//! The shell of a slave's stream: it tells every slave who leads, and drives [`minder_fleet::Session`] for the slaves
//! that attend while this manager does.
//!
//! One task a stream. It chooses an event, then acts on it; the only thing it awaits while acting is the bounded
//! queue to the slave, and a slave that does not drain it within [`SEND_DEADLINE`] is cut off.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use minder_fleet::{Effect, Event, Hello, Lag, Reported, Session};
use minder_model::{BootId, ClusterId, Digest, HISTORY_SAMPLES, HostName, InstanceKey, RequestId, Revision};
use minder_proto::{convert, v1};
use minder_state::{Command, Expect, HostRecord, Outcome, Proposal};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_stream::{StreamExt, adapters::Map, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    clock::wall_ms,
    core::Core,
    fleet::SessionHandle,
    raft::{Leadership, ReadError},
};

/// Messages on their way to one slave: an answer to each heartbeat and an assignment or two; 64 is plenty for a slave
/// that reads, and small for one that does not. A queue keeps places for half of them from its first message on, so they
/// are boxes: there are two queues a stream, and ten thousand streams.
const QUEUE: usize = 64;
/// A slave that takes nothing for this long is gone or stuck.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// A slave that has not taken its first assignment within this gives its place to others and goes on without.
const FIRST_SYNC_DEADLINE: Duration = Duration::from_secs(5);
/// Run specs sent along with an assignment unasked; the slave asks for the rest.
const RUN_SPECS_BYTES_MAX: usize = 1024 * 1024;
/// Heartbeats that slaves are asked to keep (design.md 6).
const HEARTBEAT_INTERVAL_MS: u64 = 1_000;

/// The `Slave` service.
pub struct SlaveService {
    core: Arc<Core>,
}

impl SlaveService {
    /// Serves slaves from this manager.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

#[tonic::async_trait]
impl v1::slave_server::Slave for SlaveService {
    type AttendStream = Map<ReceiverStream<Box<v1::ToSlave>>, fn(Box<v1::ToSlave>) -> Result<v1::ToSlave, Status>>;

    async fn attend(&self, request: Request<Streaming<v1::FromSlave>>) -> Result<Response<Self::AttendStream>, Status> {
        let (to_slave, stream) = mpsc::channel(QUEUE);
        let attendance = Attendance {
            core: self.core.clone(),
            out: to_slave,
            number: self.core.fleet.next_session(),
            session: None,
            lag: Lag::default(),
            changed: Arc::new(Notify::new()),
            presence: None,
            first_sync: FirstSync::None,
        };
        tokio::spawn(attendance.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream).map(unboxed as fn(_) -> _)))
    }

    async fn push_logs(&self, request: Request<Streaming<v1::LogPush>>) -> Result<Response<v1::LogPushReply>, Status> {
        self.core.logs.take_in(request.into_inner()).await?;
        Ok(Response::new(v1::LogPushReply {}))
    }
}

/// One slave's stream.
struct Attendance {
    core: Arc<Core>,
    out: mpsc::Sender<Box<v1::ToSlave>>,
    number: u64,
    session: Option<Session>,
    /// How late this session's messages are.
    lag: Lag,
    changed: Arc<Notify>,
    /// Whose stream it is, once the slave said so.
    presence: Option<HostName>,
    /// Its place among the first assignments under way, until the slave says that it has it.
    first_sync: FirstSync,
}

/// How far a session is with its first assignment.
enum FirstSync {
    /// There is no session.
    None,
    /// It waits for a place.
    Waiting(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>),
    /// It has a place until then at the latest.
    Under { _place: OwnedSemaphorePermit, until: Instant },
    /// The slave has it, or took too long.
    Over,
}

/// The stream has ended, for whatever reason.
struct Ended;

type Confirming = Option<BoxFuture<'static, (u64, Result<Revision, ReadError>)>>;

impl Attendance {
    async fn run(mut self, mut from_slave: Streaming<v1::FromSlave>) {
        let mut leadership = self.core.node.leadership();
        let (orders, mut order_queue) = mpsc::channel::<Box<v1::ToSlave>>(QUEUE);
        let mut confirming: Confirming = None;
        let first = leadership.borrow_and_update().clone();
        if self.tell_role(&first).await.is_err() {
            return;
        }
        loop {
            // Every arm may be dropped at its await: a stream, a watch, a notify and a queue keep what they hold, and
            // the confirmation lives outside the loop.
            let acted = tokio::select! {
                message = from_slave.next() => match message {
                    Some(Ok(message)) => self.on_message(message, &orders, &mut confirming).await,
                    Some(Err(_)) | None => Err(Ended),
                },
                changed = leadership.changed() => match changed {
                    Ok(()) => {
                        let now = leadership.borrow_and_update().clone();
                        if !now.leading {
                            self.end_session();
                        }
                        self.tell_role(&now).await
                    }
                    Err(_) => Err(Ended),
                },
                () = self.changed.notified() => self.step(Event::Changed, &mut confirming).await,
                Some(order) = order_queue.recv() => self.send(*order).await,
                next = next_place(&mut self.first_sync) => {
                    let admitted = matches!(next, FirstSync::Under { .. });
                    self.first_sync = next;
                    if admitted { self.step(Event::Admitted, &mut confirming).await } else { Ok(()) }
                }
                (nonce, confirmed) = confirmed(&mut confirming) => {
                    confirming = None;
                    let event = self.after_confirmation(nonce, confirmed);
                    self.step(event, &mut confirming).await
                }
            };
            if acted.is_err() || self.was_replaced() {
                break;
            }
            if self.session.as_ref().is_some_and(Session::is_held) {
                self.first_sync = FirstSync::Over;
            }
        }
        self.end_session();
        if let Some(host) = &self.presence {
            self.core.presences.end(host, self.number);
        }
    }

    /// A later session of the same slave has taken over: this stream is a remnant.
    fn was_replaced(&self) -> bool {
        let host = self.session.as_ref().and_then(Session::host);
        host.is_some_and(|host| !self.core.fleet.is_current(host, self.number))
    }

    fn end_session(&mut self) {
        self.first_sync = FirstSync::None;
        if let Some(host) = self.session.take().as_ref().and_then(Session::host) {
            self.core.fleet.close(host, self.number);
            self.core.host_event(host, "session ended");
        }
    }

    async fn tell_role(&self, now: &Leadership) -> Result<(), Ended> {
        let role = v1::Role {
            leader: now.leading,
            term: now.term,
            managers: now.managers.iter().map(|member| member.client_address.clone()).collect(),
            leader_address: now.leader.as_ref().map(|leader| leader.client_address.clone()).unwrap_or_default(),
        };
        self.send(to_slave(v1::to_slave::Message::Role(role))).await
    }

    async fn on_message(
        &mut self,
        message: v1::FromSlave,
        orders: &mpsc::Sender<Box<v1::ToSlave>>,
        confirming: &mut Confirming,
    ) -> Result<(), Ended> {
        use v1::from_slave::Message;
        match message.message {
            Some(Message::Hello(hello)) => self.on_hello(hello, orders, confirming).await,
            Some(Message::Heartbeat(heartbeat)) => {
                self.note_life(heartbeat.up_ms);
                self.note_clock(heartbeat.wall_ms);
                self.step(Event::Heartbeat { nonce: heartbeat.nonce }, confirming).await
            }
            Some(Message::Report(report)) => self.on_report(report).await,
            Some(Message::Machine(machine)) => self.on_machine(machine),
            Some(Message::Refused(refused)) => {
                let send_whole = matches!(refused.why.as_str(), "other base" | "digest mismatch" | "stale nonce");
                self.step(Event::Refused { why: refused.why, send_whole }, confirming).await
            }
            Some(Message::SpecsWanted(wanted)) => self.on_specs_wanted(&wanted).await,
            Some(Message::Events(events)) => {
                self.on_events(events.events);
                Ok(())
            }
            Some(Message::History(history)) => {
                self.on_history(&history);
                Ok(())
            }
            Some(Message::Presence(presence)) => {
                self.on_presence(presence);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn on_hello(
        &mut self,
        hello: v1::Hello,
        orders: &mpsc::Sender<Box<v1::ToSlave>>,
        confirming: &mut Confirming,
    ) -> Result<(), Ended> {
        let Some(cluster) = self.core.cluster_id() else {
            return self.refuse("this manager belongs to no cluster yet".into()).await;
        };
        if !self.core.node.leadership().borrow().leading {
            return self.refuse("this manager does not lead".into()).await;
        }
        let introduced = match introduce(&hello) {
            Ok(introduced) => introduced,
            Err(problem) => return self.refuse(problem).await,
        };
        let session = Session::new(cluster);
        // Before it is registered or shown as connected: it stays a stranger.
        if let Some(problem) = session.refusal(&introduced) {
            return self.refuse(problem).await;
        }
        let host = introduced.host.clone();
        if let Err(problem) = self.register(&host, &hello).await {
            return self.refuse(problem).await;
        }
        let handle = SessionHandle {
            number: self.number,
            slave_id: hello.slave_id.clone(),
            drills: hello.drills,
            changed: self.changed.clone(),
            orders: orders.clone(),
        };
        let facts = hello.facts.map(convert::status::machine_facts_from_wire).unwrap_or_default();
        match self.core.fleet.open(&host, handle, BootId::new(hello.boot_id).ok(), facts) {
            Ok(meaning) => self.core.host_event(&host, &meaning),
            Err(duplicate) => return self.refuse(duplicate.to_string()).await,
        }
        if let Some(change) = self.core.fleet.heard(&host, 0) {
            self.core.silence_event(&change);
        }
        self.session = Some(session);
        self.lag = Lag::default();
        let core = self.core.clone();
        self.first_sync = FirstSync::Waiting(Box::pin(async move { core.places.first_sync().await }));
        self.step(Event::Hello(introduced), confirming).await
    }

    /// Notes a sign of life, as old as it is. Whatever was said before it on this stream has come in before it. A slave of
    /// before does not say when it was given.
    fn note_life(&mut self, their_up_ms: u64) {
        let Some(host) = self.session.as_ref().and_then(Session::host) else { return };
        let lag_ms = if their_up_ms > 0 { self.lag.of(their_up_ms, self.core.fleet.now_ms()) } else { 0 };
        if let Some(change) = self.core.fleet.heard(host, lag_ms) {
            self.core.silence_event(&change);
        }
    }

    /// Notes how far the slave's clock is off. A slave of before says nothing of it.
    fn note_clock(&self, their_wall_ms: u64) {
        if let (Some(host), true) = (self.session.as_ref().and_then(Session::host), their_wall_ms > 0) {
            self.core.fleet.clock(host, their_wall_ms as i64 - wall_ms() as i64);
        }
    }

    /// Notes whose stream this is. Another cluster's slave is nobody here; one on its first day may become somebody.
    fn on_presence(&mut self, presence: v1::Presence) {
        let own = match presence.cluster_id.as_str() {
            "" => true,
            id => self.core.cluster_id().is_some_and(|own| own.as_str() == id),
        };
        if let (true, None, Ok(host)) = (own, &self.presence, HostName::new(presence.host)) {
            self.core.presences.begin(&host, self.number);
            self.presence = Some(host);
        }
    }

    /// Writes the host into the table if it is new or changed; a slave that only comes back writes nothing.
    async fn register(&self, host: &HostName, hello: &v1::Hello) -> Result<(), String> {
        let same = |record: &HostRecord| record.address == hello.address && record.own_labels == hello.labels;
        if self.core.node.look(|state| state.host(host).is_some_and(same)) {
            return Ok(());
        }
        let request = RequestId::new(uuid::Uuid::now_v7().to_string()).map_err(|error| error.to_string())?;
        let proposal = Proposal {
            request,
            time_ms: wall_ms(),
            actor: format!("slave {host}"),
            expect: Expect::Anything,
            command: Command::RegisterHost(host.clone(), hello.address.clone(), hello.labels.clone()),
        };
        match self.core.node.propose(proposal).await {
            Ok(reply) => match reply.outcome {
                Outcome::Refused(refusal) => Err(refusal.to_string()),
                Outcome::Done | Outcome::Processes(_) | Outcome::Instances(..) | Outcome::Counted(_) => Ok(()),
            },
            Err(error) => Err(format!("cannot register {host}: {error}")),
        }
    }

    async fn refuse(&mut self, problem: String) -> Result<(), Ended> {
        let reply = v1::HelloReply { refused: problem, ..Default::default() };
        self.send(to_slave(v1::to_slave::Message::Hello(reply))).await
    }

    async fn on_report(&mut self, report: v1::Report) -> Result<(), Ended> {
        let Some(host) = self.session.as_ref().and_then(Session::host).cloned() else { return Ok(()) };
        let reported = |wire: v1::InstanceStatus| {
            let exits_added = wire.exits_added;
            convert::status::instance_status_from_wire(wire).map(|status| Reported { status, exits_added })
        };
        let statuses: Result<Vec<_>, _> = report.statuses.into_iter().map(reported).collect();
        let gone: Result<Vec<_>, _> = report.gone.iter().map(|text| InstanceKey::parse(text)).collect();
        let (statuses, gone) = match (statuses, gone) {
            (Ok(statuses), Ok(gone)) => (statuses, gone),
            (Err(problem), _) => return self.cut_off(&format!("a report that cannot be read: {problem}")).await,
            (_, Err(problem)) => return self.cut_off(&format!("a report that cannot be read: {problem}")).await,
        };
        let digest = Digest::from_slice(&report.assignment_digest).unwrap_or_default();
        let revision = Revision(report.assignment_revision);
        if let Some(session) = &mut self.session {
            session.reported(revision);
        }
        self.core.fleet.report(&host, |observed| observed.take(report.full, statuses, &gone, revision, digest));
        Ok(())
    }

    fn on_machine(&mut self, machine: v1::MachineReport) -> Result<(), Ended> {
        if let (Some(host), Some(usage)) = (self.session.as_ref().and_then(Session::host), machine.usage) {
            self.core.fleet.machine(host, convert::status::machine_usage_from_wire(usage));
        }
        Ok(())
    }

    fn on_history(&self, history: &v1::MachineHistory) {
        let Some(host) = self.session.as_ref().and_then(Session::host) else { return };
        // More than a ring holds would only push itself out again.
        let newest = &history.samples[history.samples.len().saturating_sub(HISTORY_SAMPLES)..];
        let samples: Vec<_> = newest.iter().map(convert::machine_history::machine_sample_from_wire).collect();
        self.core.fleet.remember(host, &samples);
    }

    async fn on_specs_wanted(&mut self, wanted: &v1::SpecsWanted) -> Result<(), Ended> {
        let (state, _) = self.core.node.snapshot_state();
        let digests = wanted.digests.iter().filter_map(|bytes| Digest::from_slice(bytes));
        for chunk in bounded_run_specs(&state, digests) {
            let specs = v1::RunSpecs { run_specs: chunk };
            self.send(to_slave(v1::to_slave::Message::Specs(specs))).await?;
        }
        Ok(())
    }

    fn on_events(&self, events: Vec<v1::SlaveEvent>) {
        let Some(host) = self.session.as_ref().and_then(Session::host) else { return };
        for event in self.core.fleet.new_events(host, events) {
            let key = InstanceKey::parse(&event.instance).ok();
            self.core.fleet.events.push(v1::Event {
                time_ms: event.time_ms,
                kind: if key.is_some() { "phase" } else { "host" }.into(),
                host: host.to_string(),
                process: key.as_ref().map(|key| key.process.to_string()).unwrap_or_default(),
                index: key.map_or(0, |key| key.index),
                text: event.text,
                phase: event.phase,
            });
        }
    }

    async fn step(&mut self, event: Event, confirming: &mut Confirming) -> Result<(), Ended> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let cluster = self.core.cluster_id();
        for effect in session.step(event) {
            match effect {
                Effect::Welcome => self.welcome(cluster.as_ref()).await?,
                Effect::AnswerHeartbeat { nonce } => {
                    self.send(to_slave(v1::to_slave::Message::Heartbeat(v1::HeartbeatReply { nonce }))).await?;
                }
                Effect::Confirm { nonce } => {
                    let node = self.core.node.clone();
                    *confirming = Some(async move { (nonce, node.confirm().await) }.boxed());
                }
                Effect::Send { nonce, delta, run_specs } => {
                    let known = self.core.node.look(|state| bounded_run_specs(state, run_specs).next());
                    let message =
                        v1::Assignment { nonce, delta: encode_delta(&delta), run_specs: known.unwrap_or_default() };
                    self.send(to_slave(v1::to_slave::Message::Assignment(message))).await?;
                }
                Effect::Alarm(problem) => self.alarm(&problem),
                Effect::Close(problem) => return self.cut_off(&problem).await,
            }
        }
        Ok(())
    }

    fn alarm(&self, problem: &str) {
        let Some(host) = self.session.as_ref().and_then(Session::host) else { return };
        tracing::error!(%host, problem, "a slave and its managers disagree");
        self.core.host_event(host, problem);
    }

    async fn welcome(&self, cluster: Option<&ClusterId>) -> Result<(), Ended> {
        let reply = v1::HelloReply {
            refused: String::new(),
            cluster_id: cluster.map(ToString::to_string).unwrap_or_default(),
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
        };
        self.send(to_slave(v1::to_slave::Message::Hello(reply))).await
    }

    fn after_confirmation(&self, nonce: u64, confirmed: Result<Revision, ReadError>) -> Event {
        let host = self.session.as_ref().and_then(Session::host);
        match (confirmed, host) {
            (Ok(_), Some(host)) => {
                Event::Confirmed { nonce, assignment: self.core.node.look(|state| state.assignment(host)) }
            }
            (Ok(_), None) | (Err(_), _) => Event::ConfirmFailed,
        }
    }

    /// Tells the slave why, then ends the stream.
    async fn cut_off(&mut self, problem: &str) -> Result<(), Ended> {
        self.alarm(problem);
        self.refuse(problem.into()).await?;
        Err(Ended)
    }

    async fn send(&self, message: v1::ToSlave) -> Result<(), Ended> {
        match tokio::time::timeout(SEND_DEADLINE, self.out.send(Box::new(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended),
        }
    }
}

/// Waits for a place, or for the end of the time in one; for ever when there is nothing to wait for.
async fn next_place(first_sync: &mut FirstSync) -> FirstSync {
    match first_sync {
        FirstSync::Waiting(place) => match place.await {
            Some(_place) => FirstSync::Under { _place, until: Instant::now() + FIRST_SYNC_DEADLINE },
            None => FirstSync::Over,
        },
        FirstSync::Under { until, .. } => {
            tokio::time::sleep_until(*until).await;
            FirstSync::Over
        }
        FirstSync::None | FirstSync::Over => std::future::pending().await,
    }
}

/// Waits for a running confirmation; for ever when there is none.
async fn confirmed(confirming: &mut Confirming) -> (u64, Result<Revision, ReadError>) {
    match confirming {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn introduce(hello: &v1::Hello) -> Result<Hello, String> {
    let cluster = match hello.cluster_id.as_str() {
        "" => None,
        id => Some(ClusterId::new(id).map_err(|error| error.to_string())?),
    };
    Ok(Hello {
        host: HostName::new(hello.host.clone()).map_err(|error| error.to_string())?,
        cluster,
        revision: Revision(hello.assignment_revision),
        digest: Digest::from_slice(&hello.assignment_digest).unwrap_or_default(),
    })
}

// A queue of boxes gives boxes.
#[allow(clippy::boxed_local)]
fn unboxed(message: Box<v1::ToSlave>) -> Result<v1::ToSlave, Status> {
    Ok(*message)
}

fn to_slave(message: v1::to_slave::Message) -> v1::ToSlave {
    v1::ToSlave { message: Some(message) }
}

fn encode_delta(delta: &minder_model::AssignmentDelta) -> prost::bytes::Bytes {
    minder_model::encode(delta).into()
}

/// The stored forms of these run specs, in messages of at most [`RUN_SPECS_BYTES_MAX`] or one spec.
fn bounded_run_specs(
    state: &minder_state::State,
    digests: impl IntoIterator<Item = Digest>,
) -> std::vec::IntoIter<Vec<prost::bytes::Bytes>> {
    let mut chunks: Vec<Vec<prost::bytes::Bytes>> = Vec::new();
    let mut room = 0;
    for bytes in digests.into_iter().filter_map(|digest| state.run_spec_bytes(&digest)) {
        match chunks.last_mut().filter(|_| bytes.len() <= room) {
            Some(chunk) => chunk.push(prost::bytes::Bytes::copy_from_slice(&bytes)),
            None => {
                chunks.push(vec![prost::bytes::Bytes::copy_from_slice(&bytes)]);
                room = RUN_SPECS_BYTES_MAX;
            }
        }
        room = room.saturating_sub(bytes.len());
    }
    chunks.into_iter()
}
