//! Resource limits as users write them.

use alloc::{format, string::String};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::document::Scalar;

/// One resource limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Limit {
    /// What the program gets.
    #[n(0)]
    pub soft: Option<u64>,
    /// What it may raise it to.
    #[n(1)]
    pub hard: Option<u64>,
}

impl Limit {
    /// Reads `1024`, `unlimited`, `1024:4096`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let one = |part: &str| match part.trim() {
            "unlimited" | "infinity" => Ok(None),
            number => number
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("{text:?} is no limit; write a number, \"unlimited\" or \"SOFT:HARD\"")),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { soft: one(soft)?, hard: one(hard)? })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |value: Option<u64>| value.map_or_else(|| String::from("unlimited"), |value| format!("{value}"));
        if self.soft == self.hard { f.pad(&one(self.soft)) } else { write!(f, "{}:{}", one(self.soft), one(self.hard)) }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).and_then(|scalar| Limit::parse(&scalar.text()).map_err(de::Error::custom))
    }
}
