//! How documents may say things: a number where a text is meant, one text where a list is, `forever` where a duration
//! is. Each function reads or writes one field's form.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serializer, de};

use crate::duration::Millis;

/// Text, or a number or truth value that documents allow in place of text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text or a number")]
pub(crate) enum Scalar {
    Integer(i64),
    Truth(bool),
    Fraction(f64),
    Text(String),
}

impl Scalar {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Integer(number) => format!("{number}"),
            Self::Truth(truth) => format!("{truth}"),
            Self::Fraction(number) => format!("{number}"),
            Self::Text(text) => text,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of texts, or one text that is split as a shell would")]
enum ListOrText {
    List(Vec<Scalar>),
    Text(String),
}

impl ListOrText {
    fn words<E: de::Error>(self) -> Result<Vec<String>, E> {
        match self {
            Self::List(items) => Ok(items.into_iter().map(Scalar::text).collect()),
            Self::Text(text) => shell_words::split(&text)
                .map_err(|_| E::custom(format!("{text:?} cannot be split into words: a quote is not closed"))),
        }
    }
}

pub(crate) fn list_or_shell_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    ListOrText::deserialize(deserializer)?.words()
}

pub(crate) fn some_list_or_shell_words<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    Option::<ListOrText>::deserialize(deserializer)?.map(ListOrText::words).transpose()
}

pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(Scalar::text))
}

pub(crate) fn text_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(key, value)| (key, value.text())).collect())
}

/// A window that may be `"forever"`.
pub(crate) fn forever_or_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    duration_or("forever", deserializer)
}

pub(crate) fn forever_or_text<S: Serializer>(window: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    text_or("forever", window, serializer)
}

/// A wait that may be `"never"` over.
pub(crate) fn never_or_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    duration_or("never", deserializer)
}

pub(crate) fn never_or_text<S: Serializer>(wait: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    text_or("never", wait, serializer)
}

fn duration_or<'de, D: Deserializer<'de>>(none: &str, deserializer: D) -> Result<Option<Millis>, D::Error> {
    match Option::<Scalar>::deserialize(deserializer)?.map(Scalar::text).as_deref() {
        None => Ok(None),
        Some(text) if text == none => Ok(None),
        Some(text) => Millis::parse(text).map(Some).map_err(de::Error::custom),
    }
}

/// Absent in a document is the default, so that none must be a word.
fn text_or<S: Serializer>(none: &str, value: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_str(none),
        Some(value) => serializer.collect_str(value),
    }
}

/// A factor such as `2` or `1.5` in documents, whole percent inside.
pub(crate) mod factor {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let factor = f64::deserialize(deserializer)?;
        if !(1.0..=100.0).contains(&factor) {
            return Err(de::Error::custom("a factor is a number from 1 to 100"));
        }
        Ok((factor * 100.0 + 0.5) as u32)
    }

    pub fn serialize<S: Serializer>(percent: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        if percent.is_multiple_of(100) {
            serializer.serialize_u32(percent / 100)
        } else {
            serializer.serialize_f64(f64::from(*percent) / 100.0)
        }
    }
}

pub(crate) fn one() -> u32 {
    1
}

pub(crate) fn is_one(value: &u32) -> bool {
    *value == 1
}
