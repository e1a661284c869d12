//! What a shim and its slave say to each other and leave on disk. Shims live for months, over many versions of the
//! slave, so everything here is frozen per version and every decoder takes any bytes.
//!
//! The program itself is `src/main.rs`: one thread, no async, one incarnation.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bytes;
pub mod env_file;
pub mod fail_point;
pub mod identity;
pub mod launch;
pub mod outcome;
pub mod output;
pub mod protocol;
pub mod record;
pub mod tree;

pub use bytes::Malformed;

/// Names of files in an incarnation's bundle.
pub mod bundle {
    /// What to run; written by the slave, which then says so to the shim.
    pub const LAUNCH: &str = "launch";
    /// What has become of it; written by the shim.
    pub const RECORD: &str = "record";
    /// Which of several a failed step of the start was about; written by the shim before it says so in the record.
    pub const FAILURE: &str = "failure";
    /// Held by the shim as long as it lives.
    pub const LOCK: &str = "lock";
    /// The last of its output; written by the shim when everything has ended.
    pub const OUTPUT: &str = "output";
    /// Where the slave speaks to the shim.
    pub const SOCKET: &str = "sock";
    /// The launch file after [`LAUNCH`] was taken away so that no shim starts it: what runs after its end reads it.
    pub const CLOSED: &str = "launch.closed";
    /// Held by a hook as long as it or anything it began lives.
    pub const HOOK_LOCK: &str = "hook";
}

/// Exit codes of a shim that never got as far as a record.
pub mod exit {
    /// Wrong arguments.
    pub const USAGE: i32 = 64;
    /// The launch file cannot be read.
    pub const LAUNCH: i32 = 65;
    /// Another shim holds this incarnation.
    pub const LOCKED: i32 = 66;
    /// The record or socket cannot be made.
    pub const BUNDLE: i32 = 67;
    /// There is a record already: this incarnation was begun once, and its program may be alive.
    pub const USED: i32 = 68;
}
