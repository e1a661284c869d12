//! The start of a slave, after slave/src/host/takeover.rs, and how an end is told, after slave/src/host/end.rs.

use minder_model::{Digest, ExitStatus, Generation, Incarnation, InstanceKey, LastOutput, Signal, StartFailure};
use minder_supervisor::{Ended, Event as SupervisorEvent, Live, Record, Supervisor};

use crate::{
    host::{Syncing, Unit, What},
    kernel::{End, Leaf, Stage},
    network::Node,
    planted::Planted,
    world::{Event, World, say},
};

impl World {
    /// First it is found out what became of living incarnations, then the assignment counts again.
    pub(crate) fn take_over(&mut self, host: usize, epoch: u64) {
        if self.planted != Some(Planted::IntentAfterFork) {
            self.account_for_bundles(host);
        }
        let clock = self.clock(host);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let records: Vec<Record> = slave.ledger.records.values().cloned().collect();
        let mut again = Vec::new();
        for record in records {
            let record = match self.planted {
                Some(Planted::CountLost) => Record { restarts: 0, window: Vec::new(), slow: false, ..record },
                Some(Planted::ForgottenAlive) if !slave.ledger.assignment.items.contains_key(&record.key) => {
                    slave.ledger.forget(&record.key);
                    continue;
                }
                _ => record,
            };
            let (key, live) = (record.key.clone(), record.live);
            let supervisor = Supervisor::restore(record, clock).taking_turns();
            slave.units.insert(key.clone(), Unit::new(supervisor, live.is_some()));
            again.extend(live.map(|live| (key, live.incarnation)));
        }
        let now = self.now;
        for leaf in again {
            if self.planted == Some(Planted::TakeoverKills) && now > 5_000 {
                self.end_leaf(host, &leaf);
            }
            let wait = self.chance.of(1..50);
            self.after(wait, Event::AttendAgain { host, epoch, leaf, newborn: false });
        }
        let mut turn = Syncing::default();
        self.note_all(host);
        self.assign_all(host, &mut turn);
        if self.planted == Some(Planted::WakeLost)
            && let Some(slave) = &mut self.hosts[host].slave
        {
            slave.wakes.clear();
        }
        self.finish_turn(host, turn);
    }

    /// A bundle whose end is in the ledger was left by a crash. One that the ledger knows nothing of, or takes for ended
    /// although it lives, counts as the living incarnation, so that none starts beside it.
    fn account_for_bundles(&mut self, host: usize) {
        let wall_ms = self.wall_ms(host);
        let leaves: Vec<Leaf> = self.hosts[host].kernel.bundles.keys().cloned().collect();
        for (key, incarnation) in leaves {
            let machine = &mut self.hosts[host];
            let Some(slave) = &mut machine.slave else { return };
            let record = slave.ledger.records.get(&key).cloned();
            let live = record.as_ref().and_then(|record| record.live);
            if live.is_some_and(|live| live.incarnation == incarnation) {
                continue;
            }
            let leaf = (key.clone(), incarnation);
            let is_there = machine.kernel.members(&leaf).next().is_some();
            let is_noted = record.as_ref().is_some_and(|record| incarnation <= record.incarnation);
            let began = machine.kernel.bundles[&leaf].record.as_ref().is_some_and(|record| record.main_pid != 0)
                || machine.kernel.bundles[&leaf].let_go;
            let other_lives =
                live.is_some_and(|live| machine.kernel.members(&(key.clone(), live.incarnation)).next().is_some());
            if !is_there && (is_noted || other_lives || !began) {
                machine.kernel.bundles.remove(&leaf);
            } else if !other_lives {
                say!(self, Node::Host(host), "adopts {key} start {incarnation}, which its ledger does not know");
                self.adopt(host, &key, incarnation, wall_ms);
            }
        }
    }

    fn adopt(&mut self, host: usize, key: &InstanceKey, incarnation: Incarnation, wall_ms: u64) {
        let Some(slave) = &mut self.hosts[host].slave else { return };
        let live = Live {
            incarnation,
            generation: Generation::ZERO,
            spec: Digest::default(),
            launch: Digest::default(),
            stopping: false,
            stop_mono_ms: None,
        };
        let record = slave.ledger.records.get(key).cloned().unwrap_or_else(|| Record::new(key.clone(), wall_ms));
        let latest = record.incarnation.max(incarnation);
        slave.ledger.put_record(&Record { incarnation: latest, live: Some(live), ..record });
    }

    /// An end as its supervisor hears of it: what the shim wrote down, or what can honestly be said.
    pub(crate) fn ended_event(&self, host: usize, leaf: &Leaf, what: &What) -> SupervisorEvent {
        let now_ms = self.wall_ms(host);
        let blank = Ended {
            incarnation: leaf.1,
            status: ExitStatus::Unknown,
            start_failure: None,
            started_at_ms: now_ms,
            ended_at_ms: now_ms,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            oom_kills: 0,
            last_output: LastOutput::default(),
        };
        let failure = |step: &str| StartFailure { step: step.into(), errno: 0, message: "pretended".into() };
        let ended = match what {
            What::Running(_) | What::Over(None) => blank,
            What::NoShim => Ended { start_failure: Some(failure("shim")), ..blank },
            What::Over(Some(record)) => {
                let rebooted = record.boot != self.hosts[host].kernel.boot;
                let status = match record.end {
                    Some(End::Code(code)) => ExitStatus::Code(code),
                    Some(End::Signal(number)) => Signal::from_number(i64::from(number))
                        .map_or(ExitStatus::Unknown, |signal| ExitStatus::Signal(signal, false)),
                    Some(End::Reboot) | None if rebooted && self.planted == Some(Planted::RebootIsExit) => {
                        ExitStatus::Code(0)
                    }
                    Some(End::Reboot) | None if rebooted => ExitStatus::Reboot,
                    Some(End::Reboot) | None => ExitStatus::Unknown,
                };
                let failed = record.stage == Stage::StartFailed;
                Ended {
                    status,
                    start_failure: failed.then(|| failure("exec")),
                    started_at_ms: record.started_ms,
                    ended_at_ms: if record.ended_ms > 0 { record.ended_ms } else { now_ms },
                    ..blank
                }
            }
        };
        SupervisorEvent::Ended(ended)
    }
}
