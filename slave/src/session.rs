//! One stream to one manager. While that manager leads it carries the session: signs of life, reports, events, machine
//! information one way, assignments and orders the other.
//!
//! The fence against the past has three parts: the ledger refuses an older revision, the cluster must be the same, and an
//! assignment must come under one of the last two heartbeats, for its sender confirmed its leadership after that one.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use minder_model::{ClusterId, DRILL_MS_MAX, DeltaError, InstanceKey, InstanceStatus};
use minder_proto::{
    convert::machine_history::machine_sample_to_wire,
    convert::status::{
        instance_status_to_wire, instance_status_to_wire_since, machine_facts_to_wire, machine_usage_to_wire,
    },
    v1::{self, from_slave::Message as Out, to_slave::Message as In},
    vanish,
};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    clock::{up_ms, wall_ms},
    host::{Message, Refusal, View},
    link::{Counted, Link, Stream},
    logs,
};

/// In a storm of changes reports go at this pace, each with all that changed.
const REPORT_PACE: Duration = Duration::from_millis(20);
/// So many may go at once before: somebody waits for a start or a stop, which is two or three changes.
const REPORT_BURST: u32 = 4;
/// A new leader gets the machine's last hour from all slaves within so many looks at the machine, not in one moment.
const HISTORY_WAIT_LOOKS: u32 = 2;
/// Past events that a new session is sent again.
const EVENTS_AGAIN: usize = 200;
/// Events in one message.
const EVENTS_MAX: usize = 500;
/// A leader that answers none of this many heartbeats is paused or cut off: the stream is given up.
const HEARTBEATS_UNANSWERED_MAX: u64 = 3;
/// Output that is followed at once through one session.
const LOG_ORDERS_MAX: usize = 500;

/// Said to a manager of another cluster.
const OTHER_CLUSTER: &str = "other cluster";

/// The stream has ended.
struct Ended;

/// A session, once the manager said that it leads.
struct Session {
    /// What the manager said of itself; believed once its cluster is known to be this slave's.
    role: v1::Role,
    /// The cluster that has welcomed it.
    cluster: Option<ClusterId>,
    /// Once it has.
    _counted: Option<Counted>,
    /// When the machine's last hour may be sent for the first time.
    history_from: Instant,
    /// Begin of the newest step that was sent.
    history_sent_s: u32,
    nonce: u64,
    answered: u64,
    reported: BTreeMap<InstanceKey, Arc<InstanceStatus>>,
    reported_position: (minder_model::Revision, minder_model::Digest),
    asked_for: std::collections::BTreeSet<minder_model::Digest>,
    events_sent: u64,
    /// Each report moves this on by the pace; it may be ahead of the time by a burst.
    reports_paced: Instant,
    logs: BTreeMap<String, AbortOnDropHandle<()>>,
}

impl Session {
    fn next_report(&self) -> Instant {
        self.reports_paced.checked_sub(REPORT_PACE * REPORT_BURST).unwrap_or(self.reports_paced)
    }
}

/// Attends one manager until the stream ends.
pub async fn attend(link: &Arc<Link>, stream: Stream) {
    let attendance = Attendance { link: link.clone(), stream, session: None };
    // Every end is the same to the caller: it begins again.
    let _ = attendance.run().await;
}

struct Attendance {
    link: Arc<Link>,
    stream: Stream,
    session: Option<Session>,
}

impl Attendance {
    async fn run(mut self) -> Result<(), Ended> {
        let mut view = self.link.host.view.clone();
        let mut machine = self.link.machine.clone();
        let mut events = self.link.events.newest();
        let mut leader = self.link.leader();
        self.present().await?;
        let mut beats = tokio::time::interval(self.link.settings.heartbeat_interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let in_session = self.session.as_ref().is_some_and(|session| session.cluster.is_some());
            let report_at = self.session.as_ref().map_or_else(Instant::now, Session::next_report);
            // Every arm may be dropped at its await: streams, watches and the interval keep what they hold.
            tokio::select! {
                message = self.stream.from_manager.next() => match message {
                    Some(Ok(message)) => self.on_message(message).await?,
                    Some(Err(_)) | None => return Err(Ended),
                },
                _ = beats.tick(), if in_session => self.beat().await?,
                changed = async { tokio::time::sleep_until(report_at).await; view.changed().await }, if in_session => {
                    changed.map_err(|_| Ended)?;
                    self.check_cluster()?;
                    self.report(false).await?;
                }
                changed = machine.changed(), if in_session => {
                    changed.map_err(|_| Ended)?;
                    self.machine().await?;
                }
                changed = events.changed(), if in_session => {
                    changed.map_err(|_| Ended)?;
                    self.events().await?;
                }
                changed = leader.changed() => {
                    changed.map_err(|_| Ended)?;
                    let (term, whose) = leader.borrow_and_update().clone();
                    // One of a later term has been said hello to, and is about to answer.
                    let is_over = |session: &mut Session| session.role.term <= term && whose != self.stream.address;
                    self.session.take_if(is_over);
                }
            }
        }
    }

    async fn on_message(&mut self, message: v1::ToSlave) -> Result<(), Ended> {
        match message.message {
            Some(In::Role(role)) => self.on_role(role).await,
            Some(In::Hello(hello)) => self.on_welcome(hello).await,
            Some(In::Heartbeat(reply)) => {
                if let Some(session) = &mut self.session {
                    session.answered = reply.nonce.min(session.nonce);
                }
                Ok(())
            }
            Some(In::Assignment(assignment)) => self.on_assignment(assignment).await,
            Some(In::Specs(specs)) => {
                let message = Message::RunSpecs(specs.run_specs);
                self.link.host.inbox.send(message).await.map_err(|_| Ended)
            }
            Some(In::Logs(order)) => {
                self.on_log_order(order);
                Ok(())
            }
            Some(In::LogsStop(stop)) => {
                if let Some(session) = &mut self.session {
                    session.logs.remove(&stop.id);
                }
                Ok(())
            }
            Some(In::Kill(drill)) => {
                self.on_kill(&drill);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A drill: this slave ends as by `kill -9` and comes back, if its settings let it. Only its leader may say so.
    fn on_kill(&self, drill: &v1::KillDrill) {
        let is_leaders = self.session.as_ref().is_some_and(|session| session.cluster.is_some());
        if !is_leaders || !self.link.settings.drills {
            tracing::warn!(manager = self.stream.address, "a drill is refused: the setting `drills` is off");
            return;
        }
        let away = Duration::from_millis(drill.away_ms.min(DRILL_MS_MAX));
        tracing::warn!(?away, "a drill: this slave ends now as by kill -9 and comes back");
        vanish::vanish(away);
    }

    /// Says whose stream this is, to a manager that does not lead as well.
    async fn present(&self) -> Result<(), Ended> {
        let cluster = self.link.host.view.borrow().cluster.clone();
        self.send(Out::Presence(v1::Presence {
            host: self.link.settings.name.to_string(),
            cluster_id: cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
            boot_id: self.link.boot_id.clone(),
        }))
        .await
    }

    /// The manager says whether it leads. A session begins with a hello, and ends when it does not any more.
    async fn on_role(&mut self, role: v1::Role) -> Result<(), Ended> {
        if !role.leader || role.term < self.link.leader().borrow().0 {
            self.session = None;
            return Ok(());
        }
        if let Some(session) = &mut self.session {
            session.role = role;
            self.believe();
            return Ok(());
        }
        let view = self.link.host.view.borrow().clone();
        let settings = &self.link.settings;
        let hello = v1::Hello {
            host: settings.name.to_string(),
            address: settings.address.clone(),
            labels: settings.labels.clone(),
            boot_id: self.link.boot_id.clone(),
            slave_id: self.link.slave_id.clone(),
            cluster_id: view.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
            assignment_revision: view.revision.0,
            assignment_digest: prost::bytes::Bytes::copy_from_slice(&view.digest.0),
            facts: Some(machine_facts_to_wire(&self.link.facts)),
            drills: settings.drills,
        };
        self.session = Some(Session {
            role,
            cluster: None,
            _counted: None,
            history_from: Instant::now() + (settings.machine_interval * HISTORY_WAIT_LOOKS).mul_f64(rand::random()),
            history_sent_s: 0,
            nonce: 0,
            answered: 0,
            reported: BTreeMap::new(),
            reported_position: Default::default(),
            asked_for: Default::default(),
            events_sent: 0,
            reports_paced: Instant::now(),
            logs: BTreeMap::new(),
        });
        self.send(Out::Hello(hello)).await
    }

    async fn on_welcome(&mut self, hello: v1::HelloReply) -> Result<(), Ended> {
        if !hello.refused.is_empty() {
            tracing::error!(manager = self.stream.address, reason = hello.refused, "no session");
            return Err(Ended);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let Ok(cluster) = ClusterId::new(hello.cluster_id) else { return Err(Ended) };
        let own = self.link.host.view.borrow().cluster.clone();
        if own.is_some_and(|own| own != cluster) {
            tracing::error!(
                manager = self.stream.address,
                %cluster,
                "refused: it leads another cluster; if that one was rebuilt from this slave's own, say \
                 `minderctl local accept-cluster {cluster}` on this machine"
            );
            self.session = None;
            return self.refuse(0, OTHER_CLUSTER).await;
        }
        session.cluster = Some(cluster);
        session._counted = Some(self.link.open_session());
        self.believe();
        tracing::info!(manager = self.stream.address, "session with the leader");
        self.beat().await?;
        self.report(true).await?;
        self.machine().await?;
        self.events().await
    }

    /// An operator may have moved this slave to another cluster; the session with the one before ends then.
    fn check_cluster(&self) -> Result<(), Ended> {
        let of_session = self.session.as_ref().and_then(|session| session.cluster.as_ref());
        let own = &self.link.host.view.borrow().cluster;
        match (of_session, own) {
            (Some(cluster), Some(own)) if cluster != own => Err(Ended),
            _ => Ok(()),
        }
    }

    /// What a leader of this slave's own cluster says of terms and managers counts. Another's word must not: with a
    /// higher term it would take the session away from the true leader.
    fn believe(&mut self) {
        let Some(Session { role, cluster: Some(_), .. }) = &self.session else { return };
        self.link.learn_managers(&role.managers);
        if !self.link.claim(role.term, &self.stream.address) {
            self.session = None;
        }
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if session.nonce - session.answered > HEARTBEATS_UNANSWERED_MAX {
            tracing::warn!(manager = self.stream.address, "the leader does not answer");
            return Err(Ended);
        }
        session.nonce += 1;
        let nonce = session.nonce;
        self.send(Out::Heartbeat(v1::Heartbeat { nonce, wall_ms: wall_ms(), up_ms: up_ms() })).await
    }

    async fn on_assignment(&mut self, assignment: v1::Assignment) -> Result<(), Ended> {
        let Some((session, cluster)) = self.session.as_ref().and_then(|s| Some((s, s.cluster.clone()?))) else {
            return Ok(());
        };
        if !is_fresh(assignment.nonce, session.nonce) {
            return self.refuse(0, "stale nonce").await;
        }
        let Ok(delta) = minicbor::decode::<minder_model::AssignmentDelta>(&assignment.delta) else {
            return self.refuse(0, "malformed").await;
        };
        let offered = delta.revision.0;
        let (reply, answer) = oneshot::channel();
        let message = Message::Assign { cluster, delta, run_specs: assignment.run_specs, reply };
        self.link.host.inbox.send(message).await.map_err(|_| Ended)?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let why = match error {
                    Refusal::OtherCluster => OTHER_CLUSTER,
                    Refusal::Delta(DeltaError::Older { .. }) => "older",
                    Refusal::Delta(DeltaError::SameRevisionOtherContent { .. }) => "same revision, other content",
                    Refusal::Delta(DeltaError::OtherBase) => "other base",
                    Refusal::Delta(DeltaError::DigestMismatch) => "digest mismatch",
                };
                tracing::warn!(manager = self.stream.address, %error, "assignment refused");
                self.refuse(offered, why).await
            }
            Err(_) => Err(Ended),
        }
    }

    async fn refuse(&mut self, offered_revision: u64, why: &str) -> Result<(), Ended> {
        let view = self.link.host.view.borrow().clone();
        let refused = v1::AssignmentRefused {
            offered_revision,
            held_revision: view.revision.0,
            held_digest: prost::bytes::Bytes::copy_from_slice(&view.digest.0),
            why: why.into(),
        };
        self.send(Out::Refused(refused)).await
    }

    /// Tells what has changed since the last report, or everything, and what is missing.
    async fn report(&mut self, full: bool) -> Result<(), Ended> {
        let view = self.link.host.view.borrow().clone();
        let Some(session) = &mut self.session else { return Ok(()) };
        let report = difference(session, &view, full);
        session.reports_paced = session.reports_paced.max(Instant::now()) + REPORT_PACE;
        session.reported = view.statuses.clone();
        session.reported_position = (view.revision, view.digest);
        session.asked_for.retain(|digest| view.missing.contains(digest));
        let asked: Vec<_> = view.missing.difference(&session.asked_for).copied().collect();
        session.asked_for.extend(asked.iter().copied());
        if let Some(report) = report {
            self.send(Out::Report(report)).await?;
        }
        if asked.is_empty() {
            return Ok(());
        }
        let digests = asked.iter().map(|digest| prost::bytes::Bytes::copy_from_slice(&digest.0)).collect();
        self.send(Out::SpecsWanted(v1::SpecsWanted { digests })).await
    }

    async fn machine(&mut self) -> Result<(), Ended> {
        let usage = self.link.machine.borrow().as_ref().map(machine_usage_to_wire);
        if usage.is_some() {
            self.send(Out::Machine(v1::MachineReport { usage })).await?;
        }
        self.history().await
    }

    /// Sends the steps of the machine's last hour that this leader has not had.
    async fn history(&mut self) -> Result<(), Ended> {
        let Some(session) = self.session.as_mut().filter(|session| session.history_from <= Instant::now()) else {
            return Ok(());
        };
        let samples: Vec<v1::MachineSample> = {
            let history = self.link.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.after(session.history_sent_s).map(machine_sample_to_wire).collect()
        };
        let Some(newest) = samples.last() else { return Ok(()) };
        session.history_sent_s = newest.at_s;
        self.send(Out::History(v1::MachineHistory { samples })).await
    }

    async fn events(&mut self) -> Result<(), Ended> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let most = if session.events_sent == 0 { EVENTS_AGAIN } else { EVENTS_MAX };
        let events = self.link.events.after(session.events_sent, most);
        let Some(last) = events.last() else { return Ok(()) };
        session.events_sent = last.sequence;
        self.send(Out::Events(v1::SlaveEvents { events })).await
    }

    fn on_log_order(&mut self, order: v1::LogOrder) {
        let Some(session) = &mut self.session else { return };
        session.logs.retain(|_, task| !task.is_finished());
        let key = minder_model::ProcessName::new(order.process.clone()).map(|name| InstanceKey::new(name, order.index));
        let Ok(key) = key else { return };
        if session.logs.len() >= LOG_ORDERS_MAX {
            tracing::warn!(limit = LOG_ORDERS_MAX, "too much output is followed at once; an order was passed over");
            return;
        }
        let task = logs::push(self.stream.channel.clone(), order.clone(), (self.link.logs)(&key));
        session.logs.insert(order.id, AbortOnDropHandle::new(tokio::spawn(task)));
    }

    async fn send(&self, message: Out) -> Result<(), Ended> {
        // A manager that does not read loses the stream by its keepalive; waiting here holds up only this stream.
        self.stream.out.send(v1::FromSlave { message: Some(message) }).await.map_err(|_| Ended)
    }
}

/// An assignment may come under the latest heartbeat or the one before it, which may have crossed it on the way.
fn is_fresh(nonce: u64, latest: u64) -> bool {
    nonce > 0 && nonce <= latest && latest - nonce <= 1
}

/// The report of what is different; `None` when nothing is.
fn difference(session: &Session, view: &View, full: bool) -> Option<v1::Report> {
    let news = |key: &InstanceKey, status: &Arc<InstanceStatus>| {
        full || session.reported.get(key).is_none_or(|before| !Arc::ptr_eq(before, status) && before != status)
    };
    // A status that changed says only those exits that are new: a crash loop tells each of them once.
    let told = |key: &InstanceKey| session.reported.get(key).filter(|_| !full);
    let statuses: Vec<_> = view
        .statuses
        .iter()
        .filter(|(key, status)| news(key, status))
        .map(|(key, status)| match told(key) {
            Some(before) => instance_status_to_wire_since(before, status),
            None => instance_status_to_wire(status),
        })
        .collect();
    let gone: Vec<String> =
        session.reported.keys().filter(|key| !view.statuses.contains_key(*key)).map(ToString::to_string).collect();
    let moved = session.reported_position != (view.revision, view.digest);
    (full || moved || !statuses.is_empty() || !gone.is_empty()).then(|| v1::Report {
        full,
        statuses,
        gone,
        assignment_revision: view.revision.0,
        assignment_digest: prost::bytes::Bytes::copy_from_slice(&view.digest.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_two_heartbeats_count() {
        for (nonce, latest, fresh) in
            [(5, 5, true), (4, 5, true), (3, 5, false), (6, 5, false), (0, 0, false), (0, 1, false)]
        {
            assert_eq!(is_fresh(nonce, latest), fresh, "{nonce} of {latest}");
        }
    }
}
