//! One manager: it applies what was decided, keeps rows on its disk, and may lose everything else at any time.

use std::{collections::BTreeMap, sync::Arc};

use minder_model::Revision;
use minder_state::{Command, Proposal, State};

use crate::{
    agreement::{Proposed, Waiter},
    attend::{Attendance, Fleet},
    network::Node,
    planted::Planted,
    watcher::Ring,
    world::{EPOCH_MS, Event, World, say},
};

/// One manager.
#[derive(Debug, Default)]
pub struct Manager {
    /// It runs.
    pub up: bool,
    /// It gets no time until then.
    pub paused_until: u64,
    /// Counts its starts: what was meant for an earlier one is void.
    pub epoch: u64,
    /// The term it believes to lead in.
    pub leading: Option<u64>,
    /// It has applied an entry of its own term: its state is as new as anybody's.
    pub ready: bool,
    /// Whom it knows to lead, in which term.
    pub leader: Option<(u64, usize)>,
    /// What it proposed and nobody has decided.
    pub own: Vec<Proposed>,
    /// Where its own first entry came to be.
    pub first_own_index: u64,
    /// A round is under way.
    pub round: bool,
    /// How far it knows the log.
    pub known: usize,
    /// How far it has applied it.
    pub applied: usize,
    /// The table.
    pub state: State,
    /// Who waits for which index.
    pub waiters: BTreeMap<u64, Waiter>,
    /// What it observes.
    pub fleet: Fleet,
    /// Streams.
    pub attendances: BTreeMap<u64, Attendance>,
    /// The latest changes, for watches.
    pub ring: Ring,
    /// How far its wall clock is off, in milliseconds.
    pub skew_ms: i64,
    /// The last round that confirmed its leadership began then.
    pub confirmed_at: Option<u64>,
    /// The last round of a read.
    pub read_confirmed_at: Option<u64>,
    /// How long it was paused so far, in milliseconds.
    pub slept_ms: u64,
    disk: Disk,
}

/// Rows as RocksDB keeps them, and what gathers before it is written.
#[derive(Debug, Default)]
struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    applied: usize,
    pending: Vec<minder_state::RowChange>,
    pending_applied: usize,
}

impl Disk {
    fn write(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change.value {
                Some(value) => self.rows.insert(change.key, value),
                None => self.rows.remove(&change.key),
            };
        }
        self.applied = self.pending_applied;
    }
}

impl Manager {
    /// One that runs and has nothing yet.
    pub fn running() -> Self {
        Self { up: true, ..Self::default() }
    }

    /// Whoever waits gets no answer.
    pub fn give_up_waiting(&mut self) {
        self.waiters.clear();
    }

    /// Its wall clock.
    pub fn wall_ms(&self, now: u64) -> u64 {
        (EPOCH_MS + now).saturating_add_signed(self.skew_ms)
    }
}

impl World {
    /// Applies what is known to be decided.
    pub fn catch_up(&mut self, manager: usize, upto: usize) {
        let upto = upto.min(self.agreement.log.len());
        let known = &mut self.managers[manager];
        known.known = known.known.max(upto);
        let behind = known.known.saturating_sub(known.applied);
        if self.options.faults.snapshots && behind > self.options.entries_kept + 1 && known.leading.is_none() {
            self.install_snapshot(manager);
        }
        while self.managers[manager].applied < self.managers[manager].known {
            self.apply_next(manager);
        }
        if let Some(term) = self.managers[manager].leading
            && !self.managers[manager].ready
            && self.managers[manager].applied as u64 >= self.managers[manager].first_own_index
        {
            self.begin_to_serve(manager, term);
        }
    }

    fn apply_next(&mut self, manager: usize) {
        let at = self.managers[manager].applied;
        let entry = self.agreement.log[at].clone();
        let index = Revision(at as u64 + 1);
        let known = &mut self.managers[manager];
        known.applied += 1;
        let mut reply = None;
        if let Some(proposal) = &entry.proposal {
            let proposal = self.falsified(manager, proposal);
            let known = &mut self.managers[manager];
            let applied = known.state.apply(index, &proposal);
            known.disk.pending.extend(applied.rows);
            known.disk.pending_applied = at + 1;
            known.ring.push(index, applied.changes);
            reply = Some(applied.reply);
            if self.managers[manager].leading.is_some() && self.planted != Some(Planted::SessionsNotWoken) {
                self.wake_sessions(manager, &applied.touched);
            }
        } else {
            known.disk.pending_applied = at + 1;
            known.ring.push(index, Vec::new());
        }
        if self.chance.percent(20) {
            self.managers[manager].disk.write();
        }
        let hash = self.managers[manager].state.hash();
        self.judge_applied(manager, index.0, hash, reply.as_ref());
        match self.managers[manager].waiters.remove(&index.0) {
            Some(Waiter::Call(operator, call, attempt, over)) => {
                if let Some(reply) = reply {
                    self.answer_write(manager, operator, call, attempt, over, reply);
                }
            }
            Some(Waiter::Register(connection)) => self.registered(connection),
            Some(Waiter::Nobody) | None => {}
        }
    }

    /// What two of the planted bugs make of a proposal on its way to `apply`.
    fn falsified(&self, manager: usize, proposal: &Arc<Proposal>) -> Arc<Proposal> {
        match (self.planted, &proposal.command) {
            (Some(Planted::ClockInApply), _) => {
                let time_ms = self.managers[manager].wall_ms(self.now);
                Arc::new(Proposal { time_ms, ..Proposal::clone(proposal) })
            }
            (Some(Planted::OrderInApply), Command::Apply(specs)) if manager % 2 == 1 => {
                let command = Command::Apply(specs.iter().rev().cloned().collect());
                Arc::new(Proposal { command, ..Proposal::clone(proposal) })
            }
            _ => proposal.clone(),
        }
    }

    fn install_snapshot(&mut self, manager: usize) {
        let source = self.managers.iter().filter(|other| other.up && other.applied > self.managers[manager].applied);
        let Some(source) = source.max_by_key(|other| other.applied) else { return };
        let answers_left_out = self.planted == Some(Planted::AnswersNotInSnapshot);
        let rows: BTreeMap<Vec<u8>, Vec<u8>> =
            source.state.rows().filter(|(key, _)| !(answers_left_out && key.first() == Some(&7))).collect();
        let applied = source.applied;
        let state = load(&rows);
        let hash = state.hash();
        say!(self, Node::Manager(manager), "installs a snapshot at {applied}");
        let known = &mut self.managers[manager];
        known.state = state;
        known.applied = applied;
        known.disk = Disk { rows, applied, pending: Vec::new(), pending_applied: applied };
        known.ring.jump(Revision(applied as u64));
        self.judge_applied(manager, applied as u64, hash, None);
    }

    fn begin_to_serve(&mut self, manager: usize, term: u64) {
        say!(self, Node::Manager(manager), "serves as the leader of term {term}");
        let now = self.now;
        let keeps = self.planted == Some(Planted::OldObservations);
        let known = &mut self.managers[manager];
        known.ready = true;
        known.confirmed_at = None;
        known.fleet.lead(now, known.state.hosts().map(|(host, _)| host), keeps);
        let epoch = known.epoch;
        self.tell_roles(manager);
        self.after(500, Event::LookAtFleet { manager, epoch, term });
    }

    /// It does not lead any more, and knows it.
    pub fn step_down(&mut self, manager: usize) {
        say!(self, Node::Manager(manager), "leads no more");
        let keeps = self.planted == Some(Planted::OldObservations);
        let known = &mut self.managers[manager];
        known.leading = None;
        known.ready = false;
        known.own.clear();
        known.round = false;
        known.give_up_waiting();
        known.fleet.follow(keeps);
        self.end_sessions(manager);
        self.tell_roles(manager);
    }

    /// Ends the process. Without power its peers are not told.
    pub fn kill_manager(&mut self, manager: usize) {
        if !self.managers[manager].up {
            return;
        }
        say!(self, Node::Manager(manager), "is killed");
        let known = &mut self.managers[manager];
        let disk = std::mem::take(&mut known.disk);
        *known = Manager {
            epoch: known.epoch + 1,
            skew_ms: known.skew_ms,
            // The log is on its disk, and so is what nobody has decided.
            own: std::mem::take(&mut known.own),
            disk: Disk { pending: Vec::new(), ..disk },
            ..Manager::default()
        };
        for connection in self.network.of(Node::Manager(manager)) {
            self.end_stream(connection, crate::network::Way::Down);
        }
    }

    /// Starts it with what is on its disk.
    pub fn start_manager(&mut self, manager: usize) {
        if self.managers[manager].up {
            return;
        }
        let state = load(&self.managers[manager].disk.rows);
        let ahead = self.planted == Some(Planted::PositionBeforeRows);
        let decided = self.agreement.log.len();
        let known = &mut self.managers[manager];
        known.up = true;
        known.applied = known.disk.applied;
        known.known = known.applied;
        known.disk.pending_applied = known.applied;
        known.state = state;
        known.ring = Ring::new(Revision(known.applied as u64));
        if ahead && known.applied < decided {
            known.applied += 1;
            known.known = known.applied;
        }
        let (applied, hash) = (known.applied as u64, known.state.hash());
        say!(self, Node::Manager(manager), "starts, at {applied}");
        if applied > 0 {
            self.judge_applied(manager, applied, hash, None);
        }
    }
}

/// A state from rows. They were written by a state, so they load.
fn load(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> State {
    let mut state = State::default();
    for (key, value) in rows {
        state.load_row(key, value).expect("a row that a state wrote");
    }
    state
}
