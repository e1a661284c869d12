//! Inputs by what they reach: libFuzzer, in a process of its own for each target, for it ends with what it has found.

use std::{
    ffi::{CString, c_char, c_int},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::OnceLock,
    time::Instant,
};

use anyhow::Context;
use minder_fuzz::{
    corpus, judge,
    targets::{self, Target},
};

use crate::{Broken, Budget, Tried};

/// The first argument of a process that is libFuzzer's; the target's name follows.
const CHILD: &str = "--libfuzzer";
/// What libFuzzer's process says of a promise that was broken.
const BROKEN: &str = "minder-fuzz: broken: ";
/// Longest input.
const BYTES_MAX: usize = 16 * 1_024;
/// An input that takes so many seconds will not end.
const HANGS_AFTER_S: u32 = 30;
/// Beyond what any input is allowed, and what libFuzzer keeps.
const MEMORY_MIB: u32 = 2_048;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

// Only so that libFuzzer is linked.
use libfuzzer_sys as _;

unsafe extern "C" {
    /// Runs libFuzzer with these arguments on this function. It ends the process by itself when something is found.
    fn LLVMFuzzerRunDriver(
        count: *mut c_int,
        words: *mut *mut *mut c_char,
        run: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

/// What libFuzzer's Rust side calls in programs that leave `main` to it; this one does not.
#[unsafe(no_mangle)]
fn rust_fuzzer_test_input(_: &[u8]) -> i32 {
    0
}

extern "C" fn try_one(bytes: *const u8, length: usize) -> c_int {
    // SAFETY: libFuzzer gives `length` bytes, which stay for the call. An empty input may have no place.
    let input = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(bytes, length) } };
    let Some(target) = TARGET.get() else { return -1 };
    if let Err(why) = judge::judge(target, input) {
        eprintln!("\n{BROKEN}{}", why.replace('\n', " | "));
        std::process::abort();
    }
    0
}

/// Is libFuzzer when the arguments say so.
pub fn child() -> Option<ExitCode> {
    let mut args = std::env::args();
    let program = args.next()?;
    if args.next()? != CHILD {
        return None;
    }
    let target = targets::find(&args.next()?)?;
    TARGET.set(target).ok()?;
    judge::listen();
    let words = std::iter::once(program).chain(args).map(CString::new).collect::<Result<Vec<CString>, _>>().ok()?;
    let mut places: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    let mut count = places.len() as c_int;
    places.push(std::ptr::null_mut());
    let mut first = places.as_mut_ptr();
    // SAFETY: `count` strings and a null behind them, all of which outlive the call.
    let code = unsafe { LLVMFuzzerRunDriver(&mut count, &mut first, try_one) };
    Some(ExitCode::from(code as u8))
}

/// Tries one target until its budget is used up or something is broken.
pub fn fuzz(target: &Target, begin: &[(String, Vec<u8>)], budget: &Budget) -> anyhow::Result<Tried> {
    let reached = budget.keep.join("reached").join(target.name);
    let start = budget.keep.join("begin").join(target.name);
    for folder in [&reached, &start] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for (name, bytes) in begin {
        fs::write(start.join(name), bytes)?;
    }
    let begun = Instant::now();
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD, target.name]).args([&reached, &start]);
    command.arg(format!("-seed={}", budget.seed));
    command.arg(format!("-max_total_time={}", budget.time.as_secs().max(1)));
    if budget.inputs > 0 {
        command.arg(format!("-runs={}", budget.inputs));
    }
    command.arg(format!("-artifact_prefix={}/{}-", budget.keep.display(), target.name));
    command.arg(format!("-max_len={BYTES_MAX}"));
    command.arg(format!("-timeout={HANGS_AFTER_S}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    command.args(["-print_final_stats=1", "-len_control=50"]);
    if let Some(dictionary) = corpus::dictionary(target) {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let output = command.output().context("cannot start libFuzzer")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::write(budget.keep.join(format!("{}.log", target.name)), said.as_bytes())?;
    let broken = (!output.status.success()).then(|| broken(&said, &budget.keep));
    Ok(Tried { inputs: inputs(&said), took: begun.elapsed(), more: more(&said), broken })
}

/// Units that were executed, also by a run that ended early.
fn inputs(said: &str) -> u64 {
    let stat = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let counted = said.lines().filter_map(|line| line.strip_prefix('#')?.split(['\t', ' ', ':']).next()?.parse().ok());
    stat.and_then(|stat| stat.trim().parse().ok()).or_else(|| counted.max()).unwrap_or_default()
}

/// How far it came: places in the code, and inputs that were kept for reaching them.
fn more(said: &str) -> String {
    let Some(last) = said.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: ")) else {
        return String::new();
    };
    let after = |word: &str| last.split(word).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
    format!(", {} places reached, {} inputs kept", after(" cov: "), after(" corp: "))
}

fn broken(said: &str, keep: &Path) -> Broken {
    let why = said.lines().find_map(|line| line.strip_prefix(BROKEN)).map(String::from);
    let word = |start: &str| said.lines().find(|line| line.contains(start)).map(String::from);
    let why = why.or_else(|| word("ERROR: libFuzzer")).or_else(|| said.lines().last().map(String::from));
    let kept = said.lines().find_map(|line| line.split("Test unit written to ").nth(1)).map(PathBuf::from);
    Broken { why: why.unwrap_or_default(), kept: kept.unwrap_or_else(|| keep.to_owned()) }
}
