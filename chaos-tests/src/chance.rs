//! Chance that a seed fixes: the same drill twice.

/// One number for each seed and place (SplitMix64).
pub fn mixed(seed: u64, place: u64) -> u64 {
    let mut mixed = seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A row of such numbers.
#[derive(Debug, Clone)]
pub struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    /// The row of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed: mixed(seed, u64::MAX), drawn: 0 }
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        mixed(self.seed, self.drawn) % bound
    }
}
