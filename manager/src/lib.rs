//! One of Minder's replicated managers, as a library: its program (`main.rs`) gives it settings, sockets and signals; the
//! simulation gives it a simulated network and its own end.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attend;
mod busy;
mod clock;
mod control;
mod core;
mod events;
mod fleet;
mod forward;
mod gathered;
mod history;
mod line;
mod logs;
mod metrics;
mod offline;
mod presence;
mod raft;
mod serve;
mod settings;
mod silence;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use offline::{Offline, run as run_offline};
pub use raft::RaftSettings;
pub use serve::{End, Listening, Running, run};
pub use settings::{Flags, Settings};

/// A short critical section. A panic in another one is a bug there and leaves the value as it was: go on with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
