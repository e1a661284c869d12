//! `chaos`: a cluster of real processes in a network of its own is hurt in many ways at once, by a seed, while writers,
//! readers, watchers and operators go on; then it is left alone and must be well again; and all of it is judged. Settings are
//! variables of the environment: `MINUTES`, `SEED`, `MANAGERS` (3 or 5), `HOSTS`, and `KINDS`, the only faults to try.
//!
//! Exit codes: 0 passed, 1 a promise is broken, 3 inconclusive: what was to be tried could not be seen to happen.
#![allow(clippy::unwrap_used)]

mod fleet;
mod operator;
mod registers;
mod report;
mod sampler;
mod schedule;
mod settle;
mod workload;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use minder_chaos_tests::{FOLDER, World, WorldShape};

use crate::{report::Report, schedule::Schedule, workload::Workload};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long faults are begun.
    pub duration: Duration,
    /// What fixes chance.
    pub seed: u64,
    /// How many of what.
    pub shape: WorldShape,
    /// Only these kinds of faults; all when empty.
    pub kinds: Vec<String>,
}

impl Settings {
    fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let number = |name: &str, default: u64| {
            text(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let minutes: f64 = text("MINUTES").map_or(1.0, |text| text.parse().expect("MINUTES is a number"));
        let kinds = text("KINDS").unwrap_or_default();
        Self {
            duration: Duration::from_secs_f64(minutes * 60.0),
            seed: number("SEED", 1),
            shape: WorldShape { managers: number("MANAGERS", 3) as usize, hosts: number("HOSTS", 3) as usize },
            kinds: kinds.split([',', ' ']).filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        }
    }
}

fn main() -> ExitCode {
    let settings = Settings::from_environment();
    let folder = std::env::temp_dir().join(format!("{FOLDER}{}-{}", std::process::id(), settings.seed));
    std::fs::create_dir(&folder).unwrap();
    // Before there is another thread: all of them are to be at the node from which everybody asks.
    let world = Arc::new(World::lay_out(settings.shape, folder.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let report = runtime.block_on(run(&settings, &world));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let logs = report.verdict().is_pass().then(Vec::new).unwrap_or_else(|| last_words(&folder));
    drop(world);
    end(&report, &folder, &logs)
}

async fn run(settings: &Settings, world: &Arc<World>) -> Report {
    let mut report = Report::new(settings);
    if let Err(why) = world.begin().await {
        report.broken("the cluster forms", why);
        return report;
    }
    let workload = Workload::new(world.clone(), settings.seed);
    if let Err(why) = fleet::declare(world).await {
        report.broken("the fleet is declared", why);
        return report;
    }
    workload.begin();
    let mut schedule = Schedule::new(world.clone(), settings);
    report.skipped(schedule.skipped());
    let begin = Instant::now();
    while begin.elapsed() < settings.duration && !report.is_hopeless() {
        let left = settings.duration - begin.elapsed();
        report.faults(schedule.round(left).await);
        report.settled(settle::settle(world, &workload).await);
    }
    workload.end().await;
    report.judge(world, &workload).await;
    report
}

/// The end of each program's log.
fn last_words(folder: &std::path::Path) -> Vec<String> {
    let mut logs: Vec<PathBuf> =
        std::fs::read_dir(folder.join("logs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.sort();
    let words = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join("\n    ");
        format!("{}:\n    {last}", path.file_name().unwrap().display())
    };
    logs.iter().map(words).collect()
}

fn end(report: &Report, folder: &std::path::Path, logs: &[String]) -> ExitCode {
    println!("{report}");
    if report.verdict().is_pass() {
        std::fs::remove_dir_all(folder).unwrap();
        return ExitCode::SUCCESS;
    }
    println!("last events:\n{}", logs.join("\n"));
    println!("everything is kept in {} (disks of managers are ext4 images)", folder.display());
    println!("again: {}", report.line());
    ExitCode::from(if report.verdict().is_broken() { 1 } else { 3 })
}
