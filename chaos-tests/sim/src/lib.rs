//! The pure world of Minder under a seed: the real state, sessions, supervisors and rules of the pure crates, between
//! pretended managers' agreement, disks, kernels and network. It knows no clock and draws no chance but the seed's.
//!
//! What the shells around the pure crates do is written down here once more, thinly; each such file names the shell it is
//! after. A rule that changes there changes here.
#![allow(clippy::expect_used)]

mod agreement;
mod ask;
mod attend;
mod chance;
mod faults;
mod host;
mod kernel;
mod ledger;
mod manager;
mod message;
mod model;
mod network;
mod operators;
mod options;
mod oracles;
mod planted;
mod queue;
mod run;
mod slave;
mod takeover;
mod trace;
mod watcher;
mod workload;
mod world;

pub use chance::Chance;
pub use options::Options;
pub use planted::Planted;
pub use run::{Run, run};
