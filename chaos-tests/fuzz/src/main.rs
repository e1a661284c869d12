//! `minder-fuzz`: fuzzes one target after the other and says how many inputs it tried and what it found.
//!
//! `make fuzz` builds it with libFuzzer, which keeps the inputs that reach something new. Without, inputs are changed at
//! random, by a seed. A broken promise names the target, the seed and the line that runs the input again, which is kept.

#[cfg(feature = "guided")]
mod guided;
#[cfg(not(feature = "guided"))]
mod plain;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
#[cfg(feature = "guided")]
use guided as engine;
use minder_fuzz::{
    corpus, judge, seeds,
    targets::{self, TARGETS, Target},
};
#[cfg(not(feature = "guided"))]
use plain as engine;

/// Tries every reader of bytes from outside on inputs that nobody wrote
#[derive(Debug, Parser)]
struct Flags {
    /// Targets, several with commas [default: all]
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// How long each target is tried at most
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many inputs each target gets at most; 0 is no limit
    #[arg(long, default_value_t = 0)]
    inputs: u64,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of what breaks something, and of the inputs that reach something new
    #[arg(long, default_value = "target/fuzz")]
    keep: PathBuf,
    /// Runs this input alone, on the one target that is named
    #[arg(long)]
    input: Option<PathBuf>,
    /// Says which targets there are
    #[arg(long)]
    list: bool,
}

/// What a target is tried with.
struct Budget {
    time: Duration,
    /// 0 is no limit.
    inputs: u64,
    seed: u64,
    keep: PathBuf,
}

/// What came of it.
struct Tried {
    inputs: u64,
    took: Duration,
    /// What the engine says besides, for people.
    more: String,
    broken: Option<Broken>,
}

/// A promise was broken.
struct Broken {
    why: String,
    /// Where the input is kept.
    kept: PathBuf,
}

fn main() -> ExitCode {
    #[cfg(feature = "guided")]
    if let Some(code) = guided::child() {
        return code;
    }
    match run(Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("minder-fuzz: {problem:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was broken.
fn run(flags: Flags) -> anyhow::Result<bool> {
    if flags.list {
        TARGETS.iter().for_each(|target| println!("{:<12} {}", target.name, target.about));
        return Ok(true);
    }
    let chosen = chosen(&flags.targets)?;
    if let Some(path) = &flags.input {
        return again(&chosen, path);
    }
    let budget = Budget {
        time: Duration::from_secs_f64(flags.minutes * 60.0),
        inputs: flags.inputs,
        seed: flags.seed,
        keep: flags.keep,
    };
    std::fs::create_dir_all(&budget.keep).with_context(|| format!("cannot make {}", budget.keep.display()))?;
    let (mut all, mut broken) = (0, 0);
    for target in chosen {
        let begin = inputs(target)?;
        let tried = engine::fuzz(target, &begin, &budget)?;
        report(target, &tried, &budget);
        all += tried.inputs;
        broken += usize::from(tried.broken.is_some());
    }
    println!("inputs: {all}, broken targets: {broken}");
    Ok(broken == 0)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| targets::find(name).with_context(|| format!("no target {name}; --list names them"));
    names.iter().map(find).collect()
}

/// What a target begins with: the repository's inputs, and those that the real writers make.
fn inputs(target: &Target) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = corpus::folder(target);
    let mut inputs = corpus::read(target).with_context(|| format!("cannot read {}", folder.display()))?;
    let made = seeds::made().into_iter().filter(|(name, _, _)| *name == target.name);
    inputs.extend(made.map(|(_, name, bytes)| (name, bytes)));
    Ok(inputs)
}

fn again(chosen: &[&Target], path: &Path) -> anyhow::Result<bool> {
    let [target] = chosen else { anyhow::bail!("name the one target that the input is for: --targets NAME") };
    let input = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    judge::listen();
    match judge::judge(target, &input) {
        Ok(()) => println!("{}: all is well with {} bytes", target.name, input.len()),
        Err(why) => println!("{}: {why}", target.name),
    }
    Ok(judge::judge(target, &input).is_ok())
}

fn report(target: &Target, tried: &Tried, budget: &Budget) {
    let rate = tried.inputs as f64 / tried.took.as_secs_f64().max(0.001);
    println!(
        "{:<12} {:>11} inputs in {:>5.1} s, {:>8.0}/s{}",
        target.name,
        tried.inputs,
        tried.took.as_secs_f64(),
        rate,
        tried.more
    );
    if let Some(Broken { why, kept }) = &tried.broken {
        println!("  BROKEN by an input of seed {}: {why}", budget.seed);
        println!("  run it again: make fuzz TARGETS={} INPUT={}", target.name, kept.display());
    }
}
