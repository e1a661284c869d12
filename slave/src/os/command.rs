//! A command beside an incarnation's program: run by a shim of its own, as its user, in its environment and cgroup.

use std::{ffi::OsStr, io, path::Path, process::Stdio, time::Duration};

use minder_model::{Millis, PROBE_MESSAGE_BYTES_MAX};
use minder_shim::{
    fail_point,
    outcome::{OUTPUT_BYTES_MAX, Outcome},
    record::Step,
};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use super::launch::resource_name;

/// The shim kills the command in time and then what is left of it; beyond this the shim itself hangs.
const SHIM_EXTRA: Duration = Duration::from_secs(5);
/// All that a shim says: a line and the output it keeps.
const SAID_BYTES_MAX: u64 = OUTPUT_BYTES_MAX as u64 + 64;

/// What a command is to the incarnation.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// One of any number at a time.
    Check,
    /// The hook of this name: after the one before it.
    Hook(&'static str),
}

/// How a command ended, and the last of its output.
#[derive(Debug)]
pub struct Ran {
    outcome: Outcome,
    output: Vec<u8>,
}

impl Ran {
    /// Whether it exited 0; else what came instead, with the last line it wrote. `program` and `limit` are what it was
    /// run with.
    pub fn success(&self, program: &str, limit: Duration) -> Result<(), String> {
        let output = last_line(&self.output);
        let with_output = |how: String| if output.is_empty() { how } else { format!("{how}: {output}") };
        match self.outcome {
            Outcome::Exit(0) => Ok(()),
            Outcome::Exit(code) => Err(with_output(format!("exit {code}"))),
            Outcome::Signal(number) => Err(with_output(format!("signal {number}"))),
            Outcome::TimedOut => Err(with_output(format!("no answer within {}", Millis(limit.as_millis() as u64)))),
            Outcome::Failed(Step::EnvFiles, _) if !output.is_empty() => {
                Err(format!("cannot run {program}: env_files: {output}"))
            }
            Outcome::Failed(step, errno) => {
                let reason = io::Error::from_raw_os_error(errno).to_string();
                let reason = reason.split(" (os error").next().unwrap_or_default();
                let which = resource_name(&output).filter(|_| step == Step::Limit);
                let which = which.map(|name| format!(".{name}")).unwrap_or_default();
                Err(format!("cannot run {program}: {}{which}: {}", step.word(), reason.to_lowercase()))
            }
        }
    }
}

/// Runs `words` beside the program of a bundle. Dropped, it ends the command and all it has begun: the shim sees its
/// standard input close. The error says why there was no command.
pub async fn run(shim: &Path, bundle: &Path, how: How, words: &[String], limit: Duration) -> Result<Ran, String> {
    let mut command = Command::new(shim);
    match how {
        How::Check => command.arg("--exec"),
        How::Hook(name) => command.args(["--hook", name]),
    };
    let mut child = command
        .args([bundle.as_os_str(), OsStr::new(&limit.as_millis().to_string())])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .envs(fail_point::handed_on())
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

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// One short line without anything a terminal would act on.
pub fn one_line(message: &str) -> String {
    let mut line = String::new();
    for letter in message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if line.len() + letter.len_utf8() > PROBE_MESSAGE_BYTES_MAX {
            break;
        }
        line.push(letter);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_one_short_line() {
        assert_eq!(last_line(b"checking\n  disk is full \n\n"), "disk is full");
        assert_eq!(last_line(b""), "");
        let long = one_line(&("\u{1b}[31m".to_owned() + &"\u{e9}".repeat(500)));
        assert!(long.starts_with(" [31m") && long.len() <= PROBE_MESSAGE_BYTES_MAX && long.len() > 190, "{long}");
    }
}
