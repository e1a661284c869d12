//! One instance's life as a pure state machine: events and the time go in, effects come out. The slave carries the
//! effects out on real processes; tests and the simulator interpret them on pretended ones.
//!
//! What was wished (the assignment) and what is (the incarnation) are different fields, and one function brings them
//! together again after every event. No second incarnation is asked for while the first one may live, and each is
//! asked for only after [`Effect::Save`].
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

mod event;
mod exit;
mod order;
mod record;
mod restart;
mod supervisor;
mod watch;

pub use event::{Effect, Ended, Event, Gate, LocalOrder, LocalRefusal, Now, ProbeKind};
pub use order::{Standing, keep_order};
pub use record::{Live, Outcome, Record, Unhealthy};
pub use supervisor::Supervisor;
