//! The running hash of the whole table. Each row adds a digest of its key and value; removing a row subtracts it, so
//! the hash depends on the rows and not on how they came to be, and one write costs only its own rows.
//!
//! It guards against bugs and bad disks, not against an attacker who can craft rows (sums can be forged).

use core::fmt;

use minder_model::Digest;

/// Hash of every row of a state. Equal states have equal hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct StateHash(u128);

impl StateHash {
    /// The hash as 16 bytes, for the wire and for snapshot trailers.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(crate) fn add(&mut self, row: RowHash) {
        self.0 = self.0.wrapping_add(row.0);
    }

    pub(crate) fn remove(&mut self, row: RowHash) {
        self.0 = self.0.wrapping_sub(row.0);
    }
}

/// What one row adds: the first half of a SHA-256 over length-prefixed key and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowHash(u128);

impl RowHash {
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Self {
        let digest = Digest::of_parts([&(key.len() as u64).to_be_bytes(), key, value]).0;
        Self(digest.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte)))
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}
