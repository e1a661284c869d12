//! A share of what `make sim-managers` runs: no seed breaks a promise, and one seed is one run.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

/// About twenty seconds of two cores.
const SEEDS: &str = "5";
const FIRST: &str = "20001";
/// Simulated seconds of each.
const SECONDS: &str = "20";

fn simulate(args: &[&str]) -> (bool, String) {
    let keep = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_minder-managers-sim"));
    let output = command.args(args).arg("--keep").arg(keep.path()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn no_seed_breaks_a_promise() {
    let (well, said) = simulate(&["--seed", FIRST, "--seeds", SEEDS, "--seconds", SECONDS]);
    assert!(well, "{said}");
    println!("{said}");
}

#[test]
fn a_seed_is_one_run() {
    let (well, said) = simulate(&["--seed", "2", "--seeds", "2", "--seconds", "14", "--twice"]);
    assert!(well, "{said}");
}
