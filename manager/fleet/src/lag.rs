//! How late a slave's messages are. After a cut of the network those that waited in it come in all at once, and the first of
//! them say nothing of now: a sign of life is as old as its sending, not as its coming.

use alloc::collections::VecDeque;

/// The fastest of so many messages is taken for one that did not wait. Clocks that do not go at one pace, or that stood still
/// with their machine, are forgiven after as many.
const LATEST: usize = 16;

/// The lag of one stream.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    /// Of the latest messages: by how much the receiver's clock was ahead of the sender's.
    ahead_ms: VecDeque<i64>,
}

impl Lag {
    /// How many milliseconds longer than the fastest one this message was on its way. Each side reads a clock of its own
    /// that only goes forward.
    pub fn of(&mut self, sent_ms: u64, received_ms: u64) -> u64 {
        let ahead = received_ms.wrapping_sub(sent_ms).cast_signed();
        if self.ahead_ms.len() == LATEST {
            self.ahead_ms.pop_front();
        }
        self.ahead_ms.push_back(ahead);
        let least = self.ahead_ms.iter().min().copied().unwrap_or(ahead);
        ahead.saturating_sub(least).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_is_as_old_as_its_sending() {
        let mut lag = Lag::default();
        let mut of = |sent, received| lag.of(sent, received);
        // The sender's clock is far ahead; the way takes 3 ms, then 1 ms.
        assert_eq!([of(900_000, 103), of(901_000, 1_101), of(902_000, 2_103)], [0, 0, 2]);
        // Six were held back, and come in together with the one that was not.
        let held: Vec<u64> = (3..9).map(|second| of(900_000 + second * 1_000, 9_050)).collect();
        assert_eq!(held, [5_949, 4_949, 3_949, 2_949, 1_949, 949]);
        assert_eq!(of(909_000, 9_101), 0);
    }

    #[test]
    fn a_clock_that_stood_still_is_forgiven() {
        let mut lag = Lag::default();
        assert_eq!(lag.of(0, 0), 0);
        let later = |second: u64| (second * 1_000, second * 1_000 + 60_000);
        let lags: Vec<u64> = (1..=LATEST as u64).map(later).map(|(at, now)| lag.of(at, now)).collect();
        assert_eq!(lags[..LATEST - 1], [60_000; LATEST - 1]);
        assert_eq!(lags[LATEST - 1], 0);
    }
}
