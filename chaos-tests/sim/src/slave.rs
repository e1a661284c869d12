//! The slave's side of the streams, after slave/src/link.rs and slave/src/session.rs: one to each manager, and the
//! session with whoever leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use minder_fleet::Reported;
use minder_model::{ClusterId, Digest, InstanceKey, InstanceStatus, Revision, exits_added};

use crate::{
    attend::Attendance,
    host::Message as HostMessage,
    message::{Introduction, Message, Report},
    network::{Node, Way},
    planted::Planted,
    world::{Event, HEARTBEAT_MS, World, say},
};

/// A leader that answers none of this many heartbeats is given up.
const HEARTBEATS_UNANSWERED_MAX: u64 = 3;

/// A stream to one manager.
#[derive(Debug, Default)]
pub struct Stream {
    /// Its number.
    pub connection: u64,
    /// While that manager leads.
    pub session: Option<Session>,
    /// The host task has an assignment of it and has not answered yet: whatever comes after that waits, and so do its
    /// heartbeats and the news that somebody else leads.
    pub waits: bool,
}

/// The session with a leader.
#[derive(Debug, Default)]
pub struct Session {
    term: u64,
    /// The cluster that has welcomed it.
    pub cluster: Option<ClusterId>,
    nonce: u64,
    answered: u64,
    reported: BTreeMap<InstanceKey, Arc<InstanceStatus>>,
    reported_position: (Revision, Digest),
    asked_for: BTreeSet<Digest>,
    /// When the last heartbeats were sent, for whoever judges.
    pub sent_at: BTreeMap<u64, u64>,
}

impl World {
    /// A slave dials a manager.
    pub fn dial(&mut self, host: usize, epoch: u64, manager: usize) {
        let Some(slave) = self.slave_mut(host, epoch) else { return };
        if slave.streams.contains_key(&manager) {
            return;
        }
        let known = &self.managers[manager];
        let reached = known.up && known.paused_until <= self.now;
        if !reached || !self.network.both_ways(Node::Host(host), Node::Manager(manager)) {
            let wait = self.chance.of(100..2_000);
            return self.after(wait, Event::Dial { host, epoch, manager });
        }
        let connection = self.network.open(manager, host);
        self.managers[manager].attendances.insert(connection, Attendance::default());
        if let Some(slave) = self.slave_mut(host, epoch) {
            slave.streams.insert(manager, Stream { connection, ..Stream::default() });
        }
        say!(self, Node::Host(host), "stream {connection} to manager {manager}");
        self.tell_role(manager, connection);
    }

    /// A stream's end reached the slave: it dials again.
    pub fn stream_ended_at_slave(&mut self, host: usize, manager: usize, connection: u64) {
        let Some(slave) = &mut self.hosts[host].slave else { return };
        if slave.streams.get(&manager).is_some_and(|stream| stream.connection == connection) {
            slave.streams.remove(&manager);
            let epoch = slave.epoch;
            let wait = self.chance.of(10..300);
            self.after(wait, Event::Dial { host, epoch, manager });
        }
    }

    fn session_of(&mut self, host: usize, connection: u64) -> Option<&mut Session> {
        let slave = self.hosts[host].slave.as_mut()?;
        let stream = slave.streams.values_mut().find(|stream| stream.connection == connection)?;
        stream.session.as_mut()
    }

    /// A message of a manager.
    pub fn on_manager_message(&mut self, host: usize, manager: usize, connection: u64, message: Message) {
        let current = |stream: &Stream| stream.connection == connection;
        if !self.hosts[host].slave.as_ref().is_some_and(|slave| slave.streams.get(&manager).is_some_and(current)) {
            return;
        }
        match message {
            Message::Role { leader, term } => self.on_role(host, manager, connection, leader, term),
            Message::Welcome { refused: Some(_), .. } => {
                self.end_stream(connection, Way::Up);
                self.stream_ended_at_slave(host, manager, connection);
            }
            Message::Welcome { refused: None, cluster } => self.on_welcome(host, manager, connection, cluster),
            Message::HeartbeatReply { nonce } => {
                if let Some(session) = self.session_of(host, connection) {
                    session.answered = nonce.min(session.nonce);
                }
            }
            Message::Assignment { nonce, delta, run_specs } => {
                let any_nonce = self.planted == Some(Planted::NonceIgnored);
                let Some(session) = self.session_of(host, connection) else { return };
                let Some(cluster) = session.cluster.clone() else { return };
                let fresh = nonce > 0 && nonce <= session.nonce && session.nonce - nonce <= 1;
                if fresh || any_nonce {
                    self.judge_fresh(host, connection, delta.revision.0);
                    self.wait_for_host(host, connection, true);
                    self.tell_host(host, HostMessage::Assign(connection, cluster, *delta, run_specs));
                } else {
                    self.refuse_assignment(host, connection, "stale nonce");
                }
            }
            Message::Specs(run_specs) => self.tell_host(host, HostMessage::RunSpecs(run_specs)),
            Message::Hello(_)
            | Message::Heartbeat { .. }
            | Message::Refused { .. }
            | Message::SpecsWanted(_)
            | Message::Report(_) => {}
        }
    }

    /// Tells the manager that an assignment was not taken.
    pub fn refuse_assignment(&mut self, host: usize, connection: u64, why: &'static str) {
        say!(self, Node::Host(host), "refuses an assignment: {why}");
        self.send(connection, Way::Up, Message::Refused { why });
    }

    fn on_role(&mut self, host: usize, manager: usize, connection: u64, leader: bool, term: u64) {
        let introduction = self.introduction(host);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let best = slave.leader.0;
        let Some(stream) = slave.streams.get_mut(&manager) else { return };
        if !leader || term < best {
            stream.session = None;
            return;
        }
        match &mut stream.session {
            Some(session) => {
                session.term = term;
                self.believe(host, manager);
            }
            None => {
                stream.session = Some(Session { term, ..Session::default() });
                say!(self, Node::Host(host), "introduces itself to manager {manager}, term {term}");
                self.send(connection, Way::Up, Message::Hello(Box::new(introduction)));
            }
        }
    }

    fn introduction(&self, host: usize) -> Introduction {
        let machine = &self.hosts[host];
        let (epoch, boot) = (machine.epoch, machine.kernel.boot);
        let view = machine.slave.as_ref().map(|slave| slave.view.clone()).unwrap_or_default();
        Introduction {
            address: crate::ask::address_text(host, boot % 2),
            boot_id: format!("boot-{boot}"),
            slave_id: format!("slave-{host}-{epoch}"),
            cluster: view.cluster,
            revision: view.revision,
            digest: view.digest,
        }
    }

    fn on_welcome(&mut self, host: usize, manager: usize, connection: u64, cluster: ClusterId) {
        let Some(session) = self.session_of(host, connection) else { return };
        session.cluster = Some(cluster);
        say!(self, Node::Host(host), "session with manager {manager} on stream {connection}");
        self.believe(host, manager);
        self.beat(host, connection);
        self.report(host, connection, true);
    }

    /// Whether a stream waits for the host task.
    pub fn stream_waits(&self, host: usize, connection: u64) -> bool {
        let streams = self.hosts[host].slave.iter().flat_map(|slave| slave.streams.values());
        streams.filter(|stream| stream.connection == connection).any(|stream| stream.waits)
    }

    /// A stream begins to wait for the host task, or has its answer.
    pub fn wait_for_host(&mut self, host: usize, connection: u64, waits: bool) {
        let streams = self.hosts[host].slave.iter_mut().flat_map(|slave| slave.streams.values_mut());
        streams.filter(|stream| stream.connection == connection).for_each(|stream| stream.waits = waits);
    }

    /// What a leader says of terms counts.
    fn believe(&mut self, host: usize, manager: usize) {
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let Some(Session { term, cluster: Some(_), .. }) =
            slave.streams.get(&manager).and_then(|stream| stream.session.as_ref())
        else {
            return;
        };
        let term = *term;
        let any_term = self.planted == Some(Planted::LaterSessionDropped);
        if term < slave.leader.0 {
            if let Some(stream) = slave.streams.get_mut(&manager) {
                stream.session = None;
            }
            return;
        }
        slave.leader = (term, Some(manager));
        if any_term {
            let others = slave.streams.iter_mut().filter(|(other, _)| **other != manager);
            others.for_each(|(_, stream)| stream.session = None);
        }
        let epoch = slave.epoch;
        self.end_earlier_sessions(host, epoch);
    }

    /// Every stream hears by itself that somebody else leads: one that waits for the host task does later, and may take
    /// one more message before.
    pub fn end_earlier_sessions(&mut self, host: usize, epoch: u64) {
        let Some(slave) = self.slave_mut(host, epoch) else { return };
        let (term, leader) = slave.leader;
        let mut later = false;
        for (_, stream) in slave.streams.iter_mut().filter(|(other, _)| Some(**other) != leader) {
            // One that has been asked for in a later term is not overtaken by this one.
            let is_over = stream.session.as_ref().is_some_and(|session| session.term <= term);
            later |= is_over && stream.waits;
            stream.session.take_if(|_| is_over && !stream.waits);
        }
        if later {
            let wait = self.chance.of(1..10);
            self.after(wait, Event::LeaderHeard { host, epoch });
        }
    }

    /// The heartbeat after this one is due, if its session still is the one.
    pub fn beat_again(&mut self, host: usize, connection: u64, nonce: u64) {
        if self.stream_waits(host, connection) {
            let (epoch, wait) = (self.hosts[host].epoch, self.chance.of(1..10));
            return self.after(wait, Event::Beat { host, epoch, connection, nonce });
        }
        let sent_at = self.now - HEARTBEAT_MS;
        let still = |session: &mut Session| session.nonce == nonce && session.sent_at.get(&nonce) <= Some(&sent_at);
        if self.session_of(host, connection).is_some_and(still) {
            self.beat(host, connection);
        }
    }

    fn beat(&mut self, host: usize, connection: u64) {
        let now = self.now;
        let Some(session) = self.session_of(host, connection) else { return };
        if session.cluster.is_none() {
            return;
        }
        if session.nonce - session.answered > HEARTBEATS_UNANSWERED_MAX {
            let Some(manager) = self.network.connections.get(&connection).map(|connection| connection.manager) else {
                return;
            };
            say!(self, Node::Host(host), "gives up manager {manager}, which does not answer");
            self.end_stream(connection, Way::Up);
            return self.stream_ended_at_slave(host, manager, connection);
        }
        session.nonce += 1;
        let nonce = session.nonce;
        session.sent_at.insert(nonce, now);
        session.sent_at.retain(|sent, _| *sent + 4 > nonce);
        self.send(connection, Way::Up, Message::Heartbeat { nonce, up_ms: now });
        let epoch = self.hosts[host].epoch;
        self.after(HEARTBEAT_MS, Event::Beat { host, epoch, connection, nonce });
    }

    /// When the older of the two heartbeats that still count was sent on this stream.
    pub fn oldest_fresh_heartbeat(&self, host: usize, connection: u64) -> Option<u64> {
        let slave = self.hosts[host].slave.as_ref()?;
        let session = slave.streams.values().find(|stream| stream.connection == connection)?.session.as_ref()?;
        let nonce = session.nonce.saturating_sub(1).max(1);
        session.sent_at.get(&nonce).copied()
    }

    /// Tells whoever has a session what has changed.
    pub fn report_all(&mut self, host: usize) {
        let streams = self.hosts[host].slave.iter().flat_map(|slave| slave.streams.values());
        let connections: Vec<u64> = streams.map(|stream| stream.connection).collect();
        connections.into_iter().for_each(|connection| self.report(host, connection, false));
    }

    /// Tells the leader what has changed, or everything, and what is missing.
    fn report(&mut self, host: usize, connection: u64, full: bool) {
        let gone_left_out = self.planted == Some(Planted::GoneNotReported);
        let Some(slave) = &self.hosts[host].slave else { return };
        let view = slave.view.clone();
        let welcomed = |session: &&mut Session| session.cluster.is_some();
        let Some(session) = self.session_of(host, connection).filter(welcomed) else { return };
        let report = difference(session, &view.statuses, (view.revision, view.digest), full, gone_left_out);
        session.reported = view.statuses;
        session.reported_position = (view.revision, view.digest);
        session.asked_for.retain(|digest| view.missing.contains(digest));
        let asked: Vec<Digest> = view.missing.difference(&session.asked_for).copied().collect();
        session.asked_for.extend(asked.iter().copied());
        if let Some(report) = report {
            self.send(connection, Way::Up, Message::Report(Box::new(report)));
        }
        if !asked.is_empty() {
            self.send(connection, Way::Up, Message::SpecsWanted(asked));
        }
    }
}

fn difference(
    session: &Session,
    statuses: &BTreeMap<InstanceKey, Arc<InstanceStatus>>,
    position: (Revision, Digest),
    full: bool,
    gone_left_out: bool,
) -> Option<Report> {
    let mut told = Vec::new();
    for (key, status) in statuses {
        let before = session.reported.get(key).filter(|_| !full);
        if before.is_some_and(|before| Arc::ptr_eq(before, status) || before == status) {
            continue;
        }
        let mut status = InstanceStatus::clone(status);
        let added = before.and_then(|before| exits_added(&before.exits, &status.exits));
        let is_added = added.is_some();
        if let Some(added) = added {
            status.exits = added;
        }
        told.push(Reported { status, exits_added: is_added });
    }
    let gone: Vec<InstanceKey> = if gone_left_out {
        Vec::new()
    } else {
        session.reported.keys().filter(|key| !statuses.contains_key(*key)).cloned().collect()
    };
    let moved = session.reported_position != position;
    (full || moved || !told.is_empty() || !gone.is_empty()).then_some(Report {
        full,
        statuses: told,
        gone,
        revision: position.0,
        digest: position.1,
    })
}
