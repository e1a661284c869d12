//! What can become of a call.

use std::time::Duration;

use minder_proto::TOO_LARGE_METADATA;
use tonic::{Code, Status};

/// Why there is no answer, or what the answer was instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong; the text names the field.
    #[error("{0}")]
    Usage(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NothingMatched(String),
    /// The revision is not the expected one any more.
    #[error("{0}")]
    Conflict(String),
    /// Understood and refused: a limit, something that exists already.
    #[error("{0}")]
    Refused(String),
    /// More than one write takes: split, it may be taken.
    #[error("{0}")]
    TooLarge(String),
    /// Not allowed for this caller.
    #[error("{0}")]
    Permission(String),
    /// This manager knows no such call.
    #[error("{0}")]
    Unsupported(String),
    /// The revision to watch from is too old: list again and watch from the list's revision.
    #[error("{0}")]
    Compacted(String),
    /// No manager could answer, and nothing was changed. Each manager asked, with its last reason.
    #[error("no manager could answer: {}", reasons(.0))]
    Unreachable(Vec<(String, String)>),
    /// The answer to a write was lost: it may have happened or not. Repeating it with this request id is safe and
    /// gives the first answer.
    #[error("the answer to request {request_id} was lost, so it may have happened or not: {}", reasons(.tried))]
    Unknown {
        /// Identity of the write.
        request_id: String,
        /// Each manager asked, with its last reason.
        tried: Vec<(String, String)>,
    },
    /// A manager failed in a way that repeating does not mend.
    #[error("{0}")]
    Failed(String),
}

fn reasons(tried: &[(String, String)]) -> String {
    let each: Vec<String> = tried.iter().map(|(server, why)| format!("{server}: {why}")).collect();
    each.join("; ")
}

/// What a failed attempt means for the call.
pub(crate) enum Verdict {
    /// The call is over.
    Final(Error),
    /// Another attempt may help; the request has surely changed nothing.
    Again(String),
    /// Another attempt may help; the request may have been carried out.
    AgainUnsure(String),
}

/// Managers say this when a call that failed has surely changed nothing.
const NOTHING_CHANGED: [&str; 2] = ["nothing was changed", "belongs to no cluster"];

/// How long a manager that is too busy asks to be left alone, by the name that gRPC's own retry design has for it.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let ms = status.metadata().get("grpc-retry-pushback-ms")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// Reads a status as the contract says managers use them.
pub(crate) fn judge(status: &Status) -> Verdict {
    let text = status.message().to_string();
    match status.code() {
        Code::InvalidArgument => Verdict::Final(Error::Usage(text)),
        Code::NotFound => Verdict::Final(Error::NothingMatched(text)),
        Code::Aborted => Verdict::Final(Error::Conflict(text)),
        Code::FailedPrecondition if status.metadata().contains_key(TOO_LARGE_METADATA) => {
            Verdict::Final(Error::TooLarge(text))
        }
        Code::FailedPrecondition | Code::AlreadyExists => Verdict::Final(Error::Refused(text)),
        Code::PermissionDenied | Code::Unauthenticated => Verdict::Final(Error::Permission(text)),
        Code::Unimplemented => Verdict::Final(Error::Unsupported(if text.is_empty() {
            "this manager does not know that call; is it a manager, and of this version?".into()
        } else {
            text
        })),
        Code::OutOfRange => Verdict::Final(Error::Compacted(text)),
        Code::ResourceExhausted => Verdict::Again(text),
        Code::Unavailable if NOTHING_CHANGED.iter().any(|sure| text.contains(sure)) => Verdict::Again(text),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Verdict::AgainUnsure(text),
        // A connection that breaks in the middle of an answer is reported as one of these.
        Code::Unknown | Code::Internal => Verdict::AgainUnsure(text),
        Code::Ok | Code::DataLoss => Verdict::Final(Error::Failed(text)),
    }
}
