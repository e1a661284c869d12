//! The leader's side of one slave's stream, as a state machine: when to confirm leadership, what to send, when to
//! close. The shell does what the effects say and feeds back what came of it.
//!
//! The rule that matters (design.md D2): an assignment is sent only after leadership was confirmed by a quorum round
//! that began after the slave's heartbeat with the nonce that travels with it. A leader that was paused fails the
//! round, or sends under a nonce that the slave has outlived.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use minder_model::{Assignment, AssignmentDelta, ClusterId, Digest, HostName, Revision};

/// How a slave introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The host it acts on.
    pub host: HostName,
    /// The cluster it belongs to; `None` on its first day.
    pub cluster: Option<ClusterId>,
    /// Revision of the assignment it holds.
    pub revision: Revision,
    /// Digest of that assignment.
    pub digest: Digest,
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The slave introduces itself.
    Hello(Hello),
    /// A sign of life.
    Heartbeat {
        /// Counts up with each heartbeat.
        nonce: u64,
    },
    /// There is room for this session's first assignment: until then it waits, so that a whole fleet that comes back
    /// does not get everything in one moment.
    Admitted,
    /// The host's slice may have changed.
    Changed,
    /// Leadership was confirmed by a quorum round that began when [`Effect::Confirm`] was given.
    Confirmed {
        /// The nonce of that effect.
        nonce: u64,
        /// The host's assignment, read after the round.
        assignment: Assignment,
    },
    /// The quorum round failed: this manager may not lead any more.
    ConfirmFailed,
    /// The slave did not take an assignment.
    Refused {
        /// Why, as it says.
        why: String,
        /// Whether the whole assignment may help: the base or the nonce was wrong, not the content.
        send_whole: bool,
    },
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Accept the session.
    Welcome,
    /// Answer the heartbeat.
    AnswerHeartbeat {
        /// The heartbeat's nonce.
        nonce: u64,
    },
    /// Confirm leadership by a quorum round that begins now, then read the assignment.
    Confirm {
        /// Travels with the assignment.
        nonce: u64,
    },
    /// Send this change with the run specs it adds.
    Send {
        /// The heartbeat it is sent under.
        nonce: u64,
        /// The change.
        delta: AssignmentDelta,
        /// Run specs that the slave may lack.
        run_specs: Vec<Digest>,
    },
    /// Something is wrong that a person must see.
    Alarm(String),
    /// End the session; the slave is told why.
    Close(String),
}

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    cluster: ClusterId,
    hello: Option<Hello>,
    nonce: Option<u64>,
    admitted: bool,
    confirming: bool,
    dirty: bool,
    acts_on: Revision,
    /// Refusals since the slave last took something.
    refusals: u32,
    /// What the slave holds once everything sent has arrived.
    sent: Option<Sent>,
}

/// An assignment, which shares its instances with the table it was read from, and its digest.
#[derive(Debug, Clone)]
struct Sent {
    assignment: Assignment,
    digest: Digest,
}

impl Session {
    /// A session of this cluster that nobody has spoken in yet.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            hello: None,
            nonce: None,
            admitted: false,
            confirming: false,
            dirty: true,
            acts_on: Revision::ZERO,
            refusals: 0,
            sent: None,
        }
    }

    /// The host that spoke, once it did.
    pub fn host(&self) -> Option<&HostName> {
        self.hello.as_ref().map(|hello| &hello.host)
    }

    /// Why a slave that says this gets no session: it belongs to another cluster.
    pub fn refusal(&self, hello: &Hello) -> Option<String> {
        let other = hello.cluster.as_ref().filter(|cluster| **cluster != self.cluster)?;
        let own = &self.cluster;
        Some(format!(
            "this slave belongs to cluster {other}, this is cluster {own}; if this one was rebuilt from that one, say \
             `minderctl local accept-cluster {own}` on that machine, and what runs there goes on; else point it at its \
             own managers"
        ))
    }

    /// The slave reports that it acts on this revision.
    pub fn reported(&mut self, revision: Revision) {
        if revision > self.acts_on {
            self.refusals = 0;
        }
        self.acts_on = revision;
    }

    /// Whether the slave acts on everything it was sent, or was found to need nothing.
    pub fn is_held(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| self.acts_on >= sent.assignment.revision)
    }

    /// Takes one event; gives what to do, in order.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = match event {
            Event::Hello(hello) => self.on_hello(hello),
            Event::Heartbeat { nonce } => {
                self.nonce = Some(nonce);
                alloc::vec![Effect::AnswerHeartbeat { nonce }]
            }
            Event::Admitted => {
                self.admitted = true;
                Vec::new()
            }
            Event::Changed => {
                self.dirty = true;
                Vec::new()
            }
            Event::Confirmed { nonce, assignment } => {
                self.confirming = false;
                self.send(nonce, assignment)
            }
            Event::ConfirmFailed => {
                self.confirming = false;
                self.dirty = true;
                return Vec::new();
            }
            Event::Refused { why, send_whole } => self.on_refused(why, send_whole),
        };
        effects.extend(self.confirm_if_due());
        effects
    }

    fn on_hello(&mut self, hello: Hello) -> Vec<Effect> {
        if let Some(why) = self.refusal(&hello) {
            return alloc::vec![Effect::Close(why)];
        }
        if self.hello.is_some() {
            return alloc::vec![Effect::Close(String::from("a second hello in one session"))];
        }
        self.acts_on = hello.revision;
        self.hello = Some(hello);
        alloc::vec![Effect::Welcome]
    }

    /// What was refused goes again at once, and whole. A slave that refuses that, too, is asked once a heartbeat and not
    /// without end, and a person is told once.
    fn on_refused(&mut self, why: String, send_whole: bool) -> Vec<Effect> {
        self.sent = None;
        self.dirty |= send_whole;
        self.refusals = self.refusals.saturating_add(1);
        self.nonce = self.nonce.filter(|_| self.refusals == 1);
        if send_whole && self.refusals != 2 {
            return Vec::new();
        }
        alloc::vec![Effect::Alarm(format!("the slave refused its assignment: {why}"))]
    }

    fn confirm_if_due(&mut self) -> Option<Effect> {
        let ready = self.hello.is_some() && self.admitted && self.dirty && !self.confirming;
        let nonce = self.nonce.filter(|_| ready)?;
        self.confirming = true;
        self.dirty = false;
        Some(Effect::Confirm { nonce })
    }

    fn send(&mut self, nonce: u64, assignment: Assignment) -> Vec<Effect> {
        let Some(hello) = &self.hello else { return Vec::new() };
        if self.sent.is_none() && hello.revision > assignment.revision {
            return alloc::vec![Effect::Close(format!(
                "this slave holds revision {}, newer than this cluster's {}; was the cluster rebuilt from a backup?",
                hello.revision, assignment.revision
            ))];
        }
        if self.sent.as_ref().is_some_and(|sent| sent.assignment == assignment) {
            return Vec::new();
        }
        let digest = assignment.digest();
        let held_at_hello = self.sent.is_none() && hello.revision == assignment.revision && hello.digest == digest;
        if held_at_hello {
            self.sent = Some(Sent { assignment, digest });
            return Vec::new();
        }
        let before = self.sent.as_ref().map(|sent| (&sent.assignment, sent.digest));
        let delta = assignment.delta_between(digest, before);
        let mut run_specs: BTreeSet<Digest> = delta.upserts.iter().map(|(_, item)| item.spec).collect();
        for (_, item) in before.iter().flat_map(|(sent, _)| &sent.items) {
            run_specs.remove(&item.spec);
        }
        self.sent = Some(Sent { assignment, digest });
        alloc::vec![Effect::Send { nonce, delta, run_specs: run_specs.into_iter().collect() }]
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Generation, InstanceKey, Item, ProcessName, Wanted};

    use super::*;

    fn cluster() -> ClusterId {
        ClusterId::new("c1").unwrap()
    }

    fn assignment(revision: u64, names: &[&str]) -> Assignment {
        let mut assignment = Assignment::empty(HostName::new("h").unwrap());
        assignment.revision = Revision(revision);
        for name in names {
            let item = Item {
                generation: Generation(1),
                spec: Digest::of(name.as_bytes()),
                wanted: Wanted::Running,
                restart_at: Revision::ZERO,
                retry_at: Revision::ZERO,
                signal: None,
                start_at: Revision::ZERO,
            };
            assignment.items.insert(InstanceKey::new(ProcessName::new(*name).unwrap(), 1), item);
        }
        assignment
    }

    fn hello(held: &Assignment) -> Event {
        Event::Hello(Hello {
            host: held.host.clone(),
            cluster: Some(cluster()),
            revision: held.revision,
            digest: held.digest(),
        })
    }

    fn opened(held: &Assignment) -> Session {
        let mut session = Session::new(cluster());
        assert_eq!(session.step(hello(held)), [Effect::Welcome]);
        assert_eq!(session.step(Event::Admitted), []);
        assert_eq!(
            session.step(Event::Heartbeat { nonce: 7 }),
            [Effect::AnswerHeartbeat { nonce: 7 }, Effect::Confirm { nonce: 7 }]
        );
        session
    }

    #[test]
    fn nothing_is_sent_to_a_slave_that_has_it_all() {
        let held = assignment(5, &["a", "b"]);
        let mut session = opened(&held);
        assert!(!session.is_held());
        assert_eq!(session.step(Event::Confirmed { nonce: 7, assignment: held }), []);
        assert!(session.is_held(), "it gives its place to others at once");
    }

    #[test]
    fn nothing_is_sent_before_leadership_is_confirmed_after_a_heartbeat() {
        let mut session = Session::new(cluster());
        session.step(hello(&assignment(0, &[])));
        session.step(Event::Admitted);
        assert_eq!(session.step(Event::Changed), []);
        session.step(Event::Heartbeat { nonce: 1 });
        assert_eq!(session.step(Event::ConfirmFailed), []);
        assert_eq!(
            session.step(Event::Heartbeat { nonce: 2 }),
            [Effect::AnswerHeartbeat { nonce: 2 }, Effect::Confirm { nonce: 2 }]
        );
    }

    #[test]
    fn a_session_waits_for_room_and_then_goes_under_its_latest_heartbeat() {
        let mut session = Session::new(cluster());
        session.step(hello(&assignment(0, &[])));
        for nonce in 1..=3 {
            assert_eq!(session.step(Event::Heartbeat { nonce }), [Effect::AnswerHeartbeat { nonce }]);
            assert_eq!(session.step(Event::Changed), []);
        }
        assert_eq!(session.step(Event::Admitted), [Effect::Confirm { nonce: 3 }]);
    }

    #[test]
    fn a_slave_that_refuses_everything_is_asked_once_a_heartbeat_and_a_person_is_told_once() {
        let mut session = opened(&assignment(0, &[]));
        let refused = || Event::Refused { why: "digest mismatch".into(), send_whole: true };
        session.step(Event::Confirmed { nonce: 7, assignment: assignment(3, &["a"]) });
        assert_eq!(session.step(refused()), [Effect::Confirm { nonce: 7 }], "once again at once");
        let mut alarms = 0;
        for nonce in 8..20 {
            session.step(Event::Confirmed { nonce: nonce - 1, assignment: assignment(3, &["a"]) });
            let effects = session.step(refused());
            alarms += effects.iter().filter(|effect| matches!(effect, Effect::Alarm(_))).count();
            assert!(
                !effects.iter().any(|effect| matches!(effect, Effect::Confirm { .. })),
                "not under the same heartbeat"
            );
            let next = session.step(Event::Heartbeat { nonce });
            assert_eq!(next, [Effect::AnswerHeartbeat { nonce }, Effect::Confirm { nonce }]);
        }
        assert_eq!(alarms, 1);
    }

    #[test]
    fn a_burst_of_changes_costs_one_send_and_only_the_difference() {
        let mut session = opened(&assignment(0, &[]));
        session.step(Event::Confirmed { nonce: 7, assignment: assignment(3, &["a"]) });
        assert!(!session.is_held());
        session.reported(Revision(3));
        assert!(session.is_held());
        assert_eq!(session.step(Event::Changed), [Effect::Confirm { nonce: 7 }]);
        assert_eq!(session.step(Event::Changed), []);
        assert_eq!(session.step(Event::Changed), []);
        let effects = session.step(Event::Confirmed { nonce: 7, assignment: assignment(9, &["a", "b"]) });
        match &effects[..] {
            [Effect::Send { delta, run_specs, .. }, Effect::Confirm { .. }] => {
                assert_eq!(delta.upserts.len(), 1);
                assert_eq!(run_specs, &[Digest::of(b"b")]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refused_base_brings_the_whole_and_a_refused_content_an_alarm() {
        let mut session = opened(&assignment(0, &[]));
        session.step(Event::Confirmed { nonce: 7, assignment: assignment(3, &["a"]) });
        let effects = session.step(Event::Refused { why: "other base".into(), send_whole: true });
        assert_eq!(effects, [Effect::Confirm { nonce: 7 }]);
        match &session.step(Event::Confirmed { nonce: 7, assignment: assignment(3, &["a"]) })[..] {
            [Effect::Send { delta, .. }] => assert_eq!(delta.base, None),
            other => panic!("{other:?}"),
        }
        let effects = session.step(Event::Refused { why: "older".into(), send_whole: false });
        assert!(matches!(&effects[..], [Effect::Alarm(_)]), "{effects:?}");
    }

    #[test]
    fn strangers_are_sent_away() {
        let mut session = Session::new(cluster());
        let stranger = Event::Hello(Hello {
            host: HostName::new("h").unwrap(),
            cluster: Some(ClusterId::new("c2").unwrap()),
            revision: Revision::ZERO,
            digest: Digest::default(),
        });
        assert!(matches!(&session.step(stranger)[..], [Effect::Close(_)]));
        let mut session = opened(&assignment(50, &["a"]));
        let effects = session.step(Event::Confirmed { nonce: 7, assignment: assignment(3, &["a"]) });
        assert!(matches!(&effects[..], [Effect::Close(_)]), "{effects:?}");
    }
}
