//! What a crowd counts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

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
    pub took: Moments,
    pub welcomed: Moments,
}

/// A crowd in figures; those of messages count from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

/// Something that happens to many, by the clock that processes of one machine share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// To how many so far.
    pub count: u64,
    /// To the first.
    pub first: Duration,
    /// To the last so far.
    pub last: Duration,
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
