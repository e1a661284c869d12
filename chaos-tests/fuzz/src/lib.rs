//! Every reader of bytes that come from outside, as a fuzz target: documents, messages, what lies on disks, what a slave
//! and its shims say to each other.
//!
//! A target takes any bytes and panics when a promise about them is broken: a reader never panics, what it accepts means
//! the same after it was written and read again, and it takes at most [`judge::CPU_MAX`] and [`judge::PEAK_BYTES_MAX`].
//! `make fuzz` lets libFuzzer choose the bytes, by what they reach; the tests of this crate choose them by seeds alone.

pub mod corpus;
pub mod judge;
pub mod mutate;
pub mod seeds;
pub mod targets;

/// Counts what each input makes its reader hold.
#[global_allocator]
static ALLOCATOR: judge::Counting = judge::Counting;
