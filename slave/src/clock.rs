//! The slave's one look at clocks and chance; the pure crates get them as arguments.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use minder_supervisor::Now;

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds on a clock that only goes forward.
pub fn mono_ms() -> u64 {
    BEGIN.elapsed().as_millis() as u64
}

/// The time and a random number for one step.
pub fn now() -> Now {
    Now { mono_ms: mono_ms(), wall_ms: wall_ms(), random: rand::random() }
}
