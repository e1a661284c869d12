//! The manager's side of the streams, after manager/src/attend.rs and manager/src/fleet.rs: it drives the real `Session`
//! for each slave that attends while it leads, and the real `Silence` and `Observed` for what it knows of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minder_fleet::{
    Acquaintance, Effect, Event as SessionEvent, Hello, Lag, Observed, Session, Silence, SilenceLimits,
};
use minder_model::HostName;

use crate::{
    agreement::Waiter,
    ask::{Ask, number_of},
    message::{Introduction, Message, Report},
    network::{Node, Way},
    planted::Planted,
    world::{Event, World, say},
};

/// One stream as its manager has it.
#[derive(Debug, Default)]
pub struct Attendance {
    session: Option<Session>,
    /// How late this session's messages are.
    lag: Lag,
    host: Option<HostName>,
    /// It waits for the host to be registered; what comes meanwhile waits with it.
    registering: Option<Box<Introduction>>,
    held: VecDeque<Message>,
    /// Counts sessions of this stream, so that a late confirmation is known as such.
    number: u64,
}

/// What a leader knows of its hosts, in memory alone.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Silence, while it leads.
    pub silence: Option<Silence>,
    /// Hosts it has heard of.
    pub hosts: BTreeMap<HostName, Known>,
}

/// One host.
#[derive(Debug, Default)]
pub struct Known {
    /// Its session's stream.
    pub connection: Option<u64>,
    acquaintance: Option<Acquaintance>,
    /// What it reported.
    pub observed: Observed,
}

impl Fleet {
    /// Leadership begins.
    pub fn lead<'a>(&mut self, now: u64, hosts: impl Iterator<Item = &'a HostName>, keeps: bool) {
        let mut silence = Silence::new(SilenceLimits::default(), now);
        hosts.for_each(|host| silence.expect(host));
        if keeps {
            self.hosts.keys().for_each(|host| drop(silence.heard(host, now, now)));
        }
        self.silence = Some(silence);
    }

    /// Leadership ends.
    pub fn follow(&mut self, keeps: bool) {
        self.silence = None;
        if keeps {
            self.hosts.values_mut().for_each(|known| known.connection = None);
        } else {
            self.hosts.clear();
        }
    }
}

/// First assignments have their turn after up to this long, in milliseconds.
const ADMISSION_MS_MAX: u64 = 40;

impl World {
    fn attendance(&mut self, connection: u64) -> Option<(usize, &mut Attendance)> {
        let manager = self.network.connections.get(&connection)?.manager;
        let attendance = self.managers[manager].attendances.get_mut(&connection)?;
        Some((manager, attendance))
    }

    /// Tells everybody who attends whether this manager leads.
    pub fn tell_roles(&mut self, manager: usize) {
        let connections: Vec<u64> = self.managers[manager].attendances.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.tell_role(manager, connection));
    }

    /// Tells one.
    pub fn tell_role(&mut self, manager: usize, connection: u64) {
        let known = &self.managers[manager];
        let leader = known.leading.is_some() && known.ready;
        let term = known.leading.or(known.leader.map(|(term, _)| term)).unwrap_or_default();
        self.send(connection, Way::Down, Message::Role { leader, term });
    }

    /// Ends every session, but no stream.
    pub fn end_sessions(&mut self, manager: usize) {
        for attendance in self.managers[manager].attendances.values_mut() {
            attendance.session = None;
            attendance.registering = None;
            attendance.held.clear();
        }
    }

    /// Hosts whose assignment changed.
    pub fn wake_sessions(&mut self, manager: usize, touched: &BTreeSet<HostName>) {
        for host in touched {
            let known = self.managers[manager].fleet.hosts.get(host);
            if let Some(connection) = known.and_then(|known| known.connection) {
                self.step_session(connection, SessionEvent::Changed);
            }
        }
    }

    /// A message of a slave.
    pub fn on_slave_message(&mut self, connection: u64, message: Message) {
        let Some((manager, attendance)) = self.attendance(connection) else { return };
        if attendance.registering.is_some() {
            attendance.held.push_back(message);
            return;
        }
        match message {
            Message::Hello(introduction) => self.on_hello(manager, connection, introduction),
            Message::Heartbeat { nonce, up_ms } => {
                self.note_life(manager, connection, up_ms);
                self.step_session(connection, SessionEvent::Heartbeat { nonce });
            }
            Message::Report(report) => self.on_report(manager, connection, *report),
            Message::Refused { why } => {
                if self.planted != Some(Planted::RefusalIgnored) {
                    let send_whole = matches!(why, "other base" | "digest mismatch" | "stale nonce");
                    self.step_session(connection, SessionEvent::Refused { why: why.into(), send_whole });
                }
            }
            Message::SpecsWanted(digests) => {
                let state = &self.managers[manager].state;
                let found = digests.iter().filter_map(|digest| state.run_spec_bytes(digest));
                let specs: Vec<Vec<u8>> = found.map(|bytes| bytes.to_vec()).collect();
                self.send(connection, Way::Down, Message::Specs(specs));
            }
            Message::Role { .. }
            | Message::Welcome { .. }
            | Message::HeartbeatReply { .. }
            | Message::Assignment { .. }
            | Message::Specs(_) => {}
        }
    }

    fn note_life(&mut self, manager: usize, connection: u64, up_ms: u64) {
        let now = self.now;
        let Some((_, attendance)) = self.attendance(connection) else { return };
        let Some(host) = attendance.host.clone().filter(|_| attendance.session.is_some()) else { return };
        let lag = attendance.lag.of(up_ms, now);
        self.heard(manager, &host, lag);
    }

    fn heard(&mut self, manager: usize, host: &HostName, lag: u64) {
        let now = self.now;
        if let Some(silence) = &mut self.managers[manager].fleet.silence {
            silence.heard(host, now - lag, now);
        }
    }

    fn refuse(&mut self, manager: usize, connection: u64, why: &str) {
        say!(self, Node::Manager(manager), "no session on stream {connection}: {why}");
        let Some(cluster) = self.cluster_of(manager) else { return self.end_stream(connection, Way::Down) };
        self.send(connection, Way::Down, Message::Welcome { refused: Some(why.into()), cluster });
    }

    fn cluster_of(&self, manager: usize) -> Option<minder_model::ClusterId> {
        self.managers[manager].state.cluster().map(|cluster| cluster.id.clone())
    }

    fn on_hello(&mut self, manager: usize, connection: u64, introduction: Box<Introduction>) {
        let host = self.network.connections[&connection].host;
        let known = &self.managers[manager];
        if known.leading.is_none() || !known.ready || known.state.cluster().is_none() {
            return self.refuse(manager, connection, "this manager does not lead");
        }
        let record = known.state.host(&crate::ask::host_name(host));
        if record.is_some_and(|record| record.address == introduction.address) {
            return self.open_session(manager, connection, *introduction);
        }
        let address = introduction.address.split(':').nth(1).and_then(|port| port.parse().ok()).unwrap_or_default();
        if let Some((_, attendance)) = self.attendance(connection) {
            attendance.registering = Some(introduction);
        }
        let proposal = self.new_proposal(manager, Ask::Register(host, address), None);
        self.propose(manager, proposal, Waiter::Register(connection));
    }

    /// Nobody can say what became of what was proposed in an earlier term: whoever waits to be registered begins again.
    pub fn give_up_registrations(&mut self, manager: usize) {
        let mut waiting = Vec::new();
        for (connection, attendance) in &mut self.managers[manager].attendances {
            if attendance.registering.take().is_some() {
                attendance.held.clear();
                waiting.push(*connection);
            }
        }
        waiting.into_iter().for_each(|connection| self.refuse(manager, connection, "it cannot be registered"));
    }

    /// The host of a stream is in the table now.
    pub fn registered(&mut self, connection: u64) {
        let Some((manager, attendance)) = self.attendance(connection) else { return };
        let Some(introduction) = attendance.registering.take() else { return };
        let held = std::mem::take(&mut attendance.held);
        self.open_session(manager, connection, *introduction);
        held.into_iter().for_each(|message| self.on_slave_message(connection, message));
    }

    fn open_session(&mut self, manager: usize, connection: u64, introduction: Introduction) {
        let Some(cluster) = self.cluster_of(manager) else { return };
        let host = crate::ask::host_name(self.network.connections[&connection].host);
        let session = Session::new(cluster);
        let hello = Hello {
            host: host.clone(),
            cluster: introduction.cluster,
            revision: introduction.revision,
            digest: introduction.digest,
        };
        if let Some(why) = session.refusal(&hello) {
            return self.refuse(manager, connection, &why);
        }
        let now = Acquaintance { boot_id: introduction.boot_id, slave_id: introduction.slave_id };
        let fleet = &mut self.managers[manager].fleet;
        let alive = fleet.silence.as_ref().is_some_and(|silence| silence.is_connected(&host));
        let known = fleet.hosts.entry(host.clone()).or_default();
        let other = known.acquaintance.as_ref().is_some_and(|before| before.slave_id != now.slave_id);
        if known.connection.is_some() && other && alive {
            return self.refuse(manager, connection, "host has a session already, from another slave process");
        }
        let before = known.connection.replace(connection);
        known.acquaintance = Some(now);
        known.observed = Observed::default();
        self.heard(manager, &host, 0);
        if let Some(before) = before.filter(|before| *before != connection) {
            // A later session of the same slave has taken over: that stream is a remnant.
            self.end_stream(before, Way::Down);
        }
        if let Some((_, attendance)) = self.attendance(connection) {
            attendance.session = Some(session);
            attendance.lag = Lag::default();
            attendance.host = Some(host);
            attendance.number += 1;
        }
        let wait = self.chance.of(0..ADMISSION_MS_MAX);
        let epoch = self.managers[manager].epoch;
        self.after(wait, Event::Admitted { manager, epoch, connection });
        self.step_session(connection, SessionEvent::Hello(hello));
    }

    fn on_report(&mut self, manager: usize, connection: u64, report: Report) {
        let Some((_, attendance)) = self.attendance(connection) else { return };
        let (Some(session), Some(host)) = (&mut attendance.session, attendance.host.clone()) else { return };
        session.reported(report.revision);
        let Some(known) = self.managers[manager].fleet.hosts.get_mut(&host) else { return };
        known.observed.take(report.full, report.statuses, &report.gone, report.revision, report.digest);
    }

    /// Lets a session take an event and does what comes of it.
    pub fn step_session(&mut self, connection: u64, event: SessionEvent) {
        let Some((manager, attendance)) = self.attendance(connection) else { return };
        let number = attendance.number;
        let Some(session) = &mut attendance.session else { return };
        for effect in session.step(event) {
            match effect {
                Effect::Welcome => {
                    let Some(cluster) = self.cluster_of(manager) else { return };
                    self.send(connection, Way::Down, Message::Welcome { refused: None, cluster });
                }
                Effect::AnswerHeartbeat { nonce } => {
                    self.send(connection, Way::Down, Message::HeartbeatReply { nonce });
                }
                Effect::Confirm { nonce } => self.begin_confirmation(manager, connection, number, nonce),
                Effect::Send { nonce, delta, run_specs } => {
                    let state = &self.managers[manager].state;
                    let found = run_specs.iter().filter_map(|digest| state.run_spec_bytes(digest));
                    // Some are left out now and then, as those beyond a message's bound are.
                    let mut run_specs: Vec<Vec<u8>> = found.map(|bytes| bytes.to_vec()).collect();
                    if self.faulty && self.chance.percent(15) {
                        run_specs.pop();
                    }
                    say!(self, Node::Manager(manager), "sends revision {} under heartbeat {nonce}", delta.revision);
                    self.send(connection, Way::Down, Message::Assignment { nonce, delta: Box::new(delta), run_specs });
                }
                Effect::Alarm(why) => say!(self, Node::Manager(manager), "alarm: {why}"),
                Effect::Close(why) => {
                    self.refuse(manager, connection, &why);
                    return self.end_stream(connection, Way::Down);
                }
            }
        }
    }

    fn begin_confirmation(&mut self, manager: usize, connection: u64, number: u64, nonce: u64) {
        let Some(term) = self.managers[manager].leading else { return };
        let epoch = self.managers[manager].epoch;
        if self.planted == Some(Planted::LeaseOfPausedLeader) && self.lease_holds(manager) {
            let confirmed = Event::Confirmed { manager, epoch, connection, number, nonce, index: Some(0) };
            return self.after(0, confirmed);
        }
        let wait = self.latency();
        self.after(wait, Event::Confirm { manager, epoch, term, connection, number, nonce });
    }

    /// By a clock that stands still while the manager is paused.
    fn lease_holds(&self, manager: usize) -> bool {
        let known = &self.managers[manager];
        known.confirmed_at.is_some_and(|at| self.now.saturating_sub(known.slept_ms) < at + 10_000)
    }

    /// The others answer, or do not. A pause of whoever asks does not hold them up.
    pub fn confirm(&mut self, manager: usize, epoch: u64, term: u64, connection: u64, number: u64, nonce: u64) {
        let confirmed = self.may_decide(manager, term);
        let index = confirmed.then_some(self.agreement.log.len());
        if confirmed {
            let known = &mut self.managers[manager];
            known.confirmed_at = Some(self.now.saturating_sub(known.slept_ms));
        }
        let wait = self.latency();
        self.after(wait, Event::Confirmed { manager, epoch, connection, number, nonce, index });
    }

    /// The leader learns whether it still leads, and reads the assignment.
    pub fn confirmed(&mut self, connection: u64, number: u64, nonce: u64, index: Option<usize>) {
        let Some((manager, attendance)) = self.attendance(connection) else { return };
        let Some(host) = attendance.host.clone().filter(|_| attendance.number == number) else { return };
        if let Some(index) = index {
            // A read waits until everything up to it is applied. It was decided, so the leader has it.
            self.catch_up(manager, index);
            let assignment = self.managers[manager].state.assignment(&host);
            self.step_session(connection, SessionEvent::Confirmed { nonce, assignment });
        } else {
            self.step_session(connection, SessionEvent::ConfirmFailed);
        }
    }

    /// The leader looks at its clock for hosts that fell silent.
    pub fn look_at_fleet(&mut self, manager: usize, epoch: u64, term: u64) {
        if self.managers[manager].leading != Some(term) {
            return;
        }
        let now = self.now;
        if let Some(silence) = &mut self.managers[manager].fleet.silence {
            silence.look(now);
        }
        self.judge_shown(manager);
        self.after(500, Event::LookAtFleet { manager, epoch, term });
    }

    /// A stream's end reached the manager.
    pub fn stream_ended_at_manager(&mut self, manager: usize, connection: u64) {
        let Some(attendance) = self.managers[manager].attendances.remove(&connection) else { return };
        if let Some(host) = attendance.host
            && let Some(known) = self.managers[manager].fleet.hosts.get_mut(&host)
            && known.connection == Some(connection)
        {
            known.connection = None;
        }
    }

    /// The number of a host by its name.
    pub fn host_number(host: &HostName) -> usize {
        number_of(host.as_str())
    }
}
