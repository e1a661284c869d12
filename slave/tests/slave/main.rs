//! The real slave with real shims and processes, before a pretended manager: what it takes from whom, what it does for
//! processes, and what it tells.
#![allow(clippy::unwrap_used, missing_docs)]

mod at_most_one;
mod checks;
mod exits;
mod fail_points;
mod fence;
mod files;
#[path = "../../../chaos-tests/src/groups.rs"]
mod groups;
mod hooks;
mod life;
mod local;
mod logs;
mod many;
mod nursery;
mod order;
mod resources;
mod stage;
mod stop;
mod strays;
mod takeover;
mod upgrade;
