//! What every write asks of the state. It is taken out of it after each step, so that whoever asks does not wait for what
//! is being applied.

use alloc::sync::Arc;

use minder_model::{CommandVersion, HostName, Spec};
use rpds::RedBlackTreeMapSync;

use crate::{proposal::Command, record::HostRecord, state::State};

/// The outline of a state. Cloning costs a few pointers.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    version: CommandVersion,
    instances: u64,
    hosts: RedBlackTreeMapSync<HostName, Arc<HostRecord>>,
}

impl State {
    /// The outline of the state as it is now.
    pub fn outline(&self) -> Outline {
        Outline { version: self.version(), instances: self.instances, hosts: self.hosts.clone() }
    }
}

impl Outline {
    /// The version of commands that the cluster takes.
    pub fn version(&self) -> CommandVersion {
        self.version
    }

    /// Whether this host has announced itself.
    pub fn has_host(&self, host: &HostName) -> bool {
        self.hosts.contains_key(host)
    }

    /// No command reaches more instances than this one's bound here; how many it does reach only the state knows, see
    /// [`State::reach`].
    pub fn reach_at_most(&self, command: &Command) -> u64 {
        match command {
            Command::Apply(specs) => specs.iter().map(|spec| self.wanted_at_most(spec)).fold(self.instances, add),
            Command::Delete(_) | Command::Order(_) => self.instances,
            Command::CreateCluster(..)
            | Command::RegisterHost(..)
            | Command::LabelHost(..)
            | Command::RemoveHost(_)
            | Command::RaiseVersion(_) => 0,
        }
    }

    fn wanted_at_most(&self, spec: &Spec) -> u64 {
        let by_selector = if spec.selector.is_empty() { 0 } else { self.hosts.size() };
        let hosts = (spec.hosts.len() + by_selector) as u64;
        let own = spec.overrides.values().filter_map(|over| over.instances).max().unwrap_or(0);
        // A host that is looked at and not meant counts as less than an instance.
        hosts.saturating_mul(u64::from(spec.instances.max(own).max(1)))
    }
}

fn add(sum: u64, more: u64) -> u64 {
    sum.saturating_add(more)
}
