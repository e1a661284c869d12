//! What a spec says about a process's life: when it is restarted, how it is stopped, when it counts as running, what is
//! kept of its output. Changing these never restarts a process, but for `daemon` and `logs`.

use alloc::{string::String, vec::Vec};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::document::{factor, forever_or_duration, forever_or_text, never_or_duration, never_or_text};
use crate::{duration::Millis, signal::Signal, size::Bytes};

/// When a process that ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// After every end.
    #[n(0)]
    Always,
    /// After every end but a clean one (exit 0 or a success code, or HUP, INT, TERM, PIPE).
    #[default]
    #[n(1)]
    OnFailure,
    /// Never.
    #[n(2)]
    Never,
}

/// What happens when a process ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Which ends are followed by a start.
    #[n(0)]
    pub policy: RestartPolicy,
    /// Wait before the first restart.
    #[n(1)]
    pub delay: Millis,
    /// Each further wait is this many times the one before, in percent: 200 doubles, 100 keeps it constant.
    #[n(2)]
    #[serde(with = "factor")]
    pub factor: u32,
    /// The longest wait.
    #[n(3)]
    pub delay_max: Millis,
    /// Random part of each wait, in percent up and down, so that a fleet does not restart in step.
    #[n(4)]
    pub jitter_percent: u32,
    /// Restarts allowed within `window`; 0 means no limit.
    #[n(5)]
    pub limit: u32,
    /// The window the limit counts over; absent means for ever, until an operator's retry.
    #[n(6)]
    #[serde(deserialize_with = "forever_or_duration", serialize_with = "forever_or_text")]
    pub window: Option<Millis>,
    /// Having run this long, the wait starts over at `delay`.
    #[n(7)]
    pub reset_after: Millis,
    /// Exit codes that count as clean, beside 0.
    #[n(8)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub success_exit_codes: Vec<u8>,
    /// Exit codes after which nothing is tried again until an operator says so.
    #[n(9)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fatal_exit_codes: Vec<u8>,
    /// After the limit: one try each time this has passed; absent means no further try.
    #[n(10)]
    #[serde(deserialize_with = "never_or_duration", serialize_with = "never_or_text")]
    pub slow_retry: Option<Millis>,
}

impl Default for Restart {
    /// The defaults of systemd's and supervisord's users, without their traps: see design.md 6.
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            delay: Millis::from_secs(1),
            factor: 200,
            delay_max: Millis::from_secs(60),
            jitter_percent: 20,
            limit: 10,
            window: Some(Millis::from_secs(600)),
            reset_after: Millis::from_secs(60),
            success_exit_codes: Vec::new(),
            fatal_exit_codes: Vec::new(),
            slow_retry: Some(Millis::from_secs(600)),
        }
    }
}

/// Whom the stop signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum StopScope {
    /// The main process alone.
    #[default]
    #[n(0)]
    Main,
    /// Its process group.
    #[n(1)]
    Group,
    /// Every process of the incarnation.
    #[n(2)]
    All,
}

/// How a process is stopped. After the grace the whole tree is killed, always.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The polite signal; CONT follows it, so that a stopped program sees it.
    #[n(0)]
    pub signal: Signal,
    /// Whom it goes to.
    #[n(1)]
    pub scope: StopScope,
    /// How long the process may take.
    #[n(2)]
    pub grace: Millis,
    /// Further signals to a process that has not ended yet, in the order of their times, all within the grace. Each
    /// goes to the same scope and is followed by CONT.
    #[n(3)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub escalation: Vec<StopStep>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::TERM, scope: StopScope::Main, grace: Millis::from_secs(10), escalation: Vec::new() }
    }
}

/// One further signal of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct StopStep {
    /// The signal.
    #[n(0)]
    pub signal: Signal,
    /// Sent this long after the first signal.
    #[n(1)]
    pub after: Millis,
}

/// When a started process counts as running.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// STARTING becomes RUNNING after being alive this long.
    #[n(0)]
    pub healthy_after: Millis,
    /// A start that is not RUNNING within this (READY, where there is a `ready`) is ended and counts as a failed one;
    /// absent means any time will do.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
}

impl Default for Start {
    fn default() -> Self {
        Self { healthy_after: Millis::from_secs(1), timeout: None }
    }
}

/// A program that puts itself into the background: its launcher exits 0 and something stays.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// File the program writes its main pid to; without it the oldest process that stays is the main one.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// How long the launcher may take to exit and the daemon to appear.
    #[n(1)]
    pub launch_timeout: Millis,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { pid_file: None, launch_timeout: Millis::from_secs(10) }
    }
}

/// What happens to output that cannot be written as fast as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum LogFull {
    /// It is counted and dropped; the program never waits.
    #[default]
    #[n(0)]
    Drop,
    /// The program waits.
    #[n(1)]
    Block,
}

/// What is kept of a process's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Size at which a stream's active file is rotated.
    #[n(0)]
    pub max_size: Bytes,
    /// Files kept per stream, the active one included.
    #[n(1)]
    pub max_files: u32,
    /// What happens when the disk does not take it.
    #[n(2)]
    pub on_full: LogFull,
    /// Standard error goes into the same file as standard output.
    #[n(3)]
    pub combine: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: Bytes::from_mib(10), max_files: 5, on_full: LogFull::Drop, combine: false }
    }
}
