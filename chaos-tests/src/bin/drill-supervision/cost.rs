//! What a drill costs the machine, as the kernel counts it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use minder_chaos_tests::Cluster;
use nix::unistd::{SysconfVar, sysconf};

/// Counted so far.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// When it was.
    pub at: Instant,
    /// CPU time of the slave itself, and of the manager.
    pub slave_cpu: Duration,
    pub manager_cpu: Duration,
    /// CPU time that anybody on the machine took.
    pub machine_cpu: Duration,
    /// Bytes that the slave gave to the disk.
    pub slave_disk_bytes: u64,
    /// Bytes over loopback, those of others and of the kernel's own words included.
    pub wire_bytes: u64,
    /// Resident memory.
    pub slave_rss_bytes: u64,
    pub manager_rss_bytes: u64,
}

impl Cost {
    /// Looks now.
    pub fn of(cluster: &Cluster) -> Self {
        let (slave, manager) = (cluster.slaves[0].pid(), cluster.managers[0].pid());
        Self {
            at: Instant::now(),
            slave_cpu: cpu(slave),
            manager_cpu: cpu(manager),
            machine_cpu: machine_cpu(),
            slave_disk_bytes: number_after(&format!("/proc/{slave}/io"), "write_bytes:"),
            wire_bytes: loopback_bytes(),
            slave_rss_bytes: number_after(&format!("/proc/{slave}/status"), "VmRSS:") << 10,
            manager_rss_bytes: number_after(&format!("/proc/{manager}/status"), "VmRSS:") << 10,
        }
    }
}

/// Bytes of all files below a folder, and how many they are.
pub fn size_of(folder: &Path) -> (u64, u64) {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // What is gone by now counts as nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        let (more_bytes, more_files) = if metadata.is_dir() { size_of(&entry.path()) } else { (metadata.len(), 1) };
        bytes += more_bytes;
        files += more_files;
    }
    (bytes, files)
}

/// Bytes in the unit people read.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as u64;
    Duration::from_millis(ticks * 1_000 / per_second)
}

fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    ticks([11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum())
}

fn machine_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // User, nice, system; then idle and waiting, which are nobody's; then interrupts.
    ticks(fields.iter().take(3).chain(fields.iter().skip(5).take(2)).sum())
}

fn loopback_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn number_after(file: &str, label: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
