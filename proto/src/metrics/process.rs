//! What every process shows of itself, under the names that Prometheus' own libraries use.

use std::fs;

use super::Metric;

/// CPU time, memory, open files and start of this process. What cannot be read shows as 0.
pub fn process() -> Vec<Metric> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in parentheses, which may have anything in it.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat)).unwrap_or_default();
    vec![
        Metric::counter(
            "process_cpu_seconds",
            "CPU time of this process, in user and in kernel mode",
            (field(14) + field(15)) as f64 / ticks,
        ),
        Metric::gauge(
            "process_resident_memory_bytes",
            "Memory of this process that is in RAM",
            field(24) * rustix::param::page_size() as u64,
        ),
        Metric::gauge(
            "process_open_fds",
            "Open files of this process",
            fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count()),
        ),
        Metric::gauge(
            "process_start_time_seconds",
            "When this process began, in seconds since 1970",
            booted + field(22) as f64 / ticks,
        ),
    ]
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
