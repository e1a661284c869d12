//! Commands around a process's life, run as its program is: as its user, in its environment, with `MINDER_HOOK`.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, value::MapAccessDeserializer},
};

use super::document::list_or_shell_words;
use crate::duration::Millis;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize)]
#[cbor(map)]
pub struct Hook {
    /// The program, as a spec's own.
    #[n(0)]
    pub command: String,
    /// Its arguments.
    #[n(1)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Then it is killed, with all it began, and has failed.
    #[n(2)]
    pub timeout: Millis,
}

impl Hook {
    /// This command with the default time.
    pub fn new(command: impl Into<String>, args: Vec<String>) -> Self {
        Self { command: command.into(), args, timeout: timeout() }
    }
}

/// The commands of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Before each start. When it fails the start has failed.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_start: Option<Hook>,
    /// After the program began. A failure is told and nothing else.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// Before the stop signal, within the grace. A failure is told and nothing else.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
    /// After every process of it is gone, however it ended, and before it counts as ended. A failure is told and
    /// nothing else.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_stop: Option<Hook>,
}

impl Hooks {
    /// Each that there is, with the name users know it by.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Hook)> {
        let Self { pre_start, post_start, pre_stop, post_stop } = self;
        [("pre_start", pre_start), ("post_start", post_start), ("pre_stop", pre_stop), ("post_stop", post_stop)]
            .into_iter()
            .filter_map(|(name, hook)| Some((name, hook.as_ref()?)))
    }
}

fn timeout() -> Millis {
    Millis::from_secs(30)
}

/// The fields of [`Hook`] as documents write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookDocument {
    command: String,
    #[serde(default, deserialize_with = "list_or_shell_words")]
    args: Vec<String>,
    #[serde(default = "timeout")]
    timeout: Millis,
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrFields;

        impl<'de> de::Visitor<'de> for TextOrFields {
            type Value = Hook;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one text that is split as a shell would, or command, args and timeout")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hook, E> {
                let mut words = list_or_shell_words(de::value::StrDeserializer::new(text))?;
                if words.is_empty() {
                    return Err(E::custom("is empty; name the command to run"));
                }
                Ok(Hook::new(words.remove(0), words))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Hook, A::Error> {
                let HookDocument { command, args, timeout } =
                    HookDocument::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Hook { command, args, timeout })
            }
        }

        deserializer.deserialize_any(TextOrFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_texts_or_fields_and_read_back() {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Hooks>(yaml).map_err(|error| alloc::format!("{error}"));
        let hooks =
            read("{pre_start: 'migrate --to \"a b\"', post_stop: {command: x, args: [1, b], timeout: 5m}}").unwrap();
        assert_eq!(hooks.pre_start, Some(Hook::new("migrate", ["--to", "a b"].map(String::from).to_vec())));
        let post_stop = hooks.post_stop.as_ref().unwrap();
        assert_eq!((post_stop.timeout, post_stop.args.len()), (Millis::from_secs(300), 2));
        assert_eq!(read(&serde_yaml_ng::to_string(&hooks).unwrap()).unwrap(), hooks);
        assert_eq!(hooks.named().map(|(name, _)| name).collect::<Vec<_>>(), ["pre_start", "post_stop"]);
        assert!(read("{prestart: x}").unwrap_err().contains("unknown field `prestart`"));
        assert!(read("{pre_stop: {command: x, time: 3}}").unwrap_err().contains("unknown field `time`"));
        assert!(read("{pre_stop: ''}").unwrap_err().contains("is empty"));
        assert!(read("{pre_stop: {args: x}}").unwrap_err().contains("missing field `command`"));
    }
}
