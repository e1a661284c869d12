//! Pretended Raft: what managers agree on, decided by fiat. A decision falls in one moment, and only if whoever asks
//! leads in the latest term and reaches a majority then. So the agreement is right by its construction, and what is left
//! to go wrong is what managers make of it: they lag, lose what was not decided, and believe to lead when they do not.

use std::sync::Arc;

use minder_state::Proposal;

use crate::{
    network::Node,
    world::{Event, World, say},
};

/// One entry of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was proposed; a leader's first entry says nothing.
    pub proposal: Option<Arc<Proposal>>,
}

/// Who waits for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiter {
    /// An operator: who, which of its calls, which attempt, and over which manager the answer goes.
    Call(usize, u64, u32, usize),
    /// A session that registers its host.
    Register(u64),
    /// Nobody any more.
    Nobody,
}

/// What a leader has taken in and nobody has decided yet.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// It.
    pub proposal: Option<Arc<Proposal>>,
    /// Who waits for it.
    pub waiter: Waiter,
}

/// The log and who leads.
#[derive(Debug, Default)]
pub struct Agreement {
    /// What was decided, from index 1.
    pub log: Vec<Entry>,
    /// When each was, in milliseconds.
    pub decided_at: Vec<u64>,
    /// The latest term.
    pub term: u64,
    /// Whom it belongs to.
    pub leader: Option<usize>,
    leaderless_since: Option<u64>,
    /// Elections so far.
    pub elections: u64,
}

/// Without a working leader for this long, another is elected, in milliseconds.
const ELECTION_MS: u64 = 400;
/// The leader is looked at this often.
pub const ELECTION_LOOK_MS: u64 = 200;
/// A leader speaks to the others this often.
pub const LEADER_BEAT_MS: u64 = 500;
/// A round that failed is tried again after this.
const ROUND_AGAIN_MS: u64 = 300;

impl World {
    /// Whether a manager reaches a majority, itself counted.
    pub fn has_majority(&self, manager: usize) -> bool {
        let other = |at: &usize| {
            *at == manager || (self.is_awake(*at) && self.network.both_ways(Node::Manager(manager), Node::Manager(*at)))
        };
        (0..self.managers.len()).filter(other).count() * 2 > self.managers.len()
    }

    fn is_awake(&self, manager: usize) -> bool {
        self.managers[manager].up && self.managers[manager].paused_until <= self.now
    }

    /// Whether a leader of this term can decide something now.
    pub fn may_decide(&self, manager: usize, term: u64) -> bool {
        self.agreement.leader == Some(manager)
            && self.agreement.term == term
            && self.managers[manager].up
            && self.has_majority(manager)
    }

    /// Looks at the leader; elects another one when it has not worked for long enough.
    pub fn look_at_leader(&mut self) {
        self.after(ELECTION_LOOK_MS, Event::LookAtLeader);
        let works = self.agreement.leader.is_some_and(|leader| {
            let still = self.managers[leader].leading == Some(self.agreement.term);
            still && self.is_awake(leader) && self.has_majority(leader)
        });
        if works {
            self.agreement.leaderless_since = None;
            return;
        }
        let since = *self.agreement.leaderless_since.get_or_insert(self.now);
        if self.now >= since + ELECTION_MS {
            self.elect();
        }
    }

    /// Gives the next term to somebody who has a majority.
    pub fn elect(&mut self) {
        let able: Vec<usize> =
            (0..self.managers.len()).filter(|at| self.is_awake(*at) && self.has_majority(*at)).collect();
        if able.is_empty() {
            return;
        }
        let leader = *self.chance.pick(&able);
        // What the last leader had not got decided: some of it lives on with the next one, the rest never was.
        let undecided = self.agreement.leader.map(|last| self.managers[last].own.clone()).unwrap_or_default();
        let kept = if undecided.is_empty() { 0 } else { self.chance.below(undecided.len() + 1) };
        let adopted = undecided.into_iter().take(kept).map(|proposed| Proposed { waiter: Waiter::Nobody, ..proposed });
        let mut own: Vec<Proposed> = adopted.collect();
        own.push(Proposed { proposal: None, waiter: Waiter::Nobody });
        self.agreement.term += 1;
        self.agreement.elections += 1;
        self.agreement.leader = Some(leader);
        self.agreement.leaderless_since = None;
        let term = self.agreement.term;
        say!(self, Node::Manager(leader), "leads in term {term}, with {kept} undecided entries");
        let decided = self.agreement.log.len();
        let manager = &mut self.managers[leader];
        manager.give_up_waiting();
        manager.leading = Some(term);
        manager.ready = false;
        manager.own = own;
        manager.first_own_index = u64::MAX;
        manager.round = false;
        manager.known = manager.known.max(decided);
        manager.leader = Some((term, leader));
        self.give_up_registrations(leader);
        self.begin_round(leader);
        self.after(0, Event::LeaderBeat { manager: leader, term });
    }

    /// Takes in a proposal of a leader.
    pub fn propose(&mut self, manager: usize, proposal: Proposal, waiter: Waiter) {
        self.managers[manager].own.push(Proposed { proposal: Some(Arc::new(proposal)), waiter });
        self.begin_round(manager);
    }

    /// Asks the others, with everything proposed so far.
    pub fn begin_round(&mut self, manager: usize) {
        let known = &mut self.managers[manager];
        if known.round || known.own.is_empty() {
            return;
        }
        let Some(term) = known.leading else { return };
        known.round = true;
        let count = known.own.len();
        let wait = self.latency();
        self.after(wait, Event::Decide { manager, term, count });
    }

    /// A round comes to its end.
    pub fn decide(&mut self, manager: usize, term: u64, count: usize) {
        if self.managers[manager].leading != Some(term) {
            return;
        }
        self.managers[manager].round = false;
        if !self.may_decide(manager, term) {
            if self.agreement.term > term && self.hears_of_later_term(manager) {
                return self.step_down(manager);
            }
            self.after(ROUND_AGAIN_MS, Event::RoundAgain { manager, term });
            return;
        }
        let count = count.min(self.managers[manager].own.len());
        let decided: Vec<Proposed> = self.managers[manager].own.drain(..count).collect();
        for Proposed { proposal, waiter } in decided {
            self.judge_commit(proposal.as_deref());
            if proposal.is_none() {
                self.managers[manager].first_own_index = self.agreement.log.len() as u64 + 1;
            }
            self.agreement.log.push(Entry { proposal });
            self.agreement.decided_at.push(self.now);
            let index = self.agreement.log.len() as u64;
            if waiter != Waiter::Nobody {
                self.managers[manager].waiters.insert(index, waiter);
            }
        }
        let upto = self.agreement.log.len();
        // A leader is no quicker to apply than others: they may show what it has not applied yet.
        let wait = self.latency() + self.lag();
        self.after(wait, Event::Learn { manager, upto });
        for other in (0..self.managers.len()).filter(|other| *other != manager) {
            self.speak_to(manager, other, term, upto);
        }
        self.begin_round(manager);
    }

    fn hears_of_later_term(&self, manager: usize) -> bool {
        let mut others = (0..self.managers.len()).filter(|other| *other != manager && self.is_awake(*other));
        others.any(|other| self.network.both_ways(Node::Manager(manager), Node::Manager(other)))
    }

    /// A leader tells everybody that it leads and how far it got.
    pub fn leader_beat(&mut self, manager: usize, term: u64) {
        if self.managers[manager].leading != Some(term) {
            return;
        }
        let known = self.managers[manager].known;
        for other in (0..self.managers.len()).filter(|other| *other != manager) {
            self.speak_to(manager, other, term, known);
        }
        self.after(LEADER_BEAT_MS, Event::LeaderBeat { manager, term });
    }

    fn speak_to(&mut self, from: usize, to: usize, term: u64, upto: usize) {
        if self.network.reaches(Node::Manager(from), Node::Manager(to)) && self.managers[to].up {
            let wait = self.latency();
            let epoch = self.managers[to].epoch;
            self.after(wait, Event::Hear { manager: to, epoch, from, term, upto });
        }
    }

    /// A manager hears of a leader.
    pub fn hear(&mut self, manager: usize, from: usize, term: u64, upto: usize) {
        let known = &mut self.managers[manager];
        if known.leader.is_some_and(|(best, _)| best > term) {
            return;
        }
        let news = known.leader != Some((term, from));
        known.leader = Some((term, from));
        if known.leading.is_some_and(|own| own < term) {
            self.step_down(manager);
        } else if news {
            self.tell_roles(manager);
        }
        let epoch = self.managers[manager].epoch;
        let lag = if self.options.faults.lag && self.faulty { self.chance.of(0..3_000) } else { 0 };
        self.after(lag, Event::CatchUp { manager, epoch, upto });
    }

    /// How much later than it might a leader applies what was decided.
    fn lag(&mut self) -> u64 {
        let lags = self.options.faults.lag && self.faulty && self.chance.percent(20);
        if lags { self.chance.of(0..1_500) } else { 0 }
    }
}
