//! How long nobody got an answer.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

/// When writes were acknowledged, by whomever.
#[derive(Debug, Default)]
pub struct Gaps {
    acknowledged: Mutex<Vec<Instant>>,
}

impl Gaps {
    /// A write was acknowledged now.
    pub fn acknowledged(&self) {
        self.acknowledged.lock().unwrap().push(Instant::now());
    }

    /// How many were.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The longest time between two acknowledgements that ended after `since`.
    pub fn longest_since(&self, since: Instant) -> Duration {
        let mut times = self.acknowledged.lock().unwrap().clone();
        times.sort();
        times.windows(2).filter(|pair| pair[1] >= since).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Gaps {
    /// Every time between two acknowledgements, in order.
    pub fn between(&self) -> Vec<(Instant, Instant)> {
        let mut times = self.acknowledged.lock().unwrap().clone();
        times.sort();
        times.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// The longest of those that end after the first moment and begin before the second one, if there is any.
    pub fn longest_within(&self, from: Instant, to: Instant) -> Option<Duration> {
        let within = self.between().into_iter().filter(|(begin, end)| *end >= from && *begin <= to);
        within.map(|(begin, end)| end - begin).max()
    }
}

/// Median and worst of some durations, for a report.
pub struct Spread(pub Vec<Duration>);

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let worst = sorted.last().copied().unwrap_or_default();
        write!(f, "median {median:.1?}, worst {worst:.1?} of {}", sorted.len())
    }
}
