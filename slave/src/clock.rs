//! The slave's one look at clocks and chance; the pure crates get them as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use minder_supervisor::Now;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds on the machine's clock that only goes forward: the same one over restarts of this slave.
pub fn mono_ms() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// Milliseconds since the machine came up, those included in which it slept.
pub fn up_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// The time and a random number for one step.
pub fn now() -> Now {
    Now { mono_ms: mono_ms(), wall_ms: wall_ms(), random: rand::random() }
}
