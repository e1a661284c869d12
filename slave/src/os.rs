//! The only place beside the shim that asks the kernel about processes.

pub mod bundle;
pub mod cgroup;
pub mod command;
pub mod files;
pub mod hook;
pub mod incarnation;
pub mod launch;
pub mod leftover;
pub mod nursery;
pub mod orphan;
pub mod peer;
pub mod stray;
