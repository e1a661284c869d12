//! What went wrong, for a person: one sentence, then causes, then what to do. The kind sets the exit code.

use minder_client::v1;
use minder_client::{Error, Stopped, document::Complaints};

/// Done as asked.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage or a bad document.
pub const USAGE: u8 = 2;
/// Something selected is not running.
pub const NOT_RUNNING: u8 = 3;
/// Nothing matched.
pub const NOTHING_MATCHED: u8 = 4;
/// No quorum, or nobody could be reached.
pub const UNREACHABLE: u8 = 5;
/// Timed out while waiting.
pub const TIMED_OUT: u8 = 6;
/// Not permitted.
pub const NOT_PERMITTED: u8 = 7;
/// The revision changed.
pub const CONFLICT: u8 = 8;

/// An end that is not the one asked for.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// Nothing is selected; says by which words.
    pub fn nothing_matched(selection: &v1::Selection) -> Self {
        let words: Vec<&str> = selection.terms.iter().chain(&selection.labels).map(String::as_str).collect();
        let what = if words.is_empty() { "the selection".to_owned() } else { words.join(", ") };
        Self::new(NOTHING_MATCHED, format!("nothing matches {what}")).hint("`minderctl ps` lists everything")
    }

    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as the cause of something larger.
    #[must_use]
    pub fn within(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    /// Writes it to standard error.
    pub fn print(&self) {
        eprintln!("error: {}", self.message);
        for cause in &self.causes {
            eprintln!("  cause: {cause}");
        }
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {hint}");
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Usage(text) => Self::usage(text),
            Error::NothingMatched(text) => Self::new(NOTHING_MATCHED, text)
                .hint("`minderctl ps` lists what there is, `minderctl host list` the hosts"),
            Error::Conflict(text) => Self::new(CONFLICT, text).hint("look again with `minderctl get`, then repeat"),
            Error::Permission(text) => Self::new(NOT_PERMITTED, text),
            Error::Refused(text)
            | Error::TooLarge(text)
            | Error::Failed(text)
            | Error::Unsupported(text)
            | Error::Compacted(text) => Self::new(FAILED, text),
            Error::Unreachable(tried) => unreachable(tried),
            Error::Unknown { request_id, tried } => tried
                .into_iter()
                .fold(
                    Self::new(UNREACHABLE, "the answer was lost, so the change may have happened or not"),
                    |failure, (server, why)| failure.cause(format!("{server}: {why}")),
                )
                .hint(format!("repeating it is safe and gives the first answer: add `--request-id {request_id}`")),
        }
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        let Stopped { done, next, error } = stopped;
        let again = !matches!(error, Error::Unknown { .. });
        let failure = Self::from(error);
        if done.parts_total < 2 {
            return failure;
        }
        let before = format!("{} of {} processes are applied", done.specs, done.specs_total);
        let failure = failure.within(format!(
            "stopped at part {} of {}: {before}, {next} and what follows is not",
            done.parts + 1,
            done.parts_total
        ));
        if again {
            failure.hint("say it again when that is mended: what is applied already stays as it is")
        } else {
            failure
        }
    }
}

fn unreachable(tried: Vec<(String, String)>) -> Failure {
    let failure = Failure::new(UNREACHABLE, "no manager could answer; nothing was changed");
    let hint = if tried.iter().any(|(_, why)| why.contains("belongs to no cluster")) {
        "form a cluster once: `minderctl init --peers ADDRESS,ADDRESS,ADDRESS`"
    } else {
        "name the managers with --server or MINDER_SERVERS; `minderctl manager status --local` asks one alone"
    };
    tried.into_iter().fold(failure, |failure, (server, why)| failure.cause(format!("{server}: {why}"))).hint(hint)
}

impl From<Complaints> for Failure {
    fn from(complaints: Complaints) -> Self {
        let mut each = complaints.0.iter().map(ToString::to_string);
        let first = each.next().unwrap_or_default();
        Self::usage(std::iter::once(first).chain(each).collect::<Vec<_>>().join("\n       "))
    }
}
