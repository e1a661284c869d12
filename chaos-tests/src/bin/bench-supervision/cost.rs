//! What a peer costs the machine, as the kernel counts it.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::peer::Running;

/// Memory and CPU time of everything that supervises; the children are not in it.
pub struct Cost {
    /// Resident memory of the one process that decides.
    pub main_rss_bytes: u64,
    /// Proportional memory of the processes beside it.
    pub others_pss_bytes: u64,
    /// How many those are.
    pub others: u64,
    /// CPU time of the one that decides, so far.
    pub main_cpu: Duration,
    /// And of all of them.
    pub all_cpu: Duration,
}

impl Cost {
    /// Looks now.
    pub fn of(peer: &Running) -> Self {
        let (main, others) = (peer.main_pid(), peer.other_pids());
        let main_cpu = cpu(main);
        Self {
            main_rss_bytes: kib_after(&format!("/proc/{main}/status"), "VmRSS:") << 10,
            others_pss_bytes: others
                .iter()
                .map(|pid| kib_after(&format!("/proc/{pid}/smaps_rollup"), "Pss:") << 10)
                .sum(),
            others: others.len() as u64,
            main_cpu,
            all_cpu: main_cpu + others.iter().map(|pid| cpu(*pid)).sum::<Duration>(),
        }
    }
}

fn kib_after(file: &str, label: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = |stat: &str| {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as u64;
    Duration::from_millis(ticks(&stat).unwrap_or_default() * 1_000 / per_second)
}
