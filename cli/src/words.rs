//! Numbers as people read them, and names as they type them.

use std::time::{SystemTime, UNIX_EPOCH};

use minder_client::v1;
use minder_model::Utc;

/// The clock, for ages of what slaves stamped. Differences of clocks show as an age of zero, never as a negative one.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// `12s`, `3m04s`, `2h05m`, `3d04h`.
pub fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// A time that may be short: `7ms`, `1.5s`, and from a minute on as [`age`].
pub fn lived(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => age(ms),
    }
}

/// How far a clock is off: `+3ms`, `-1.5s`, and from a minute on as [`age`].
pub fn offset(ms: i64) -> String {
    format!("{}{}", if ms < 0 { '-' } else { '+' }, lived(ms.unsigned_abs()))
}

/// How long ago a stamp was; empty for none.
pub fn since(stamp_ms: u64) -> String {
    if stamp_ms == 0 { String::new() } else { age(now_ms().saturating_sub(stamp_ms)) }
}

/// `512B`, `1.5M`, `12G`, as pm2's and kubectl's users know it.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for larger in ["K", "M", "G", "T", "P"] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = larger;
    }
    if unit == "B" || value >= 10.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

/// Thousandths of a core as percent of one.
pub fn cpu(millicores: u32) -> String {
    format!("{}.{}%", millicores / 10, millicores % 10)
}

/// `name` or `name:3`.
pub fn instance(name: &v1::InstanceName) -> String {
    if name.index <= 1 { name.process.clone() } else { format!("{}:{}", name.process, name.index) }
}

/// `name@host` or `name:3@host`.
pub fn full(name: &v1::InstanceName) -> String {
    format!("{}@{}", instance(name), name.host)
}

/// `1 instance`, `2 instances`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A stamp as a UTC time of day and date, as logs write it.
pub fn time(ms: u64) -> String {
    Utc(ms).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 59_999, 60_000, 7_500_000, 90_000_000].map(age), ["0s", "59s", "1m00s", "2h05m", "1d01h"]);
        assert_eq!([0, 999, 1_550, 59_999, 60_000].map(lived), ["0ms", "999ms", "1.5s", "59.9s", "1m00s"]);
        assert_eq!([0, 1_023, 1_536, 12 << 20, 3 << 40].map(bytes), ["0B", "1023B", "1.5K", "12M", "3.0T"]);
        assert_eq!([0, 3, -1_550, 120_000].map(offset), ["+0ms", "+3ms", "-1.5s", "+2m00s"]);
        assert_eq!([0, 7, 1_234].map(cpu), ["0.0%", "0.7%", "123.4%"]);
    }
}
