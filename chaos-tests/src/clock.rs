//! The clock that only goes forward, comparable between processes.

use std::time::Duration;

/// Since the machine's start.
pub fn mono_now() -> Duration {
    // SAFETY: clock_gettime only writes the structure it is given.
    let now = unsafe {
        let mut now = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now), 0);
        now
    };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
