//! What a turn does once its sync is through: starts, signals, and what it tells its leader.

use super::*;

impl World {
    /// The sync is over: what waited for it is carried out.
    pub fn synced(&mut self, host: usize, epoch: u64) {
        let Some(mut turn) = self.slave_mut(host, epoch).and_then(|slave| slave.syncing.take()) else { return };
        let machine = &mut self.hosts[host];
        machine.file.sync(turn.upto);
        if let Some(slave) = &mut machine.slave {
            slave.ledger.shorten(&mut machine.file);
        }
        if self.dies_at(host, Step::BeforeActing) {
            return;
        }
        self.let_go(host, &turn.started);
        if self.dies_at(host, Step::WhileActing) {
            return;
        }
        self.act(host, &mut turn, |effect| !matches!(effect, Effect::Spawn { .. }));
        let before = turn.started.len();
        self.start_all(host, &mut turn);
        let late: Vec<Leaf> = turn.started[before..].to_vec();
        self.let_go(host, &late);
        for leaf in &turn.released {
            self.after(100, Event::Release { host, boot: self.hosts[host].kernel.boot, leaf: leaf.clone() });
        }
        for (key, revision) in &turn.stopped {
            self.judge_local_stop(host, key, *revision);
        }
        self.publish(host);
        let zero = self.hosts[host].booted_at;
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let next = slave.wakes.keys().next().map(|mono| mono - 1_000 + zero);
        let soon = !slave.inbox.is_empty() || !slave.news.is_empty() || !slave.waiting_turns.is_empty();
        let next = if soon { Some(self.now) } else { next };
        next.into_iter().for_each(|at| self.need_turn(host, at));
    }

    /// Everything is to be shown at the end of this turn.
    pub(crate) fn note_all(&mut self, host: usize) {
        if let Some(slave) = &mut self.hosts[host].slave {
            slave.changed = slave.units.keys().cloned().collect();
        }
    }

    /// Makes bundles for what is to start.
    pub(super) fn start_all(&mut self, host: usize, turn: &mut Syncing) {
        let (mut starts, mut others) = (Vec::new(), VecDeque::new());
        for (key, effect) in std::mem::take(&mut turn.owed) {
            match effect {
                Effect::Spawn { incarnation, run_spec, .. } => starts.push(((key, incarnation), run_spec)),
                other => others.push_back((key, other)),
            }
        }
        turn.owed = others;
        for (leaf, run_spec) in starts {
            let Some(epoch) = self.hosts[host].slave.as_ref().map(|slave| slave.epoch) else { return };
            let bundle = Bundle::new(crate::ask::launched(run_spec.spec()), epoch);
            self.hosts[host].kernel.bundles.insert(leaf.clone(), bundle);
            // Another start may have had this number before its instance was forgotten.
            self.hosts[host].kernel.truths.remove(&leaf);
            turn.started.push(leaf);
        }
    }

    pub(super) fn let_go(&mut self, host: usize, started: &[Leaf]) {
        let boot = self.hosts[host].kernel.boot;
        for leaf in started {
            if let Some(bundle) = self.hosts[host].kernel.bundles.get_mut(leaf) {
                bundle.let_go = true;
            }
            let wait = self.chance.of(1..10);
            self.after(wait, Event::ShimStarts { host, boot, leaf: leaf.clone() });
        }
    }

    pub(super) fn act(&mut self, host: usize, turn: &mut Syncing, which: impl Fn(&Effect) -> bool) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut turn.owed).into_iter().partition(|(_, effect)| which(effect));
        turn.owed = later.into();
        for (key, effect) in now {
            match effect {
                Effect::Signal { incarnation, signal, then_continue, .. } => {
                    self.signal_incarnation(host, &(key, incarnation), signal, then_continue);
                }
                Effect::KillTree { incarnation } => self.kill_incarnation(host, &(key, incarnation)),
                Effect::Forget => {
                    let assigned_again = |slave: &Slave| slave.units.get(&key).is_some_and(|unit| unit.told.is_some());
                    let again = self.hosts[host].slave.as_ref().is_some_and(assigned_again);
                    if again && self.planted != Some(Planted::ForgottenAndAssigned) {
                        continue;
                    }
                    if let Some(slave) = &mut self.hosts[host].slave {
                        slave.units.remove(&key);
                        slave.changed.insert(key.clone());
                    }
                    self.forget_local(host, &key);
                    self.hosts[host].kernel.bundles.retain(|(other, _), _| *other != key);
                    self.hosts[host].kernel.truths.retain(|(other, _), _| *other != key);
                }
                Effect::Save
                | Effect::WakeAt(_)
                | Effect::Probe { .. }
                | Effect::Tell(_)
                | Effect::Reload { .. }
                | Effect::Spawn { .. } => {}
            }
        }
    }

    /// The end of an incarnation was taken note of: its shim may go and its bundle with it.
    pub fn release(&mut self, host: usize, boot: u64, leaf: &Leaf) {
        // It is the slave's own task, which ends with it.
        if !self.hosts[host].slave.as_mut().is_some_and(|slave| slave.clearing.remove(leaf)) {
            return;
        }
        if self.planted == Some(Planted::BundlesKept) {
            return;
        }
        let Some(kernel) = self.hosts[host].kernel_of(boot) else { return };
        let over = |bundle: &Bundle| {
            bundle.record.as_ref().is_none_or(|record| matches!(record.stage, Stage::Ended | Stage::StartFailed))
        };
        if kernel.bundles.get(leaf).is_some_and(|bundle| over(bundle) || !bundle.shim) {
            kernel.bundles.remove(leaf);
        }
    }

    /// Shows what is durable.
    pub(super) fn publish(&mut self, host: usize) {
        let clock = self.clock(host);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let ledger = &slave.ledger;
        let missing = ledger.missing_run_specs();
        let moved = slave.view.revision != ledger.assignment.revision || slave.view.cluster != ledger.cluster;
        if slave.changed.is_empty() && !moved && slave.view.missing == missing {
            return;
        }
        if moved {
            slave.view.revision = ledger.assignment.revision;
            slave.view.digest = ledger.assignment.digest();
            slave.view.cluster = ledger.cluster.clone();
        }
        slave.view.missing = missing;
        for key in std::mem::take(&mut slave.changed) {
            match slave.units.get(&key) {
                Some(unit) => slave.view.statuses.insert(key, Arc::new(unit.supervisor.status(clock))),
                None => slave.view.statuses.remove(&key),
            };
        }
        let epoch = slave.epoch;
        if !std::mem::replace(&mut slave.report_due, true) {
            let wait = self.chance.of(1..20);
            self.after(wait, Event::ReportDue { host, epoch });
        }
        self.judge_view(host);
    }

    /// What changed is told to the leader.
    pub fn report_due(&mut self, host: usize, epoch: u64) {
        let Some(slave) = self.slave_mut(host, epoch) else { return };
        slave.report_due = false;
        self.report_all(host);
    }
}
