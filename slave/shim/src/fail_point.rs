//! Named steps at which a test can end a slave or a shim, as `kill -9` at that very moment would. They exist in builds with
//! debug assertions only, so what is shipped has none of them.
//!
//! Each line of `MINDER_FAIL_POINT` is `NAME PASSAGE die|stop FILE`: whoever is the PASSAGEth to come by NAME, counted over
//! all processes by the bytes of FILE, dies there, or stands still so that a test can kill others together with it.

/// Ends this process here when a test asked for that. Nothing in builds without debug assertions.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::fail_point::pass($name);
    };
}

/// The variable that names points.
pub const VARIABLE: &str = "MINDER_FAIL_POINT";

/// What a slave hands on to its shims, whose environment is empty else.
pub fn handed_on() -> Option<(&'static str, std::ffi::OsString)> {
    if cfg!(debug_assertions) { std::env::var_os(VARIABLE).map(|value| (VARIABLE, value)) } else { None }
}

/// Comes by a point.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    let Ok(value) = std::env::var(VARIABLE) else { return };
    let asked = value.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let Some(mut words) = asked.map(|asked| asked.splitn(3, ' ')) else { return };
    let (Some(Ok(passage)), Some(how), Some(file)) = (words.next().map(str::parse), words.next(), words.next()) else {
        return;
    };
    if passages(file).ok() == Some(passage) {
        let signal = if how == "stop" { libc::SIGSTOP } else { libc::SIGKILL };
        // SAFETY: sends a signal to this thread; both signals are for the whole process.
        unsafe { libc::raise(signal) };
    }
}

/// Counts one more; the lock goes with the file.
#[cfg(debug_assertions)]
fn passages(file: &str) -> std::io::Result<u64> {
    use std::{fs::File, io::Write, os::fd::AsRawFd};
    let mut file = File::options().append(true).create(true).open(file)?;
    // SAFETY: flock on an open descriptor.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    file.write_all(b".")?;
    Ok(file.metadata()?.len())
}
