//! What a process may use: limits on the whole of an incarnation, which its cgroup holds it to. (`limits` are those of
//! single processes, and inherited.)

use alloc::{format, string::String};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::document::Scalar;
use crate::size::Bytes;

/// What an incarnation may use altogether; absent is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Memory in bytes, without swap. Above it the kernel ends the whole incarnation.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processors, in cores; above it the incarnation waits.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cores>,
    /// Processes and threads; above it none can be made.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// One kind of limit, and the cgroup controller of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Resource {
    /// Memory.
    #[n(0)]
    Memory,
    /// Processor time.
    #[n(1)]
    Cpu,
    /// Processes and threads.
    #[n(2)]
    Pids,
}

impl Resource {
    /// Each of them.
    pub const ALL: [Resource; 3] = [Resource::Memory, Resource::Cpu, Resource::Pids];

    /// The word in documents, and the controller's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// By its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.word() == word)
    }
}

impl Resources {
    /// Whether this one is limited.
    pub fn limits(&self, resource: Resource) -> bool {
        match resource {
            Resource::Memory => self.memory.is_some(),
            Resource::Cpu => self.cpu.is_some(),
            Resource::Pids => self.pids.is_some(),
        }
    }
}

/// Processors in thousandths of a core; in documents a number of cores such as `2` or `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
#[cbor(transparent)]
pub struct Cores(#[n(0)] pub u32);

impl Cores {
    /// Reads `2`, `0.5`. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cores: f64 =
            text.trim().parse().map_err(|_| format!("{text:?} is no number of cores; write for example 2 or 0.5"))?;
        match (0.0..=4_000_000.0).contains(&cores) {
            true => Ok(Self((cores * 1_000.0 + 0.5) as u32)),
            false => Err(format!("{text} is no number of cores; write for example 2 or 0.5")),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1_000.0))
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.is_multiple_of(1_000) {
            true => serializer.serialize_u32(self.0 / 1_000),
            false => serializer.serialize_f64(f64::from(self.0) / 1_000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).and_then(|scalar| Cores::parse(&scalar.text()).map_err(de::Error::custom))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn resources_are_read_as_people_write_them() {
        let read = |text: &str| serde_yaml_ng::from_str::<Resources>(text).map_err(|error| error.to_string());
        let expected = Resources { memory: Some(Bytes::from_mib(512)), cpu: Some(Cores(1_500)), pids: Some(100) };
        assert_eq!(read("{memory: 512M, cpu: 1.5, pids: 100}"), Ok(expected));
        assert_eq!(read("{memory: 536870912, cpu: '1.5', pids: 100}"), Ok(expected));
        assert_eq!(read("{cpu: 2}").unwrap().cpu, Some(Cores(2_000)));
        for (text, part) in [
            ("{cpu: -1}", "no number of cores"),
            ("{cpu: many}", "no number of cores"),
            ("{cpu: .nan}", "no number of cores"),
            ("{memory: lots}", "is no size"),
            ("{pids: -1}", "invalid type"),
            ("{memroy: 1G}", "unknown field `memroy`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(cpu in 0..4_000_000_u32) {
            proptest::prop_assert_eq!(Cores::parse(&Cores(cpu).to_string()), Ok(Cores(cpu)));
            let resources = Resources { cpu: Some(Cores(cpu)), ..Resources::default() };
            let text = serde_yaml_ng::to_string(&resources).unwrap();
            proptest::prop_assert_eq!(serde_yaml_ng::from_str::<Resources>(&text).unwrap(), resources, "{}", text);
        }
    }
}
