//! What the leader decides about its fleet, as pure functions: when a session sends an assignment, how a silent host
//! is spoken of, what an instance's state is called and why, in the sentence that a user reads.
//!
//! It knows the model and nothing else: no Raft, no streams, no clock.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

mod condition;
mod explain;
mod lag;
mod observed;
mod session;
mod silence;
mod statuses;
mod view;

pub use condition::{Acquaintance, Condition, Doubt, SilenceLimits, Standing, name_managers, returned};
pub use explain::explain;
pub use lag::Lag;
pub use observed::{Observed, PhaseCounts, Reported};
pub use session::{Effect, Event, Hello, Session};
pub use silence::{Change, Silence};
pub use statuses::Statuses;
pub use view::{Shown, show};
