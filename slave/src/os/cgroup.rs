//! A fresh cgroup v2 leaf for each incarnation: nothing escapes it, and one write ends all of it. Where none can be made,
//! sessions and the sub-reaper hold what they can, and the host says so.

mod limits;
mod probe;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use minder_model::{Digest, Incarnation, InstanceKey, LimitSupport, Resources, StartFailure, SupervisionLevel};
use minder_shim::tree;

use crate::settings::Supervision;

/// The subgroup that the unit puts the slave into, so that the group given to it holds no processes itself and may hand
/// controllers to its children: the kernel refuses that to a group with processes.
const SUBGROUP: &str = "slave";

/// A leaf that is being ended is looked at this often; whoever is still in it hangs in the kernel.
const END_INTERVAL: Duration = Duration::from_millis(50);

/// Where leaves are made; nowhere on a machine without usable cgroup v2.
#[derive(Debug, Clone)]
pub struct Cgroups {
    base: Option<Arc<Path>>,
    limits: Arc<[LimitSupport]>,
    notes: Arc<[String]>,
}

impl Cgroups {
    /// Looks for a cgroup v2 hierarchy in which this process may make groups, and tries out what they do.
    pub fn find(data: &Path, supervision: Supervision) -> Self {
        let found = match supervision {
            Supervision::Session => Err(String::from("supervision by session was asked for")),
            Supervision::Auto => Given::find().and_then(|given| given.take(data)),
        };
        found.unwrap_or_else(|why| {
            tracing::info!(why, "no usable cgroup v2: processes are held by session and sub-reaper");
            let limits = limits::none(&format!("without cgroup v2 no limit can be held: {why}"));
            Self { base: None, limits: limits.into(), notes: [format!("cgroup v2 is not used: {why}")].into() }
        })
    }

    /// How firmly processes are held.
    pub fn level(&self) -> SupervisionLevel {
        match self.base {
            Some(_) => SupervisionLevel::Cgroup,
            None => SupervisionLevel::Session,
        }
    }

    /// Which limits can be held.
    pub fn limits(&self) -> &[LimitSupport] {
        &self.limits
    }

    /// What a person should know of all this.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where an incarnation's leaf is or would be; empty where there are none.
    pub fn leaf(&self, key: &InstanceKey, incarnation: Incarnation) -> PathBuf {
        match &self.base {
            Some(base) => base.join(format!("{}:{}.{incarnation}", key.process, key.index)),
            None => PathBuf::new(),
        }
    }

    /// Makes a leaf with its limits. Never one that was there before: a leaf that was killed once may kill what enters
    /// it. A limit that the host can hold and the kernel refuses here fails the start.
    pub fn create(&self, leaf: &Path, resources: &Resources) -> Result<(), StartFailure> {
        if leaf.as_os_str().is_empty() {
            return Ok(());
        }
        let failure = |step: &str, error: &std::io::Error, message: String| StartFailure {
            step: step.into(),
            errno: error.raw_os_error().unwrap_or_default(),
            message,
        };
        fs::create_dir(leaf)
            .map_err(|error| failure("cgroup", &error, format!("cannot make {}: {error}", leaf.display())))?;
        limits::write(leaf, resources, &self.limits)
            .map_err(|refused| failure("resources", &refused.source, format!("{refused}: {}", refused.source)))
    }

    /// Removes an empty leaf. One that is not empty yet is removed with the next start of the slave.
    pub fn remove(&self, leaf: &Path) {
        if !leaf.as_os_str().is_empty() {
            let _ = fs::remove_dir(leaf);
        }
    }

    /// Removes leaves that are empty and belong to nobody; gives those that are not empty.
    pub fn sweep(&self, kept: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let Some(entries) = self.base.as_ref().and_then(|base| fs::read_dir(base).ok()) else { return Vec::new() };
        let nobodys = entries.flatten().map(|entry| entry.path()).filter(|leaf| leaf.is_dir() && !kept.contains(leaf));
        // Only an empty group can be removed, so nothing is lost by trying.
        nobodys.filter(|leaf| fs::remove_dir(leaf).is_err() && is_populated(leaf)).collect()
    }
}

/// Whether processes are in a leaf or below it.
pub fn is_populated(leaf: &Path) -> bool {
    let events = |leaf: &Path| fs::read_to_string(leaf.join("cgroup.events"));
    !leaf.as_os_str().is_empty() && events(leaf).is_ok_and(|events| events.contains("populated 1"))
}

/// Processes of a leaf itself.
pub fn processes(leaf: &Path) -> Vec<u32> {
    let text = fs::read_to_string(leaf.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Ends everything in a leaf and waits until it is gone. Called where nobody may be in it any more.
pub async fn end(leaf: &Path) {
    while is_populated(leaf) {
        tree::kill_cgroup(leaf);
        tokio::time::sleep(END_INTERVAL).await;
    }
}

/// What a leaf counted of an incarnation, as far as the kernel counts it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// User and system time of everything that ran in it, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Peak memory of all of it together, in bytes; needs the memory controller and Linux 5.19.
    pub memory_peak_bytes: Option<u64>,
    /// Processes in it that the kernel killed for memory, whosever memory it was that ran out.
    pub oom_kills: u32,
}

impl Used {
    /// Reads what a leaf says. Where there is none, nothing is known.
    pub fn read(leaf: &Path) -> Self {
        if leaf.as_os_str().is_empty() {
            return Self::default();
        }
        let number = |file: &str, key: &str| {
            let text = fs::read_to_string(leaf.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        };
        Self {
            cpu_ms: number("cpu.stat", "usage_usec ").map(|us| us / 1_000),
            memory_peak_bytes: number("memory.peak", ""),
            oom_kills: number("memory.events", "oom_kill ").map_or(0, |kills| kills.min(u64::from(u32::MAX)) as u32),
        }
    }
}

/// The group that this slave was given.
struct Given {
    mount: PathBuf,
    path: PathBuf,
    /// The text of `/proc/self/cgroup`.
    own: String,
}

impl Given {
    /// This process's own group, or the one around it where the unit has put the slave into a subgroup of it.
    fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| format!("/proc/self/mounts: {error}"))?;
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        let mount = mount.ok_or("it is not mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("this slave is in no group of it")?;
        let mut path = mount.join(path);
        if path != mount && path.file_name().is_some_and(|name| name == SUBGROUP) {
            path.pop();
        }
        Ok(Self { mount, path, own })
    }

    /// Makes a group of this slave's own in there, tries it out, and turns on what its leaves are to have.
    fn take(self, data: &Path) -> Result<Cgroups, String> {
        let name = Digest::of(data.as_os_str().as_encoded_bytes()).short();
        let base = self.path.join(format!("minder-{name}"));
        fs::create_dir_all(&base).map_err(|error| format!("cannot make {}: {error}", base.display()))?;
        let trap = probe::probe(&base)?;
        let tree = limits::Tree { mount: &self.mount, given: &self.path, base: &base, own: &self.own };
        let limits = limits::enable(tree);
        for one in limits.iter().filter(|one| !one.missing.is_empty()) {
            tracing::info!(resource = one.resource.word(), why = one.missing, "this limit cannot be held here");
        }
        let note = "this kernel kills at birth what is cloned into a cgroup that was killed before; every start gets a \
                    fresh one here, and enters it by itself where it is killed at its birth all the same";
        let notes: Vec<String> = trap.then(|| note.to_owned()).into_iter().collect();
        Ok(Cgroups { base: Some(base.into()), limits: limits.into(), notes: notes.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_leaf_counted_is_read_as_far_as_it_is_there() {
        let leaf = tempfile::tempdir().unwrap();
        assert_eq!(Used::read(leaf.path()), Used::default());
        assert_eq!(Used::read(Path::new("")), Used::default());
        let file = |name: &str, text: &str| fs::write(leaf.path().join(name), text).unwrap();
        file("cpu.stat", "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n");
        file("memory.events", "low 0\nhigh 0\nmax 8\noom 1\noom_kill 2\noom_group_kill 1\n");
        file("memory.peak", "104857600\n");
        let used = Used { cpu_ms: Some(1_234), memory_peak_bytes: Some(100 << 20), oom_kills: 2 };
        assert_eq!(Used::read(leaf.path()), used);
    }
}
