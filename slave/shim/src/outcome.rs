//! What `minder-shim --exec` says on its standard output: one line on how the command ended, then the last of its output.

use crate::record::Step;

/// Output that is kept: a few lines for people.
pub const OUTPUT_BYTES_MAX: usize = 1_024;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code.
    Exit(u8),
    /// A signal ended it.
    Signal(u8),
    /// Its time was over, or its slave's; it was killed.
    TimedOut,
    /// It could not be started: which step, and the kernel's reason. What is said after the line is no output then, but
    /// which of several the step was about.
    Failed(Step, i32),
}

impl Outcome {
    /// The line, its end included.
    pub fn line(self) -> String {
        match self {
            Self::Exit(code) => format!("exit {code}\n"),
            Self::Signal(signal) => format!("signal {signal}\n"),
            Self::TimedOut => "timeout\n".into(),
            Self::Failed(step, errno) => format!("failed {} {errno}\n", step.number()),
        }
    }

    /// Takes the line off the front of what was said.
    pub fn split(said: &[u8]) -> Option<(Self, &[u8])> {
        let end = said.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&said[..end]).ok()?;
        let mut words = line.split(' ');
        let outcome = match (words.next()?, words.next(), words.next()) {
            ("exit", Some(code), None) => Self::Exit(code.parse().ok()?),
            ("signal", Some(signal), None) => Self::Signal(signal.parse().ok()?),
            ("timeout", None, None) => Self::TimedOut,
            ("failed", Some(step), Some(errno)) => {
                Self::Failed(Step::from_number(step.parse().ok()?), errno.parse().ok()?)
            }
            _ => return None,
        };
        Some((outcome, &said[end + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_back_and_nonsense_does_not() {
        for outcome in [Outcome::Exit(255), Outcome::Signal(9), Outcome::TimedOut, Outcome::Failed(Step::Exec, 2)] {
            let said = [outcome.line().as_bytes(), b"more\nlines"].concat();
            assert_eq!(Outcome::split(&said), Some((outcome, b"more\nlines".as_slice())));
        }
        for said in ["", "exit 3", "exit\n", "exit 256\n", "timeout 3\n", "exit 1 2\n", "\n"] {
            assert_eq!(Outcome::split(said.as_bytes()), None, "{said:?}");
        }
    }
}
