//! Real clusters of real processes, and the means to hurt them. The tests beside it read like prose; how a manager is
//! killed or a process is looked for stands here.
//!
//! Whatever is started here ends with its guard, the managed processes included, and only that.
#![allow(clippy::unwrap_used)]

mod chance;
mod clock;
mod cluster;
mod crowd;
mod disk;
mod etcd;
mod gaps;
mod groups;
pub mod history;
mod machine;
mod nemesis;
mod net;
pub mod oracle;
mod processes;
mod program;
pub mod promise;
pub mod usage;
mod wait;
mod world;

pub use chance::{Chance, mixed};
pub use clock::mono_now;
pub use cluster::{Cluster, ClusterShape, all, named};
pub use crowd::{Crowd, CrowdShape, CrowdTally, Crowds, Moment, be_a_crowd_if_asked, crowd_host};
pub use disk::Disk;
pub use etcd::Etcd;
pub use gaps::{Gaps, Spread};
pub use groups::remove_group;
pub use machine::Machine;
pub use nemesis::{Nemesis, Outcome, nemeses};
pub use net::{Network, Obstacle, Way, sweep_networks};
pub use processes::{descendants_of, is_alive, pids_with, pids_with_variable};
pub use program::{NotReady, Program, Surroundings, bin, repository};
pub use wait::{eventually, eventually_within};
pub use world::{
    FOLDER, Host, Journal, Lacks, Lease, Leases, ManagedProgram, Manager, Needs, Note, World, WorldShape, now,
};
