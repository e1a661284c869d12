//! One pretended slave: what it holds, and what it answers to each message of a manager.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use minder_model::{Assignment, AssignmentDelta, ClusterId, Digest, HISTORY_SAMPLES, InstanceKey, Item, Wanted};
use minder_proto::v1::{self, from_slave::Message as Out, to_slave::Message as In};
use prost::Message;
use tokio::sync::watch;

use super::{crowd_host, tally::Tally};
use crate::mono_now;

/// What the slave of a program says of its machine, in size.
const CORES: u32 = 2;

pub struct Slave {
    number: usize,
    group: usize,
    pub tally: Arc<Tally>,
    held: Mutex<Held>,
    /// The highest term in which a manager said that it leads, and which one.
    leader: watch::Sender<(u64, String)>,
}

/// What a slave has on its disk.
pub struct Held {
    pub cluster: Option<ClusterId>,
    pub assignment: Assignment,
    pub digest: Digest,
}

/// The slave's side of a session.
#[derive(Default)]
pub struct Session {
    term: u64,
    welcomed: bool,
    nonce: u64,
    history_sent: bool,
}

impl Slave {
    pub fn new(number: usize, group: usize, tally: Arc<Tally>) -> Self {
        let assignment = Assignment::empty(crowd_host(number));
        let digest = assignment.digest();
        let held = Mutex::new(Held { cluster: None, assignment, digest });
        Self { number, group, tally, held, leader: watch::channel((0, String::new())).0 }
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn leader(&self) -> watch::Receiver<(u64, String)> {
        self.leader.subscribe()
    }

    pub fn presence(&self) -> Out {
        let cluster_id = self.held().cluster.as_ref().map(ToString::to_string).unwrap_or_default();
        Out::Presence(v1::Presence { host: crowd_host(self.number).to_string(), cluster_id, boot_id: self.boot_id() })
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.number)
    }

    /// A manager says whether it leads: gives the session that there is then, and a hello when it begins.
    pub fn on_role(&self, session: Option<Session>, role: &v1::Role, address: &str) -> (Option<Session>, Option<Out>) {
        if !role.leader || role.term < self.leader.borrow().0 {
            return (None, None);
        }
        self.leader.send_replace((role.term, address.into()));
        if let Some(session) = session {
            return (Some(Session { term: role.term, ..session }), None);
        }
        let held = self.held();
        let hello = v1::Hello {
            host: crowd_host(self.number).to_string(),
            address: format!("10.0.0.1:{}", self.number),
            labels: [("group".to_owned(), self.group.to_string()), ("all".to_owned(), "yes".to_owned())].into(),
            boot_id: self.boot_id(),
            slave_id: format!("slave-{}", self.number),
            cluster_id: held.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
            assignment_revision: held.assignment.revision.0,
            assignment_digest: held.digest.0.to_vec().into(),
            facts: Some(facts()),
            drills: false,
        };
        (Some(Session { term: role.term, ..Session::default() }), Some(Out::Hello(hello)))
    }

    /// The leader welcomes the slave or sends it away: gives what it says then, `None` when it goes.
    pub fn on_welcome(&self, session: &mut Session, hello: v1::HelloReply) -> Option<Vec<Out>> {
        let cluster = ClusterId::new(hello.cluster_id).ok().filter(|_| hello.refused.is_empty())?;
        self.held().cluster = Some(cluster);
        session.welcomed = true;
        self.tally.sessions.fetch_add(1, Ordering::Relaxed);
        self.tally.welcomed.note(session.term);
        Some(vec![self.beat(session), self.full_report(), self.machine()])
    }

    pub fn beat(&self, session: &mut Session) -> Out {
        session.nonce += 1;
        Out::Heartbeat(v1::Heartbeat { nonce: session.nonce, wall_ms: wall_ms(), up_ms: mono_now().as_millis() as u64 })
    }

    /// The machine's sample, and its last hour once in a session.
    pub fn look(&self, session: &mut Session) -> Vec<Out> {
        let history = (!std::mem::replace(&mut session.history_sent, true)).then(history);
        std::iter::once(self.machine()).chain(history).collect()
    }

    fn machine(&self) -> Out {
        let usage = v1::MachineUsage {
            sampled_at_ms: wall_ms(),
            cpu_permille: 20,
            load_permille: vec![100, 100, 100],
            memory_used_bytes: 1 << 30,
            memory_available_bytes: 7 << 30,
            disks: vec![v1::Disk { mount_point: "/".into(), total_bytes: 1 << 40, ..Default::default() }],
            networks: vec![v1::NetworkInterface { name: "eth0".into(), ..Default::default() }],
            ..Default::default()
        };
        Out::Machine(v1::MachineReport { usage: Some(usage) })
    }

    /// Takes what a manager says in a session: gives the answers, `None` when the session is over.
    pub fn on_message(&self, session: &mut Session, message: In) -> Option<Vec<Out>> {
        match message {
            In::Hello(hello) => self.on_welcome(session, hello),
            In::Assignment(assignment) if session.welcomed => Some(vec![self.on_assignment(session, &assignment)]),
            In::Assignment(_)
            | In::Role(_)
            | In::Heartbeat(_)
            | In::Specs(_)
            | In::Logs(_)
            | In::LogsStop(_)
            | In::Kill(_) => Some(Vec::new()),
        }
    }

    fn on_assignment(&self, session: &Session, message: &v1::Assignment) -> Out {
        self.tally.assignment_bytes.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
        let taken = match minicbor::decode::<AssignmentDelta>(&message.delta) {
            Ok(_) if message.nonce + 1 < session.nonce => Err("stale nonce".to_owned()),
            Ok(delta) => {
                self.tally.wholes.fetch_add(u64::from(delta.base.is_none()), Ordering::Relaxed);
                self.take(&delta)
            }
            Err(_) => Err("malformed".to_owned()),
        };
        self.tally.assignments.fetch_add(1, Ordering::Relaxed);
        match taken {
            Ok(report) => report,
            Err(why) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                let held = self.held();
                Out::Refused(v1::AssignmentRefused {
                    offered_revision: 0,
                    held_revision: held.assignment.revision.0,
                    held_digest: held.digest.0.to_vec().into(),
                    why,
                })
            }
        }
    }

    /// Takes an assignment as the ledger of a slave does; everything in it runs at once.
    fn take(&self, delta: &AssignmentDelta) -> Result<Out, String> {
        let mut held = self.held();
        held.assignment = held.assignment.after(delta).map_err(|error| match error {
            minder_model::DeltaError::OtherBase => "other base".to_owned(),
            minder_model::DeltaError::DigestMismatch => "digest mismatch".to_owned(),
            other => other.to_string(),
        })?;
        held.digest = delta.digest;
        self.tally.took.note(delta.revision.0);
        let statuses = delta.upserts.iter().map(|(key, item)| status(key, item)).collect();
        let gone = delta.removes.iter().map(ToString::to_string).collect();
        Ok(self.report(&held, false, statuses, gone))
    }

    fn full_report(&self) -> Out {
        let held = self.held();
        let statuses = held.assignment.items.iter().map(|(key, item)| status(key, item)).collect();
        self.report(&held, true, statuses, Vec::new())
    }

    fn report(&self, held: &Held, full: bool, statuses: Vec<v1::InstanceStatus>, gone: Vec<String>) -> Out {
        let report = v1::Report {
            full,
            statuses,
            gone,
            assignment_revision: held.assignment.revision.0,
            assignment_digest: held.digest.0.to_vec().into(),
        };
        self.tally.reports.fetch_add(1, Ordering::Relaxed);
        self.tally.report_bytes.fetch_add(report.encoded_len() as u64, Ordering::Relaxed);
        Out::Report(report)
    }
}

impl Session {
    pub fn is_welcomed(&self) -> bool {
        self.welcomed
    }
}

/// What an instance looks like that does as it was told.
fn status(key: &InstanceKey, item: &Item) -> v1::InstanceStatus {
    let runs = item.wanted == Wanted::Running;
    v1::InstanceStatus {
        process: key.process.to_string(),
        index: key.index,
        phase: if runs { v1::Phase::Running } else { v1::Phase::Stopped } as i32,
        since_ms: wall_ms(),
        generation: item.generation.0,
        spec_digest: item.spec.0.to_vec().into(),
        incarnation: 1,
        pid: if runs { 4_242 } else { 0 },
        started_at_ms: wall_ms(),
        restart_at: item.restart_at.0,
        retry_at: item.retry_at.0,
        ..Default::default()
    }
}

fn facts() -> v1::MachineFacts {
    v1::MachineFacts {
        cores: CORES,
        cpu_model: "pretended".into(),
        memory_bytes: 8 << 30,
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0".into(),
        architecture: "x86_64".into(),
        slave_version: "0.1.0".into(),
        supervision: v1::SupervisionLevel::Cgroup as i32,
        ..Default::default()
    }
}

fn history() -> Out {
    let first_s = wall_ms() / 1_000 - HISTORY_SAMPLES as u64 * 15;
    let sample =
        |step: u64| v1::MachineSample { at_s: (first_s + step * 15) as u32, cpu_permille: 20, ..Default::default() };
    Out::History(v1::MachineHistory { samples: (0..HISTORY_SAMPLES as u64).map(sample).collect() })
}

fn wall_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
