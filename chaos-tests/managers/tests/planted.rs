//! The simulation is tested: a known bug is put in, and a seed finds it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

/// Each bug with a seed that finds it, and a word of what is found.
const FOUND_BY: [(&str, &str, &str); 0] = [];

#[test]
fn every_planted_bug_is_found_by_its_seed() {
    for (name, seed, word) in FOUND_BY {
        let keep = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_minder-managers-sim"));
        command.args(["--seed", seed, "--planted", name, "--keep"]).arg(keep.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 failed") && said.contains(word), "{name} under seed {seed}: {said}");
    }
}
