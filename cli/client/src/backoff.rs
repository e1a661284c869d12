//! How long to wait before asking again.

use std::time::Duration;

/// The first wait lies below this: an election takes a few hundred milliseconds, so a few tries fit into one.
const WAIT_FIRST: Duration = Duration::from_millis(25);
/// No wait lies above this: a person looks on.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Full jitter: each wait is drawn evenly from nothing to a ceiling that doubles, so that many clients that lost the
/// same leader do not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    waits: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = WAIT_FIRST.saturating_mul(1 << self.waits.min(10)).min(WAIT_MAX);
        self.waits += 1;
        ceiling.mul_f64(rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_their_ceilings() {
        let mut backoff = Backoff::default();
        for wait in 0..40 {
            assert!(backoff.next() <= WAIT_MAX.min(WAIT_FIRST * (1 << wait.min(10))));
        }
    }
}
