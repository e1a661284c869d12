//! What slaves see: the phase of each instance, why it is in it, and how its incarnations ended.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};

use crate::{
    assignment::LocalStop,
    digest::Digest,
    id::{Generation, Incarnation, InstanceKey, Revision},
    limits::{LAST_OUTPUT_BYTES_MAX, LAST_OUTPUT_LINES},
    signal::Signal,
    stored::is_default,
};

/// Observed state of an instance. Only slaves report it, except `Lost`, which managers say of a silent host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Phase {
    /// Assigned, not begun.
    #[n(0)]
    Pending,
    /// Started, not yet alive for `start.healthy_after`.
    #[n(1)]
    Starting,
    /// Alive long enough.
    #[n(2)]
    Running,
    /// Running and ready to serve.
    #[n(3)]
    Ready,
    /// Asked to end, not yet gone.
    #[n(4)]
    Stopping,
    /// Not running, as wanted.
    #[n(5)]
    Stopped,
    /// Ended; waiting before the next start.
    #[n(6)]
    Backoff,
    /// Given up, but for a slow try now and then.
    #[n(7)]
    Fatal,
    /// Ended, and its policy wants no restart.
    #[n(8)]
    Exited,
    /// Its host is silent: nobody knows.
    #[n(9)]
    Lost,
    /// Its slave cannot tell.
    #[n(10)]
    Unknown,
}

impl Phase {
    /// Every phase, in the order of the contract.
    pub const ALL: [Phase; 11] = [
        Phase::Pending,
        Phase::Starting,
        Phase::Running,
        Phase::Ready,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Backoff,
        Phase::Fatal,
        Phase::Exited,
        Phase::Lost,
        Phase::Unknown,
    ];

    /// The word users see, in capitals as supervisord's users know it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Ready => "READY",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Backoff => "BACKOFF",
            Self::Fatal => "FATAL",
            Self::Exited => "EXITED",
            Self::Lost => "LOST",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether a process of this instance exists or may exist.
    pub fn may_be_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Ready | Self::Stopping | Self::Lost | Self::Unknown)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How an incarnation's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
pub enum ExitStatus {
    /// It exited with this code.
    #[n(0)]
    Code(#[n(0)] u8),
    /// A signal ended it.
    #[n(1)]
    Signal(#[n(0)] Signal, #[n(1)] bool),
    /// Nobody could see it; said so, never guessed.
    #[n(2)]
    Unknown,
    /// The machine was restarted under it.
    #[n(3)]
    Reboot,
    /// The kernel killed it for the memory it used.
    #[n(20)]
    OutOfMemory,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal, false) => write!(f, "signal {signal}"),
            Self::Signal(signal, true) => write!(f, "signal {signal} (core dumped)"),
            Self::Unknown => f.write_str("ended, cause unknown"),
            Self::Reboot => f.write_str("lost at reboot"),
            Self::OutOfMemory => f.write_str("out of memory, killed by the kernel"),
        }
    }
}

/// A start that never became a running program: which step failed, and the kernel's reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct StartFailure {
    /// The step, for example `exec`, `user`, `working_directory`.
    #[n(0)]
    pub step: String,
    /// The kernel's error number, 0 when it was not the kernel that refused.
    #[n(1)]
    pub errno: i32,
    /// One sentence for people.
    #[n(2)]
    pub message: String,
}

/// Why an instance is in its phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
pub enum Cause {
    /// As wanted; nothing to explain.
    #[default]
    #[n(0)]
    Wanted,
    /// The last incarnation ended like this.
    #[n(1)]
    Ended(#[n(0)] ExitStatus),
    /// The last start failed like this.
    #[n(2)]
    StartFailed(#[n(0)] StartFailure),
    /// More restarts than the policy allows.
    #[n(3)]
    LimitReached(#[n(0)] ExitStatus, #[n(1)] u32),
    /// The exit code is one of the spec's fatal ones.
    #[n(4)]
    FatalCode(#[n(0)] u8),
    /// An operator asked for it.
    #[n(5)]
    Operator,
    /// The spec changed.
    #[n(6)]
    SpecChanged,
    /// It did not end within its grace and was killed.
    #[n(7)]
    KilledAfterGrace,
    /// The slave found it after its own restart.
    #[n(8)]
    TakenOver,
    /// The slave lacks the spec and has asked for it.
    #[n(9)]
    SpecMissing,
    /// Its health check failed, or it was not ready in time; the sentence says which and how.
    #[n(20)]
    Unhealthy(#[n(0)] String),
    /// It runs and its ready check does not pass, with this answer.
    #[n(21)]
    NotReady(#[n(0)] String),
    /// Somebody stopped it on its machine, past the managers.
    #[n(40)]
    StoppedLocally(#[n(0)] LocalStop),
    /// The order on its host has it wait; the sentence says for what.
    #[n(50)]
    Waiting(#[n(0)] String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str(""),
            Self::Ended(status) => write!(f, "{status}"),
            Self::StartFailed(failure) => write!(f, "cannot start: {}", failure.message),
            Self::LimitReached(status, limit) => write!(f, "{status}; restart limit of {limit} reached"),
            Self::FatalCode(code) => write!(f, "exit {code}, a fatal code"),
            Self::Operator => f.write_str("by operator"),
            Self::SpecChanged => f.write_str("spec changed"),
            Self::KilledAfterGrace => f.write_str("did not stop in time, killed"),
            Self::TakenOver => f.write_str("taken over"),
            Self::SpecMissing => f.write_str("waiting for its spec"),
            Self::Unhealthy(sentence) | Self::Waiting(sentence) => f.write_str(sentence),
            Self::NotReady(answer) if answer.is_empty() => f.write_str("not ready yet"),
            Self::NotReady(answer) => write!(f, "not ready: {answer}"),
            Self::StoppedLocally(stop) => write!(f, "{stop}"),
        }
    }
}

/// Who wanted an incarnation to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum Asked {
    /// Nobody: it ended by itself. So says a record of before this was written down, whose `requested` counts.
    #[default]
    #[n(0)]
    Nobody,
    /// An operator stopped it.
    #[n(1)]
    Operator,
    /// Its spec changed.
    #[n(2)]
    SpecChanged,
    /// An operator restarted it.
    #[n(3)]
    Restart,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nobody => "",
            Self::Operator => "stopped by operator",
            Self::SpecChanged => "replaced, its spec changed",
            Self::Restart => "restarted by operator",
        })
    }
}

/// One ended incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ExitRecord {
    /// Which start this was.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Which spec version it ran.
    #[n(1)]
    pub generation: Generation,
    /// How it ended.
    #[n(2)]
    pub status: ExitStatus,
    /// Set when the program never ran.
    #[n(3)]
    pub start_failure: Option<StartFailure>,
    /// Wall clock of the host at the start, milliseconds since 1970.
    #[n(4)]
    pub started_at_ms: u64,
    /// Wall clock of the host at the end, milliseconds since 1970.
    #[n(5)]
    pub ended_at_ms: u64,
    /// User and system CPU time, in milliseconds: of the whole cgroup where there is one, else of what was reaped.
    #[n(6)]
    pub cpu_ms: u64,
    /// Peak memory, in bytes: of the whole cgroup where the kernel counts it, else resident of the main process.
    #[n(7)]
    pub memory_peak_bytes: u64,
    /// It was asked to end.
    #[n(8)]
    pub requested: bool,
    /// It outlived its grace and was killed.
    #[n(9)]
    pub killed_after_grace: bool,
    /// Who asked it to.
    #[n(20)]
    #[cbor(default)]
    pub asked: Asked,
    /// Processes of it that the kernel killed for memory, as its cgroup counted them.
    #[n(21)]
    #[cbor(default)]
    pub oom_kills: u32,
    /// The last it said, while it is one of the latest [`crate::EXITS_WITH_OUTPUT_MAX`].
    #[n(22)]
    #[cbor(default)]
    pub last_output: LastOutput,
    /// How long its end took, from the first word to the last process of its tree, in milliseconds. Absent where it
    /// ended by itself or nobody could measure it.
    #[n(31)]
    pub stop_ms: Option<u64>,
    /// It was ended by its supervisor for this: a failed health check, or not ready in time.
    #[n(30)]
    pub unhealthy: Option<String>,
    /// The operator who stopped it did so on its machine, past the managers.
    #[cbor(n(60), default, skip_if = "is_default")]
    pub locally: bool,
}

impl ExitRecord {
    /// How long it lived, in milliseconds.
    pub fn lived_ms(&self) -> u64 {
        self.ended_at_ms.saturating_sub(self.started_at_ms)
    }

    fn stop_took(&self) -> Option<String> {
        self.stop_ms.map(|ms| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100))
    }

    /// How its stop went; empty where it ended by itself.
    pub fn stop_words(&self) -> String {
        let took = self.stop_took();
        let stopped = match (self.requested, &self.unhealthy) {
            (true, _) => "stopped as asked",
            (false, Some(_)) => "stopped",
            (false, None) => return String::new(),
        };
        match (self.killed_after_grace, took) {
            (false, None) => String::from(stopped),
            (false, Some(took)) => format!("{stopped} in {took}"),
            (true, None) => String::from("did not stop in time, killed"),
            (true, Some(took)) => format!("did not stop in time, killed, gone after {took}"),
        }
    }
}

/// How it ended and who wanted that, for people.
impl fmt::Display for ExitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start_failure {
            // Most messages begin with their step.
            Some(failure) if failure.message.starts_with(&failure.step) => {
                write!(f, "cannot start: {}", failure.message)?
            }
            Some(failure) => write!(f, "cannot start ({}): {}", failure.step, failure.message)?,
            None => write!(f, "{}", self.status)?,
        }
        if let Some(sentence) = &self.unhealthy {
            write!(f, " ({sentence})")?;
        }
        if self.oom_kills > 0 && self.status != ExitStatus::OutOfMemory {
            write!(f, ", after the kernel had killed {} of its processes for memory", self.oom_kills)?;
        }
        match self.asked {
            Asked::Nobody if self.requested => f.write_str(", as asked")?,
            Asked::Nobody => {}
            Asked::Operator if self.locally => f.write_str(", stopped locally")?,
            asked => write!(f, ", {asked}")?,
        }
        match (self.killed_after_grace, self.stop_took()) {
            (false, None) => Ok(()),
            (false, Some(took)) => write!(f, ", in {took}"),
            (true, None) => f.write_str(", did not stop in time, killed"),
            (true, Some(took)) => write!(f, ", did not stop in time, killed, gone after {took}"),
        }
    }
}

/// The last lines of an incarnation's output, each stream at most [`crate::LAST_OUTPUT_LINES`] lines and
/// [`crate::LAST_OUTPUT_BYTES_MAX`] bytes. What it wrote before is in its logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LastOutput {
    /// Of standard output, and of both where they are combined.
    #[n(0)]
    #[cbor(default)]
    pub stdout: String,
    /// Of standard error.
    #[n(1)]
    #[cbor(default)]
    pub stderr: String,
}

impl LastOutput {
    /// From the last bytes of each stream, whatever they are.
    pub fn of(stdout: &[u8], stderr: &[u8]) -> Self {
        Self { stdout: last_lines(stdout), stderr: last_lines(stderr) }
    }

    /// The line that most likely says what went wrong: the last one of standard error, else of standard output.
    pub fn last_line(&self) -> Option<&str> {
        [&self.stderr, &self.stdout].into_iter().find_map(|text| text.lines().rfind(|line| !line.trim().is_empty()))
    }
}

/// The last lines within the bounds, without the end of the last one.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    let from_line = text.rmatch_indices('\n').nth(LAST_OUTPUT_LINES - 1).map_or(0, |(at, _)| at + 1);
    let mut from = from_line.max(text.len().saturating_sub(LAST_OUTPUT_BYTES_MAX));
    while !text.is_char_boundary(from) {
        from += 1;
    }
    String::from(&text[from..])
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum ProbeState {
    /// It has not passed yet, and not failed often enough.
    #[default]
    #[n(0)]
    Pending,
    /// It passes.
    #[n(1)]
    Passing,
    /// It failed as often in a row as its threshold says.
    #[n(2)]
    Failing,
}

impl ProbeState {
    /// The word users see.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Passing => "passing",
            Self::Failing => "failing",
        }
    }
}

/// A health or ready check of a running process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ProbeStatus {
    /// How it stands.
    #[n(0)]
    pub state: ProbeState,
    /// Failures in a row, counted up to the threshold.
    #[n(1)]
    pub failures: u32,
    /// The last failure's answer, at most [`crate::PROBE_MESSAGE_BYTES_MAX`]; empty after a success.
    #[n(2)]
    pub message: String,
    /// In this state since, host's wall clock, milliseconds since 1970.
    #[n(3)]
    pub since_ms: u64,
}

/// One instance as its slave sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct InstanceStatus {
    /// Which instance.
    #[n(0)]
    pub key: InstanceKey,
    /// Its phase.
    #[n(1)]
    pub phase: Phase,
    /// Why.
    #[n(2)]
    pub cause: Cause,
    /// In this phase since, host's wall clock, milliseconds since 1970.
    #[n(3)]
    pub since_ms: u64,
    /// Spec version of the current incarnation, or of the next one when there is none.
    #[n(4)]
    pub generation: Generation,
    /// Digest of that spec.
    #[n(5)]
    pub spec: Digest,
    /// The current or latest start.
    #[n(6)]
    pub incarnation: Incarnation,
    /// Main process, 0 when there is none.
    #[n(7)]
    pub pid: u32,
    /// Start of the current incarnation, host's wall clock, milliseconds since 1970; 0 when there is none.
    #[n(8)]
    pub started_at_ms: u64,
    /// Restarts by policy since the last operator's start, restart or retry.
    #[n(9)]
    pub restarts: u32,
    /// Restarts within the current window, as the limit counts them.
    #[n(10)]
    pub restarts_in_window: u32,
    /// Next start by policy, host's wall clock, milliseconds since 1970; 0 when none is planned.
    #[n(11)]
    pub next_start_ms: u64,
    /// The latest restart order that has been carried out.
    #[n(12)]
    pub restart_at: Revision,
    /// The latest retry order that has been carried out.
    #[n(13)]
    pub retry_at: Revision,
    /// The latest signal order that has been carried out, sent or found without a process.
    #[n(14)]
    pub signal_at: Revision,
    /// The latest exits, newest last, at most [`crate::EXITS_KEPT_MAX`].
    #[n(15)]
    pub exits: Vec<ExitRecord>,
    /// How its health check stands, while it runs and has one.
    #[n(30)]
    pub health: Option<ProbeStatus>,
    /// How its ready check stands, while it runs and has one.
    #[n(31)]
    pub ready: Option<ProbeStatus>,
}
