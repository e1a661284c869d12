//! A program that ends as by `kill -9` and comes back by itself: what a drill does to a manager or a slave.
//!
//! The process executes its own program again with its own words. Everything of it is gone in that moment, as with a
//! kill: threads, memory, what was not handed to the kernel, and every descriptor, for all are closed at an execution.
//! What stays is the pid, so that neither systemd nor whoever else looks after it has anything to do.

use std::{
    env,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, abort},
    time::Duration,
};

use minder_model::DRILL_MS_MAX;

/// Milliseconds that a program which comes back stays away first.
const AWAY_VARIABLE: &str = "MINDER_AWAY_MS";

/// Ends everything here now and begins anew after `away`. Where the program cannot be executed any more it aborts, and
/// whoever looks after it decides.
pub fn vanish(away: Duration) -> ! {
    let mut words = env::args_os();
    let mut again = Command::new(program());
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    let error = again.args(words).env(AWAY_VARIABLE, away.as_millis().to_string()).exec();
    eprintln!("this program cannot be executed again: {error}");
    abort()
}

/// A program that was replaced since is the new one, as after any other restart; one that was removed is still the old.
fn program() -> PathBuf {
    let known = env::current_exe().ok().filter(|path| path.exists());
    known.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// The first thing a program does: whether it has come back from a drill, and if so, after it has stayed away for as long
/// as it was told. Nothing is open before.
pub fn stay_away() -> bool {
    let told = env::var(AWAY_VARIABLE).ok().and_then(|text| text.parse::<u64>().ok());
    match told {
        Some(ms) => {
            std::thread::sleep(Duration::from_millis(ms.min(DRILL_MS_MAX)));
            true
        }
        None => false,
    }
}
