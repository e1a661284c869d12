//! Durations as users write them (`10`, `"1.5s"`, `"2m30s"`, `"250ms"`) and as Minder keeps them: whole milliseconds.

use alloc::{format, string::String};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, CborLen)]
#[cbor(transparent)]
pub struct Millis(#[n(0)] pub u64);

impl Millis {
    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// Reads `250ms`, `1.5s`, `2m`, `1h30m`, `1d`; a bare number is seconds. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no duration; write seconds as a number, or for example \"250ms\", \"1.5s\", \"2m30s\", \"1h\""
            )
        };
        let text_trimmed = text.trim();
        let mut rest = text_trimmed;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            let (number, after) = rest.split_at(number_end);
            let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_end);
            let unit_ms: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "" if next.is_empty() && number == text_trimmed => 1_000,
                _ => return Err(bad()),
            };
            total = thousandths(number)
                .and_then(|value| value.checked_mul(unit_ms))
                .map(|value| value / 1_000)
                .and_then(|value| total.checked_add(value))
                .ok_or_else(bad)?;
            rest = next;
        }
        Ok(Self(total))
    }
}

/// A decimal number times 1000, exactly; no floating point, so that every machine reads the same.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 3 || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let fraction_value = fraction.parse::<u64>().unwrap_or(0) * 10_u64.pow(3 - fraction.len() as u32);
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(fraction_value)
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        let mut rest = self.0;
        for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= unit_ms {
                text.push_str(&format!("{}{unit}", rest / unit_ms));
                rest %= unit_ms;
            }
        }
        f.pad(&text)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Millis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration: seconds as a number, or text such as \"250ms\", \"1.5s\", \"2m30s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Millis, E> {
                Millis::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Millis, E> {
                seconds.checked_mul(1_000).map(Millis).ok_or_else(|| E::custom("this duration is too long"))
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Millis, E> {
                u64::try_from(seconds)
                    .map_err(|_| E::custom("a duration cannot be negative"))
                    .and_then(|s| self.visit_u64(s))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Millis, E> {
                if !(0.0..=1.0e12).contains(&seconds) {
                    return Err(E::custom("a duration cannot be negative or absurdly long"));
                }
                Ok(Millis((seconds * 1_000.0) as u64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10", Some(10_000)),
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("1.5s", Some(1_500)),
            ("2m30s", Some(150_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("s", None),
            ("10x", None),
            ("-1s", None),
            ("1.2345s", None),
            ("99999999999999999999d", None),
            ("5m3", None),
        ] {
            assert_eq!(Millis::parse(text).ok().map(|m| m.0), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0_u64..10_000_000_000) {
            proptest::prop_assert_eq!(Millis::parse(&format!("{}", Millis(ms))), Ok(Millis(ms)));
        }
    }
}
