//! Runs seeds: `minder-sim --seeds 10000`; one of them again with its lines by `--seed 17 --seeds 1 --lines`.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use minder_sim::{Options, Planted, Run, run};

/// The pure world of Minder under seeds.
#[derive(Debug, Parser)]
struct Flags {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// A known bug to put in; `list` names them all.
    #[arg(long)]
    planted: Option<String>,
    /// Long lives: nights of hours, in which little happens, between days of faults.
    #[arg(long)]
    long: bool,
    /// Print what happened in each.
    #[arg(long)]
    lines: bool,
    /// Run each seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// Where a failure leaves its trace.
    #[arg(long, default_value = "sim-failures")]
    keep: PathBuf,
}

impl Flags {
    fn options(&self, seed: u64) -> Options {
        if self.long { Options::long(seed) } else { Options::of(seed) }
    }
}

/// What all seeds came to together.
#[derive(Default)]
struct Sum {
    runs: u64,
    simulated_ms: u64,
    events: u64,
    entries: u64,
    calls: u64,
    starts: u64,
    elections: u64,
    restarts_judged: u64,
    faults: BTreeMap<&'static str, u64>,
    failures: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, run: Run) {
        self.runs += 1;
        self.simulated_ms += run.simulated_ms;
        self.events += run.events;
        self.entries += run.entries;
        self.calls += run.calls;
        self.starts += run.starts;
        self.elections += run.elections;
        self.restarts_judged += run.restarts_judged;
        for (name, count) in run.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.failures.extend(run.failure.map(|failure| (seed, failure)));
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let planted = match flags.planted.as_deref() {
        None => None,
        Some(name) => match Planted::ALL.iter().find(|planted| planted.name() == name) {
            Some(planted) => Some(*planted),
            None => {
                Planted::ALL.iter().for_each(|planted| println!("{:<26} {}", planted.name(), planted.what()));
                return if name == "list" { ExitCode::SUCCESS } else { ExitCode::from(2) };
            }
        },
    };
    let begin = Instant::now();
    let sum = run_all(&flags, planted);
    tell(&sum, begin.elapsed().as_secs_f64());
    for (seed, failure) in sum.failures.iter().take(3) {
        explain(&flags, planted, *seed, failure);
    }
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All seeds over all cores; no new one after the third failure.
fn run_all(flags: &Flags, planted: Option<Planted>) -> Sum {
    let next = AtomicU64::new(flags.seed);
    let enough = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= flags.seed + flags.seeds || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut run = one(flags, planted, seed);
                    if flags.twice && run.hash != one(flags, planted, seed).hash {
                        run.failure = Some("the same seed gave another world".into());
                    }
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(seed, run);
                    enough.store(sum.failures.len() >= 3, Ordering::Relaxed);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort();
    sum
}

fn one(flags: &Flags, planted: Option<Planted>, seed: u64) -> Run {
    let run = run(&flags.options(seed), planted, flags.lines);
    if let Some((_, whole)) = &run.lines {
        println!("{whole}");
    }
    run
}

fn tell(sum: &Sum, seconds: f64) {
    let hours = sum.simulated_ms as f64 / 3_600_000.0;
    println!(
        "{} seeds in {seconds:.1} s: {hours:.1} simulated hours ({:.0} a minute), {} events, {} entries, {} answered \
         calls, {} programs begun, {} restarts by policy judged, {} elections",
        sum.runs,
        hours / seconds * 60.0,
        sum.events,
        sum.entries,
        sum.calls,
        sum.starts,
        sum.restarts_judged,
        sum.elections
    );
    let faults: Vec<String> = sum.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("faults: {}", faults.join(", "));
}

/// The world of a failed seed once more, with its lines.
fn explain(flags: &Flags, planted: Option<Planted>, seed: u64, failure: &str) {
    let options = flags.options(seed);
    let again = run(&options, planted, true);
    let (last, whole) = again.lines.unwrap_or_default();
    println!("\nseed {seed} failed: {failure}\n{options}\nlast of each node:\n{last}");
    let folder = flags.keep.join(format!("seed-{seed}"));
    let text = format!("seed {seed}: {failure}\n{options}\n\n{whole}");
    match fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("trace"), text)) {
        Ok(()) => println!("everything that happened: {}", folder.join("trace").display()),
        Err(error) => println!("the trace cannot be kept in {}: {error}", folder.display()),
    }
    let planted = planted.map(|planted| format!(" PLANTED={planted}")).unwrap_or_default();
    let long = if flags.long { " LONG=1" } else { "" };
    println!("again: make sim SEED={seed}{long}{planted}");
}
