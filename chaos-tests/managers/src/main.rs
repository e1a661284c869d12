//! Runs seeds, each in a process of its own: `minder-managers-sim --seeds 300`; one of them again with
//! `--seed 17 --seeds 1 --lines`.

mod report;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use minder_managers_sim::{Options, Planted, Run, run_once};

use report::{LOG, Sum};

/// Whole managers under seeds.
#[derive(Debug, Clone, Parser)]
pub struct Flags {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Simulated seconds of each.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// A known bug to put in; `list` names them all.
    #[arg(long)]
    planted: Option<String>,
    /// Print what happened in each.
    #[arg(long)]
    lines: bool,
    /// Run each seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// End after so many failures.
    #[arg(long, default_value_t = 3)]
    failures: usize,
    /// Where a failure leaves everything.
    #[arg(long, default_value = "sim-failures")]
    keep: PathBuf,
    /// Seeds at once.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run the one seed in this process, with its folders there, and tell what came of it.
    #[arg(long, hide = true)]
    world: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let planted = match flags.planted.as_deref().map(|name| (name, Planted::named(name))) {
        None => None,
        Some((_, Some(planted))) => Some(planted),
        Some((name, None)) => {
            Planted::ALL.iter().for_each(|planted| println!("{planted}"));
            return if name == "list" { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if let Some(folder) = &flags.world {
        return world(&flags, planted, folder);
    }
    let begin = Instant::now();
    let sum = run_all(&flags);
    sum.tell(&flags, begin.elapsed());
    if sum.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The one world of this process.
fn world(flags: &Flags, planted: Option<Planted>, folder: &Path) -> ExitCode {
    let Ok(log) = File::create(folder.join(LOG)) else { return ExitCode::FAILURE };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info,openraft=error,turmoil=warn,turmoil::sim=info"))
        .with_writer(Mutex::new(log))
        .with_timer(report::Simulated)
        .with_target(false)
        .with_ansi(false)
        .init();
    let run = run_once(&Options::of(flags.seed, flags.seconds), planted, folder);
    match serde_json::to_string(&run) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::SUCCESS
}

/// All seeds over all cores; no new one after enough failures.
fn run_all(flags: &Flags) -> Sum {
    let next = AtomicU64::new(flags.seed);
    let enough = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let jobs = flags.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= flags.seed + flags.seeds || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let run = one(flags, seed);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(run);
                    enough.store(sum.failures() >= flags.failures, Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(flags: &Flags, seed: u64) -> Run {
    let mut run = in_a_process(flags, seed);
    if flags.twice && run.passed {
        let other = in_a_process(flags, seed);
        if (run.hash, run.events) != (other.hash, other.events) {
            run.passed = false;
            run.judgement = format!(
                "failed: the same seed gave another world: {:016x} of {} events, then {:016x} of {}",
                run.hash, run.events, other.hash, other.events
            );
        }
    }
    run
}

/// Disks are simulated, so memory will do where there is such a folder: it waits for nobody else's syncs.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Runs a seed; what it leaves is kept where it did not pass.
fn in_a_process(flags: &Flags, seed: u64) -> Run {
    let failed = |why: String| Run { seed, judgement: format!("failed: {why}"), ..Run::default() };
    let ran = || -> std::io::Result<Run> {
        let folder = tempfile::Builder::new().prefix("minder-managers-").tempdir_in(scratch())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--seed", &seed.to_string(), "--seconds", &flags.seconds.to_string()]);
        command.arg("--world").arg(folder.path());
        if let Some(planted) = &flags.planted {
            command.args(["--planted", planted]);
        }
        let output = command.output()?;
        let run = match serde_json::from_slice::<Run>(&output.stdout) {
            Ok(run) => run,
            Err(_) => failed(format!(
                "the process of the world ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )),
        };
        if flags.lines {
            println!("{}", std::fs::read_to_string(folder.path().join(LOG))?);
        }
        if !run.passed {
            report::keep(flags, seed, folder.path())?;
        }
        Ok(run)
    };
    ran().unwrap_or_else(|error| failed(format!("the harness: {error}")))
}
