//! What processes and the machine cost and offer, as the kernel counts it.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Syncs that show what the disk costs.
const SYNCS: usize = 300;

/// CPU time of a process so far, to the nanosecond: idle processes use less than a tick in a second. Threads that have
/// ended are not in it.
pub fn cpu_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

/// The machine's load averages.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a benchmark stands on: cores, memory, kernel, load, and what a synced append costs in this folder, alone and three
/// at once.
pub fn conditions(folder: &Path) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |label: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(label));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() >> 10
    };
    let (alone, alone_worst) = sync_cost(folder, 1);
    let (shared, shared_worst) = sync_cost(folder, 3);
    format!(
        "{cores} cores, {} MiB memory ({} free), kernel {}, load {}; 4 KiB append + fdatasync p50 {alone:.0?} (p99 {alone_worst:.0?}), three at once {shared:.0?} ({shared_worst:.0?})",
        mib("MemTotal:"),
        mib("MemAvailable:"),
        kernel.trim(),
        load(),
    )
}

/// Median and 99th percentile of a synced append with so many at once.
fn sync_cost(folder: &Path, at_once: usize) -> (Duration, Duration) {
    let append = |number: usize| -> Vec<Duration> {
        let path = folder.join(format!("sync-cost-{number}"));
        let mut file = fs::File::create(&path).unwrap();
        let mut one = || {
            let begin = Instant::now();
            file.write_all(&[0x5a; 4_096]).unwrap();
            nix::unistd::fdatasync(&file).unwrap();
            begin.elapsed()
        };
        let took = (0..SYNCS).map(|_| one()).collect();
        let _ = fs::remove_file(path);
        took
    };
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|number| scope.spawn(move || append(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    (percentile(&took, 50), percentile(&took, 99))
}

/// So many in a hundred of these are at most this long.
pub fn percentile(of: &[Duration], percent: usize) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}
