//! What all seeds came to together, and what is said of those that failed.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use minder_managers_sim::{Options, Run};
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

use crate::Flags;

/// What all hosts of a world said, with simulated times.
pub const LOG: &str = "log";
/// Last lines of each host that are shown.
const LAST_LINES: usize = 5;
/// Failures that are explained.
const EXPLAINED: usize = 3;

/// The time as the world has it.
pub struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:>9.3}", minder_managers_sim::now_us() as f64 / 1_000_000.0)
    }
}

/// What all seeds came to together.
#[derive(Default)]
pub struct Sum {
    runs: u64,
    simulated_ms: u64,
    events: u64,
    acknowledged: u64,
    calls: u64,
    terms: u64,
    counts: BTreeMap<String, u64>,
    failed: Vec<Run>,
    inconclusive: Vec<Run>,
    hash: u64,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, run: Run) {
        self.runs += 1;
        self.simulated_ms += run.simulated_ms;
        self.events += run.events;
        self.acknowledged += run.acknowledged;
        self.calls += run.calls;
        self.terms += run.terms;
        // The same in whatever order seeds end.
        self.hash = self.hash.wrapping_add(run.hash.wrapping_mul(run.seed | 1));
        for (name, count) in &run.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        match (run.passed, run.inconclusive) {
            (true, _) => {}
            (false, true) => self.inconclusive.push(run),
            (false, false) => self.failed.push(run),
        }
    }

    /// Runs in which a promise was broken.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Whether all passed.
    pub fn is_well(&self) -> bool {
        self.failed.is_empty() && self.inconclusive.is_empty()
    }

    /// Says it.
    pub fn tell(&self, flags: &Flags, took: Duration) {
        println!(
            "{} seeds in {:.1} s: {:.1} simulated minutes, {} calls, {} writes acknowledged, {} terms, {} events, trace \
             {:016x}",
            self.runs,
            took.as_secs_f64(),
            self.simulated_ms as f64 / 60_000.0,
            self.calls,
            self.acknowledged,
            self.terms,
            self.events,
            self.hash
        );
        let counts: Vec<String> = self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("felt: {}", counts.join(", "));
        println!("{} failed, {} inconclusive", self.failed.len(), self.inconclusive.len());
        for run in self.failed.iter().chain(&self.inconclusive).take(EXPLAINED) {
            explain(flags, run);
        }
    }
}

fn folder_of(flags: &Flags, seed: u64) -> PathBuf {
    let planted = flags.planted.as_deref().unwrap_or("managers");
    flags.keep.join(format!("{planted}-seed-{seed}"))
}

/// Keeps everything that a run left.
pub fn keep(flags: &Flags, seed: u64, from: &Path) -> io::Result<()> {
    let to = folder_of(flags, seed);
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    copy_all(from, &to)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn explain(flags: &Flags, run: &Run) {
    let folder = folder_of(flags, run.seed);
    println!("\nseed {} {}\n{}", run.seed, run.judgement, Options::of(run.seed, flags.seconds));
    if let Ok(text) = fs::read_to_string(folder.join(LOG)) {
        println!("last of each host:\n{}", last_lines(&text));
    }
    println!("everything is kept in {}", folder.display());
    let planted = flags.planted.as_ref().map(|planted| format!(" PLANTED={planted}")).unwrap_or_default();
    let seconds = if flags.seconds == 30 { String::new() } else { format!(" SECONDS={}", flags.seconds) };
    println!("again: make sim-managers SEED={}{planted}{seconds}", run.seed);
}

fn last_lines(log: &str) -> String {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in log.lines() {
        let host =
            line.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"')).map_or("the world", |(name, _)| name);
        hosts.entry(host).or_default().push(line);
    }
    let last = |(host, lines): (&str, Vec<&str>)| {
        let from = lines.len().saturating_sub(LAST_LINES);
        format!("  {host}\n    {}\n", lines[from..].join("\n    "))
    };
    hosts.into_iter().map(last).collect()
}
