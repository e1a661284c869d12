//! A program that ends as by `kill -9` and comes back by itself: what a drill does to a manager or a slave.
//!
//! The process executes its own program again with its own words. Everything of it is gone in that moment, as with a
//! kill: threads, memory, what was not handed to the kernel, and every descriptor, for all are closed at an execution.
//! What stays is the pid, so that neither systemd nor whoever else looks after it has anything to do.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, abort},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use minder_model::DRILL_MS_MAX;

/// Milliseconds that a program which comes back stays away first.
const AWAY_VARIABLE: &str = "MINDER_AWAY_MS";

/// Flags that the program is given beside its own words when it comes back.
static KEPT: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

/// What chance has decided at this start is to be so again when the program comes back: it is given this flag, such as a
/// listening address with the port that was free, in the place of its own.
pub fn keep(flag: &'static str, value: String) {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push((flag, value));
}

/// Ends everything here now and begins anew after `away`. Where the program cannot be executed any more it aborts, and
/// whoever looks after it decides.
pub fn vanish(away: Duration) -> ! {
    let mut words = env::args_os();
    let mut again = Command::new(program());
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    let mut words: Vec<OsString> = words.collect();
    for (flag, value) in KEPT.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        set(&mut words, flag, value);
    }
    let error = again.args(words).env(AWAY_VARIABLE, away.as_millis().to_string()).exec();
    eprintln!("this program cannot be executed again: {error}");
    abort()
}

/// Gives a flag its value, whether it stands there as one word, as two, or not at all.
fn set(words: &mut Vec<OsString>, flag: &str, value: &str) {
    if let Some(at) = words.iter().position(|word| word == flag).filter(|at| at + 1 < words.len()) {
        words[at + 1] = value.into();
        return;
    }
    let joined = format!("{flag}=");
    words.retain(|word| !word.to_string_lossy().starts_with(&joined));
    words.push(format!("{joined}{value}").into());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_however_it_was_written() {
        for (words, expected) in [
            (&["--data", "d"][..], &["--data", "d", "--listen=a:7"][..]),
            (&["--listen", "a:0", "-x"], &["--listen", "a:7", "-x"]),
            (&["--listen=a:0", "--data", "d"], &["--data", "d", "--listen=a:7"]),
            (&["--listen", "a:0", "--peer-listen", "a:0"], &["--listen", "a:7", "--peer-listen", "a:0"]),
        ] {
            let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
            set(&mut words, "--listen", "a:7");
            assert_eq!(words, expected);
        }
    }
}
