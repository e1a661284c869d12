//! What one slave has reported: the statuses of its instances and the assignment it acts on.

use alloc::vec::Vec;

use minder_model::{Digest, InstanceKey, InstanceStatus, Phase, Revision, note_exit};

use crate::statuses::Statuses;

/// The latest report of one host, put together from full and partial ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every instance the slave knows.
    pub statuses: Statuses,
    /// Revision of the assignment it acts on.
    pub revision: Revision,
    /// Digest of that assignment.
    pub digest: Digest,
    /// A full report has come in; until then nothing can be said of instances that are not in here.
    pub complete: bool,
    phases: PhaseCounts,
}

/// Instances by phase, in the order of [`Phase::ALL`].
pub type PhaseCounts = [u32; Phase::ALL.len()];

/// One status of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The status.
    pub status: InstanceStatus,
    /// Its exits are only those that the report before did not have.
    pub exits_added: bool,
}

impl Observed {
    /// Takes in a report. A partial one costs what is in it, however many instances the host has.
    pub fn take(
        &mut self,
        full: bool,
        statuses: Vec<Reported>,
        gone: &[InstanceKey],
        revision: Revision,
        digest: Digest,
    ) {
        (self.revision, self.digest) = (revision, digest);
        if full {
            let before = core::mem::take(&mut self.statuses);
            let statuses = statuses.into_iter().map(|reported| whole(reported, &before));
            self.statuses = Statuses::of(statuses.collect());
            gone.iter().for_each(|key| drop(self.statuses.remove(key)));
            self.phases = count(&self.statuses);
            self.complete = true;
            return;
        }
        for reported in statuses {
            let status = whole(reported, &self.statuses);
            self.phases[status.phase as usize] += 1;
            let before = self.statuses.insert(status);
            self.count_out(before);
        }
        for key in gone {
            let before = self.statuses.remove(key);
            self.count_out(before);
        }
    }

    /// How many instances are in each phase, as the slave says.
    pub fn phases(&self) -> &PhaseCounts {
        &self.phases
    }

    fn count_out(&mut self, status: Option<InstanceStatus>) {
        if let Some(status) = status {
            self.phases[status.phase as usize] -= 1;
        }
    }
}

fn count(statuses: &Statuses) -> PhaseCounts {
    let mut counts = PhaseCounts::default();
    statuses.iter().for_each(|status| counts[status.phase as usize] += 1);
    counts
}

/// The status with all of its exits: those that were told before, and those that are told now.
fn whole(Reported { mut status, exits_added }: Reported, before: &Statuses) -> InstanceStatus {
    if exits_added {
        let mut exits = before.get(&status.key).map(|before| before.exits.clone()).unwrap_or_default();
        status.exits.into_iter().for_each(|exit| note_exit(&mut exits, exit));
        status.exits = exits;
    }
    status
}

#[cfg(test)]
mod tests {
    use minder_model::{Asked, Cause, ExitRecord, ExitStatus, Generation, Incarnation, LastOutput};

    use super::*;

    fn reported(exits: &[u64], exits_added: bool) -> Reported {
        let exit = |incarnation: &u64| ExitRecord {
            incarnation: Incarnation(*incarnation),
            generation: Generation(1),
            status: ExitStatus::Code(1),
            start_failure: None,
            started_at_ms: 0,
            ended_at_ms: 0,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            requested: false,
            killed_after_grace: false,
            asked: Asked::Nobody,
            oom_kills: 0,
            last_output: LastOutput::default(),
            stop_ms: None,
            unhealthy: None,
            locally: false,
        };
        let status = InstanceStatus {
            key: InstanceKey::parse("app").unwrap(),
            phase: Phase::Backoff,
            cause: Cause::Wanted,
            since_ms: 0,
            generation: Generation(1),
            spec: Digest::default(),
            incarnation: Incarnation(9),
            pid: 0,
            started_at_ms: 0,
            restarts: 0,
            restarts_in_window: 0,
            next_start_ms: 0,
            restart_at: Revision::ZERO,
            retry_at: Revision::ZERO,
            signal_at: Revision::ZERO,
            exits: exits.iter().map(exit).collect(),
            health: None,
            ready: None,
        };
        Reported { status, exits_added }
    }

    #[test]
    fn exits_told_one_by_one_make_up_the_history() {
        let mut observed = Observed::default();
        let key = InstanceKey::parse("app").unwrap();
        for (full, exits, added, known) in [
            (true, &[1, 2][..], false, &[1, 2][..]),
            (false, &[3], true, &[1, 2, 3]),
            (false, &[], true, &[1, 2, 3]),
            // It was forgotten and made anew: what is told is all there is.
            (false, &[1], false, &[1]),
            (true, &[5], false, &[5]),
        ] {
            observed.take(full, vec![reported(exits, added)], &[], Revision::ZERO, Digest::default());
            let seen: Vec<u64> =
                observed.statuses.get(&key).unwrap().exits.iter().map(|exit| exit.incarnation.0).collect();
            assert_eq!(seen, known);
        }
    }
    #[test]
    fn phases_are_counted_with_each_report_and_not_anew() {
        let mut observed = Observed::default();
        let of = |name: &str, phase| {
            let mut reported = reported(&[], false);
            (reported.status.key, reported.status.phase) = (InstanceKey::parse(name).unwrap(), phase);
            reported
        };
        let key = |name: &str| InstanceKey::parse(name).unwrap();
        let (none, zero) = (Digest::default(), Revision::ZERO);
        // Not in order, and one of them twice: the last one counts.
        let full = ["c", "a", "b", "a"].map(|name| of(name, Phase::Running)).to_vec();
        observed.take(true, full, &[], zero, none);
        observed.take(false, vec![of("a", Phase::Backoff), of("d", Phase::Running)], &[key("b"), key("x")], zero, none);
        let names: Vec<String> = observed.statuses.iter().map(|status| status.key.to_string()).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!(observed.phases(), &count(&observed.statuses));
        assert_eq!(observed.phases()[Phase::Running as usize], 2);
        observed.take(true, vec![of("c", Phase::Exited)], &[], zero, none);
        assert_eq!((observed.phases()[Phase::Exited as usize], observed.statuses.len()), (1, 1));
    }
}
