//! The real program with real processes: what it promises its slave and the programs it parents.
#![allow(clippy::unwrap_used, missing_docs)]

mod end;
mod given;
mod nursery;
mod output;
mod slave;
mod start;
mod support;
