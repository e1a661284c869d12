//! How a running program is told to read its configuration again.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
    ser::SerializeMap,
};

use super::document::some_list_or_shell_words;
use crate::signal::Signal;

/// What a reload order does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Reload {
    /// Sends the main process this signal.
    #[n(0)]
    Signal(#[n(0)] Signal),
    /// Runs this command as hooks are run, for at most [`crate::RELOAD_TIMEOUT_MS`].
    #[n(1)]
    Exec(#[n(0)] Vec<String>),
}

impl Serialize for Reload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Signal(signal) => map.serialize_entry("signal", signal)?,
            Self::Exec(words) => map.serialize_entry("exec", words)?,
        }
        map.end()
    }
}

/// The forms of [`Reload`] as documents write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadDocument {
    #[serde(default)]
    signal: Option<Signal>,
    #[serde(default, deserialize_with = "some_list_or_shell_words")]
    exec: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Reload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SignalOrFields;

        impl<'de> de::Visitor<'de> for SignalOrFields {
            type Value = Reload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signal, or one of signal and exec")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reload, E> {
                Signal::parse(text).map(Reload::Signal).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Reload, A::Error> {
                let document = ReloadDocument::deserialize(MapAccessDeserializer::new(map))?;
                match (document.signal, document.exec) {
                    (Some(signal), None) => Ok(Reload::Signal(signal)),
                    (None, Some(words)) => Ok(Reload::Exec(words)),
                    (Some(_), Some(_)) | (None, None) => Err(de::Error::custom("say one of signal and exec")),
                }
            }
        }

        deserializer.deserialize_any(SignalOrFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_are_signals_or_commands_and_read_back() {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Reload>(yaml).map_err(|error| alloc::format!("{error}"));
        let words = |words: &[&str]| Reload::Exec(words.iter().copied().map(String::from).collect());
        for (yaml, expected) in [
            ("HUP", Reload::Signal(Signal::HUP)),
            ("{signal: HUP}", Reload::Signal(Signal::HUP)),
            ("{exec: 'ctl -s \"a b\"'}", words(&["ctl", "-s", "a b"])),
            ("{exec: [ctl, reload]}", words(&["ctl", "reload"])),
        ] {
            assert_eq!(read(yaml).unwrap(), expected, "{yaml}");
            assert_eq!(read(&serde_yaml_ng::to_string(&expected).unwrap()).unwrap(), expected);
        }
        assert!(read("{}").unwrap_err().contains("say one of signal and exec"));
        assert!(read("{signal: HUP, exec: x}").unwrap_err().contains("say one of signal and exec"));
        assert!(read("{command: x}").unwrap_err().contains("unknown field `command`"));
    }
}
