//! Signals by their usual names. The numbers are those of Linux on x86-64 and arm64, which agree.

use alloc::{format, string::String};
use core::fmt;

use minicbor::{CborLen, Decode, Decoder, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, CborLen)]
#[cbor(transparent)]
pub struct Signal(#[n(0)] u8);

impl<'b, C> Decode<'b, C> for Signal {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let number = decoder.u8()?;
        Self::from_number(number.into()).ok_or_else(|| minicbor::decode::Error::message("a signal that is none"))
    }
}

const NAMES: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// Hang-up; by custom "read your configuration again".
    pub const HUP: Self = Self(1);
    /// The end that cannot be refused.
    pub const KILL: Self = Self(9);
    /// The polite end.
    pub const TERM: Self = Self(15);
    /// Go on; wakes a stopped program so that it can see the other signal.
    pub const CONT: Self = Self(18);

    /// A signal by number, if there is one.
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=64).contains(n)).map(Self)
    }

    /// Reads `TERM`, `SIGTERM`, `term` or `15`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let by_name = NAMES.iter().find(|(name, _)| *name == bare).map(|(_, number)| Self(*number));
        let by_number = || bare.parse::<i64>().ok().and_then(Self::from_number);
        by_name.or_else(by_number).ok_or_else(|| {
            format!("{text:?} is no signal; write a name such as \"TERM\" or \"HUP\", or a number from 1 to 64")
        })
    }

    /// The number the kernel knows it by.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&format!("{}", self.0)),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Signal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signal: a name such as \"TERM\" or a number from 1 to 64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signal, E> {
                Signal::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Signal, E> {
                Signal::parse(&format!("{number}")).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Signal, E> {
                Signal::parse(&format!("{number}")).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_to_the_same_rules_as_words() {
        let stored = |number: u8| minicbor::decode::<Signal>(&crate::encode(&number)).ok();
        for number in [1, 9, 64] {
            assert_eq!(stored(number), Signal::from_number(number.into()));
        }
        assert_eq!([stored(0), stored(65), stored(255)], [None; 3]);
    }
}
