//! Named steps at which a test can end the process, as a crash would, or let the disk refuse. They exist in builds with debug
//! assertions only, so what is shipped has none of them.
//!
//! `MINDER_STORE_FAIL_POINT` is `NAME PASSAGE kill` or `NAME PASSAGE ERRNO`: the process that comes by NAME for the
//! PASSAGEth time is killed there, or gets this error from the step that follows. `MINDER_STORE_PASSAGES` names a file that
//! gets a line for each point that is passed.

/// Ends this process here, or returns an error, when a test asked for that. Stands before the step that fails.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::fail_point::pass($name)?;
    };
}

pub(crate) use fail_point;

/// Comes by a point.
#[cfg(debug_assertions)]
pub(crate) fn pass(name: &str) -> std::io::Result<()> {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static ASKED: OnceLock<Option<(String, u64, String)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    note(name);
    let asked = ASKED.get_or_init(|| {
        let value = std::env::var("MINDER_STORE_FAIL_POINT").ok()?;
        let mut words = value.split(' ').map(str::to_owned);
        Some((words.next()?, words.next()?.parse().ok()?, words.next()?))
    });
    match asked {
        Some((point, passage, action)) if point == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *passage => {
            if let Ok(errno) = action.parse() {
                return Err(std::io::Error::from_raw_os_error(errno));
            }
            // As `kill -9`: nothing is unwound, flushed or dropped. Killing oneself cannot fail, and nothing comes after it.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(debug_assertions)]
fn note(name: &str) {
    use std::io::Write;
    let Some(path) = std::env::var_os("MINDER_STORE_PASSAGES") else { return };
    let file = std::fs::File::options().append(true).create(true).open(path);
    // A test that gets no line finds that the point was not passed.
    let _ = file.and_then(|mut file| writeln!(file, "{name}"));
}
