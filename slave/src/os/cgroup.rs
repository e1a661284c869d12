//! A fresh cgroup v2 leaf for each incarnation: nothing escapes it, and one write ends all of it. Where none can be made,
//! sessions and the sub-reaper hold what they can, and the host says so.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use minder_model::{Digest, Incarnation, InstanceKey, SupervisionLevel};

use crate::settings::Supervision;

/// Where leaves are made; nowhere on a machine without usable cgroup v2.
#[derive(Debug, Clone)]
pub struct Cgroups {
    base: Option<Arc<Path>>,
}

impl Cgroups {
    /// Looks for a cgroup v2 hierarchy in which this process may make groups, below its own.
    pub fn find(data: &Path, supervision: Supervision) -> Self {
        let base = match supervision {
            Supervision::Session => None,
            Supervision::Auto => own_cgroup().and_then(|own| usable(&own, data)),
        };
        if base.is_none() && supervision == Supervision::Auto {
            tracing::info!("no usable cgroup v2: processes are held by session and sub-reaper");
        }
        Self { base: base.map(Into::into) }
    }

    /// How firmly processes are held.
    pub fn level(&self) -> SupervisionLevel {
        match self.base {
            Some(_) => SupervisionLevel::Cgroup,
            None => SupervisionLevel::Session,
        }
    }

    /// Where an incarnation's leaf is or would be; empty where there are none.
    pub fn leaf(&self, key: &InstanceKey, incarnation: Incarnation) -> PathBuf {
        match &self.base {
            Some(base) => base.join(format!("{}:{}.{incarnation}", key.process, key.index)),
            None => PathBuf::new(),
        }
    }

    /// Makes a leaf. Never one that was there before: a leaf that was killed once may kill what enters it.
    pub fn create(&self, leaf: &Path) -> std::io::Result<()> {
        if leaf.as_os_str().is_empty() { Ok(()) } else { fs::create_dir(leaf) }
    }

    /// Removes an empty leaf. One that is not empty yet is removed with the next start of the slave.
    pub fn remove(&self, leaf: &Path) {
        if !leaf.as_os_str().is_empty() {
            let _ = fs::remove_dir(leaf);
        }
    }

    /// Removes leaves that are empty and belong to nobody.
    pub fn sweep(&self, kept: &BTreeSet<PathBuf>) {
        let Some(entries) = self.base.as_ref().and_then(|base| fs::read_dir(base).ok()) else { return };
        for entry in entries.flatten().filter(|entry| !kept.contains(&entry.path())) {
            // Only an empty group can be removed, so nothing is lost by trying.
            let _ = fs::remove_dir(entry.path());
        }
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

/// The directory of this process's own cgroup v2 group.
fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    Some(mount.join(path))
}

/// A group of this slave's own in there, if one can be made and killed.
fn usable(own: &Path, data: &Path) -> Option<PathBuf> {
    let name = Digest::of(data.as_os_str().as_encoded_bytes()).short();
    let base = own.join(format!("minder-{name}"));
    fs::create_dir_all(&base).ok()?;
    base.join("cgroup.kill").exists().then_some(base)
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
