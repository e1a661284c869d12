//! Content digests: equal digests mean equal content.

use alloc::string::String;
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::stored::encode;

/// SHA-256 of a canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, CborLen)]
#[cbor(transparent)]
pub struct Digest(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of these parts, one behind the other.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        parts.into_iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }

    /// The digest of a value's stored form. Two values that encode alike are alike.
    pub fn of_encoded<T: Encode<()> + CborLen<()>>(value: &T) -> Self {
        Self::of(&encode(value))
    }

    /// The first 12 hex digits: enough to tell versions apart on a screen.
    pub fn short(&self) -> String {
        self.to_hex().chars().take(12).collect()
    }

    /// All 64 hex digits.
    pub fn to_hex(&self) -> String {
        alloc::format!("{self}")
    }

    /// Reads 32 bytes; nothing else is a digest.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}
