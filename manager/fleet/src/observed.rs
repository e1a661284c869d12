//! What one slave has reported: the statuses of its instances and the assignment it acts on.

use alloc::{collections::BTreeMap, vec::Vec};

use minder_model::{Digest, InstanceKey, InstanceStatus, Phase, Revision, note_exit};

/// The latest report of one host, put together from full and partial ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every instance the slave knows.
    pub statuses: BTreeMap<InstanceKey, InstanceStatus>,
    /// Revision of the assignment it acts on.
    pub revision: Revision,
    /// Digest of that assignment.
    pub digest: Digest,
    /// A full report has come in; until then nothing can be said of instances that are not in here.
    pub complete: bool,
}

/// One status of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The status.
    pub status: InstanceStatus,
    /// Its exits are only those that the report before did not have.
    pub exits_added: bool,
}

/// One instance whose phase is another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// Which instance.
    pub key: InstanceKey,
    /// Its phase before, if it was known.
    pub before: Option<Phase>,
    /// Its status now; `None` when it is gone.
    pub now: Option<InstanceStatus>,
}

impl Observed {
    /// Takes in a report. Gives the instances whose phase changed, in order of keys.
    pub fn take(
        &mut self,
        full: bool,
        statuses: Vec<Reported>,
        gone: &[InstanceKey],
        revision: Revision,
        digest: Digest,
    ) -> Vec<PhaseChange> {
        let before = self.statuses.clone();
        if full {
            self.statuses.clear();
            self.complete = true;
        }
        for reported in statuses {
            let status = whole(reported, &before);
            self.statuses.insert(status.key.clone(), status);
        }
        for key in gone {
            self.statuses.remove(key);
        }
        (self.revision, self.digest) = (revision, digest);
        self.changes_since(&before)
    }

    fn changes_since(&self, before: &BTreeMap<InstanceKey, InstanceStatus>) -> Vec<PhaseChange> {
        let changed = self.statuses.iter().filter_map(|(key, now)| {
            let phase_before = before.get(key).map(|status| status.phase);
            (phase_before != Some(now.phase)).then(|| PhaseChange {
                key: key.clone(),
                before: phase_before,
                now: Some(now.clone()),
            })
        });
        let gone = before
            .iter()
            .filter(|(key, _)| !self.statuses.contains_key(*key))
            .map(|(key, status)| PhaseChange { key: key.clone(), before: Some(status.phase), now: None });
        let mut changes: Vec<PhaseChange> = changed.chain(gone).collect();
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        changes
    }
}

/// The status with all of its exits: those that were told before, and those that are told now.
fn whole(
    Reported { mut status, exits_added }: Reported,
    before: &BTreeMap<InstanceKey, InstanceStatus>,
) -> InstanceStatus {
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
            let seen: Vec<u64> = observed.statuses[&key].exits.iter().map(|exit| exit.incarnation.0).collect();
            assert_eq!(seen, known);
        }
    }
}
