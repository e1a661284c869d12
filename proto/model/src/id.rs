//! Ids are types, so that a host name can never stand where a process name is meant.

use alloc::{format, string::String};
use core::fmt;

use minicbor::{CborLen, Decode, Decoder, Encode};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};

/// Why a name is no name. The text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError(String);

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for IdError {}

fn check_name(what: &str, text: &str, bytes_max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError(format!("a {what} must not be empty")));
    }
    if text.len() > bytes_max {
        return Err(IdError(format!("a {what} has at most {bytes_max} bytes, this one has {}", text.len())));
    }
    if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Err(IdError(format!(
            "{text:?} is no {what}: {odd:?} is not allowed, only letters, digits, '.', '_' and '-'"
        )));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err(IdError(format!("{text:?} is no {what}: it must start with a letter, a digit or '_'")));
    }
    Ok(())
}

/// How a name is stored: as text.
mod text {
    use minicbor::{CborLen, Encoder};
    use smol_str::SmolStr;

    pub fn encode<C, W: minicbor::encode::Write>(
        text: &SmolStr,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.str(text)?.ok()
    }

    pub fn cbor_len<C>(text: &SmolStr, context: &mut C) -> usize {
        text.as_str().cbor_len(context)
    }
}

// Short names lie in the value itself and long ones are shared: names are the keys of every map, and are cloned with
// every instance.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, CborLen, Serialize, Deserialize)]
        #[cbor(transparent)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[cbor(n(0), encode_with = "text::encode", cbor_len = "text::cbor_len")] SmolStr);

        impl $name {
            /// Checks and wraps a name: ASCII letters, digits, `.`, `_`, `-`, starting with a letter, digit or `_`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check_name($what, &text, $max)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // Names become folders and cgroups, so that bytes from a disk or a peer are checked as users' words are.
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let text = decoder.str()?;
                check_name($what, text, $max).map_err(minicbor::decode::Error::message)?;
                Ok(Self(SmolStr::new(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    };
}

name_type!(
    /// The name a user gives a process. Unique in a cluster.
    ProcessName, "process name", NAME_BYTES_MAX
);
name_type!(
    /// The name of a machine, as its slave announces it. Unique in a cluster.
    HostName, "host name", LABEL_BYTES_MAX
);
name_type!(
    /// The kernel's boot id of a machine: another boot id means that the machine was restarted.
    BootId, "boot id", LABEL_BYTES_MAX
);
name_type!(
    /// Identity of a cluster, drawn once at `init`.
    ClusterId, "cluster id", LABEL_BYTES_MAX
);
name_type!(
    /// Identity of one write, drawn by the client. Repeating it is safe and gives the first answer.
    RequestId, "request id", NAME_BYTES_MAX
);

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, CborLen, Serialize,
            Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl $name {
            /// The value before the first one.
            pub const ZERO: Self = Self(0);

            /// The next value.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_type!(
    /// Raft log index of the write that last changed a thing.
    Revision
);
number_type!(
    /// Which version of a process's spec an instance runs; counts up by one with each change of the spec.
    Generation
);
number_type!(
    /// One start of an instance on a host, counted by its slave. Never reused, also over restarts of the slave.
    Incarnation
);
number_type!(
    /// Node id of a manager in the Raft group. Never reused.
    ManagerId
);

/// One instance of a process on a host that is known from the context: the process and its number, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
pub struct InstanceKey {
    /// The process this is an instance of.
    #[n(0)]
    pub process: ProcessName,
    /// Which of the host's instances of that process, from 1.
    #[cbor(n(1), decode_with = "from_one")]
    pub index: u32,
}

fn from_one<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<u32, minicbor::decode::Error> {
    match decoder.u32()? {
        0 => Err(minicbor::decode::Error::message("instances are numbered from 1")),
        index => Ok(index),
    }
}

impl InstanceKey {
    /// The instance `index` (from 1) of `process`.
    pub fn new(process: ProcessName, index: u32) -> Self {
        Self { process, index }
    }

    /// Reads what `Display` writes: `name` (instance 1) or `name:3`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (name, index) = match text.split_once(':') {
            None => (text, 1),
            Some((name, number)) => {
                let index = number.parse::<u32>().ok().filter(|index| *index > 0);
                (name, index.ok_or_else(|| IdError(format!("{number:?} is no instance number, they count from 1")))?)
            }
        };
        Ok(Self { process: ProcessName::new(name)?, index })
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            1 => f.pad(self.process.as_str()),
            index => f.pad(&format!("{}:{index}", self.process)),
        }
    }
}

/// One instance anywhere in the fleet, written `name@host` or `name:3@host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceRef {
    /// The machine it is placed on.
    pub host: HostName,
    /// Which instance there.
    pub key: InstanceKey,
}

impl fmt::Display for InstanceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.key, self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_not_survive_as_a_file_name() {
        for (text, ok) in [
            ("app", true),
            ("_x", true),
            ("a.b-c_9", true),
            ("", false),
            ("-x", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
            ("a:1", false),
        ] {
            assert_eq!(ProcessName::new(text).is_ok(), ok, "{text:?}");
        }
        assert!(ProcessName::new("x".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(ProcessName::new("x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn bytes_are_held_to_the_same_rules_as_words() {
        let stored = |text: &str| minicbor::decode::<ProcessName>(&crate::encode(&String::from(text)));
        assert_eq!(stored("app").unwrap(), ProcessName::new("app").unwrap());
        for text in ["", "../../etc", "a/b", "a b"] {
            assert!(stored(text).is_err(), "{text:?}");
        }
        let key = |index| minicbor::decode::<InstanceKey>(&crate::encode(&(String::from("app"), index)));
        assert_eq!(key(1_u32).unwrap(), InstanceKey::parse("app").unwrap());
        assert!(key(0).is_err());
    }

    #[test]
    fn instance_keys_read_back_what_they_write() {
        for text in ["api", "api:2", "a.b:1000"] {
            assert_eq!(format!("{}", InstanceKey::parse(text).unwrap()), text);
        }
        assert_eq!(InstanceKey::parse("api:1").unwrap(), InstanceKey::parse("api").unwrap());
        assert!(InstanceKey::parse("api:0").is_err());
        assert!(InstanceKey::parse("api:x").is_err());
    }
}
