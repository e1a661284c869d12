//! How new what goes through the managers' log is. Every manager knows commands up to some version; the cluster uses
//! those that all of them know, and only once somebody has said so, for there is no way back from there.

use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

/// Version of replicated commands and of what they mean. A command needs one; a cluster is at one and never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct CommandVersion(#[n(0)] pub u8);

impl CommandVersion {
    /// What every manager knows.
    pub const FIRST: Self = Self(1);
    /// Large applies: more specs and more bytes in one command, whose answer is remembered by its counts.
    pub const LARGE_APPLIES: Self = Self(2);
    /// The newest one that this program knows.
    pub const NEWEST: Self = Self::LARGE_APPLIES;

    /// Specs that one command may carry.
    pub const fn apply_specs_max(self) -> usize {
        if self.0 < Self::LARGE_APPLIES.0 { 1_000 } else { 10_000 }
    }

    /// Bytes that one command may have in its stored form.
    pub const fn command_bytes_max(self) -> usize {
        const MIB: usize = 1_024 * 1_024;
        if self.0 < Self::LARGE_APPLIES.0 { MIB } else { 4 * MIB }
    }

    /// Whether it is the first one, which stored forms leave out: managers of before have no word for it.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    /// A version on the wire. Whoever says nothing is of the first one, which had no word for it.
    pub fn from_wire(number: u32) -> Self {
        Self(u8::try_from(number).unwrap_or(u8::MAX)).max(Self::FIRST)
    }

    /// The version on the wire.
    pub fn to_wire(self) -> u32 {
        self.0.into()
    }
}

impl Default for CommandVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for CommandVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
