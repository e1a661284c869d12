//! What the kernel tells the thread of a simulation: the time is the simulation's and chance is the seed's.
//!
//! Two functions of libc stand here in the place of libc's own, for the whole program: the clock and chance. Everything
//! draws from them in the end: `Instant` and `SystemTime`, the keys of hash maps, tokio's and openraft's generators, UUIDs.
//! So one seed is one run without a build of its own, and nothing in Minder needs to know that it is simulated. On every
//! other thread, and before [`begin`], they do what libc's do.

use std::{cell::Cell, time::Duration};

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// Clocks begin here, so that what is before the beginning of a simulation can still be said.
const BEGIN_S: u64 = 1_000_000;
/// And the wall clock here: some day in 2026.
const EPOCH_S: u64 = 1_780_000_000;

thread_local! {
    /// Nanoseconds since the simulation began; none on a thread that is not simulated.
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    static CHANCE: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread is simulated.
pub fn begin(seed: u64) {
    NOW.set(Some(0));
    CHANCE.set(seed);
}

/// Moves the clocks of this thread.
pub fn set_now(now: Duration) {
    NOW.set(Some(now.as_nanos() as u64));
}

/// Time since the simulation began, in microseconds.
pub fn now_us() -> u64 {
    NOW.get().unwrap_or_default() / 1_000
}

/// The next number of the seed's row (SplitMix64).
fn draw() -> u64 {
    let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The clock, in the place of libc's.
///
/// # Safety
/// As libc's: `out` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int {
    let begin_s = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => EPOCH_S,
        _ => BEGIN_S,
    };
    match NOW.get() {
        Some(now) => {
            let (seconds, nanoseconds) = (now / 1_000_000_000, now % 1_000_000_000);
            // Safety: the caller's promise.
            unsafe {
                out.write(timespec {
                    tv_sec: (begin_s + seconds) as libc::time_t,
                    tv_nsec: nanoseconds as libc::c_long,
                });
            }
            0
        }
        // Safety: the caller's promise is the kernel's demand.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) as c_int },
    }
}

/// Chance, in the place of libc's.
///
/// # Safety
/// As libc's: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if NOW.get().is_none() {
        // Safety: the caller's promise is the kernel's demand.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t };
    }
    if length > 0 {
        // Safety: the caller's promise; nobody else has the buffer meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&draw().to_le_bytes()[..piece.len()]);
        }
    }
    length as ssize_t
}
