//! The Rust client library of Minder: a list of managers in, answers out.
//!
//! It finds the leader by itself, repeats what is safe to repeat (each write carries a request id), and says *unknown*
//! where an answer was lost. [`document`] reads what users write. It knows nothing of screens and exit codes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backoff;
mod calls;
mod client;
pub mod doctor;
pub mod document;
mod error;
mod local;
mod membership;
mod parts;
mod servers;
mod watch;

pub use client::{Client, Write};
pub use error::Error;
pub use local::Local;
pub use minder_proto::v1;
pub use parts::{Progress, Stopped};
pub use tonic::Streaming;
pub use watch::{DesiredWatch, InstanceWatch};
