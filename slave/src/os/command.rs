//! A command beside an incarnation's program: run by a shim of its own, as its user, in its environment and cgroup.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use minder_shim::outcome::{OUTPUT_BYTES_MAX, Outcome};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// The shim kills the command in time and then what is left of it; beyond this the shim itself hangs.
const SHIM_EXTRA: Duration = Duration::from_secs(5);
/// All that a shim says: a line and the output it keeps.
const SAID_BYTES_MAX: u64 = OUTPUT_BYTES_MAX as u64 + 64;

/// How a command ended, and the last of its output.
#[derive(Debug)]
pub struct Ran {
    /// How.
    pub outcome: Outcome,
    /// What it said.
    pub output: Vec<u8>,
}

/// Runs `words` beside the program of a bundle. Dropped, it ends the command and all it has begun: the shim sees its
/// standard input close. The error says why there was no command.
pub async fn run(shim: &Path, bundle: &Path, words: &[String], limit: Duration) -> Result<Ran, String> {
    let mut child = Command::new(shim)
        .args([OsStr::new("--exec"), bundle.as_os_str(), OsStr::new(&limit.as_millis().to_string())])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", shim.display()))?;
    let mut said = Vec::new();
    let Some(stdout) = child.stdout.take() else { return Err("its shim has no output".into()) };
    let read = timeout(limit + SHIM_EXTRA, stdout.take(SAID_BYTES_MAX).read_to_end(&mut said)).await;
    if !matches!(read, Ok(Ok(_))) {
        return Err("its shim does not answer".into());
    }
    // It has closed its output because it ends.
    let _ = timeout(SHIM_EXTRA, child.wait()).await;
    match Outcome::split(&said) {
        Some((outcome, output)) => Ok(Ran { outcome, output: output.to_vec() }),
        None => Err("its shim gave no answer; is the process ending?".into()),
    }
}
