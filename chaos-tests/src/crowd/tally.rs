//! What a crowd counts.

use std::{
    collections::BTreeMap,
    iter::Sum,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::mono_now;

/// Moments kept of each kind: what is asked for is always among the latest.
const MOMENTS_MAX: usize = 1_000;

#[derive(Default)]
pub struct Tally {
    pub streams: AtomicU64,
    pub sessions: AtomicU64,
    pub assignments: AtomicU64,
    pub wholes: AtomicU64,
    pub refused: AtomicU64,
    pub assignment_bytes: AtomicU64,
    pub report_bytes: AtomicU64,
    pub reports: AtomicU64,
    pub sent: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    pub took: Moments,
    pub welcomed: Moments,
}

/// A crowd in figures; those of messages count from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdTally {
    /// Open streams, those to managers that do not lead included.
    pub streams: u64,
    /// Slaves with a session.
    pub sessions: u64,
    /// Instances assigned.
    pub instances: usize,
    /// Assignments that came in.
    pub assignments: u64,
    /// Those of them that were whole.
    pub wholes: u64,
    /// Assignments that were refused.
    pub refused: u64,
    /// Bytes of assignments, with their run specs.
    pub assignment_bytes: u64,
    /// Bytes of reports.
    pub report_bytes: u64,
    /// Reports sent.
    pub reports: u64,
    /// Messages to managers, of every kind.
    pub sent: u64,
    /// And their bytes, without HTTP/2's and TCP's own.
    pub sent_bytes: u64,
    /// Messages from managers, of every kind.
    pub received: u64,
    /// And their bytes.
    pub received_bytes: u64,
}

impl Sum for CrowdTally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, one| Self {
            streams: sum.streams + one.streams,
            sessions: sum.sessions + one.sessions,
            instances: sum.instances + one.instances,
            assignments: sum.assignments + one.assignments,
            wholes: sum.wholes + one.wholes,
            refused: sum.refused + one.refused,
            assignment_bytes: sum.assignment_bytes + one.assignment_bytes,
            report_bytes: sum.report_bytes + one.report_bytes,
            reports: sum.reports + one.reports,
            sent: sum.sent + one.sent,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            received: sum.received + one.received,
            received_bytes: sum.received_bytes + one.received_bytes,
        })
    }
}

/// Something that happens to many, by the clock that processes of one machine share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// To how many so far.
    pub count: u64,
    /// To the first.
    pub first: Duration,
    /// To the last so far.
    pub last: Duration,
}

impl Moment {
    /// Both together; each is of at least one.
    pub(super) fn with(self, other: Self) -> Self {
        Self { count: self.count + other.count, first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// Moments by revision or term.
#[derive(Default)]
pub struct Moments(Mutex<BTreeMap<u64, Moment>>);

impl Moments {
    pub fn note(&self, number: u64) {
        let now = mono_now();
        let mut moments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = moments.entry(number).or_insert(Moment { count: 0, first: now, last: now });
        moment.count += 1;
        moment.last = now;
        if moments.len() > MOMENTS_MAX {
            moments.pop_first();
        }
    }

    pub fn of(&self, number: u64) -> Moment {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied().unwrap_or_default()
    }
}
