//! Chance that the seed fixes. Nothing else in the simulator draws.

use std::ops::Range;

/// A row of numbers.
#[derive(Debug, Clone)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// The row of a seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A row of its own that this one fixes: what is drawn there moves nothing here.
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// One of these numbers.
    pub fn of(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }

    /// One of this many, from 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.usize(0..bound)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.0.u64(0..100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.u64(..)
    }
}
