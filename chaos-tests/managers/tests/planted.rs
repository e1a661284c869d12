//! The simulation is tested: a known bug is put in, and a seed finds it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

use minder_managers_sim::Planted;

/// Each bug with a seed that finds it, and a word of what is found.
const FOUND_BY: [(&str, &str, &str); 9] = [
    ("applied-without-rows", "1", "managers are in step"),
    ("folder-goes-back", "1", "both lead in term"),
    ("log-not-synced", "1", "quarantine"),
    ("nothing-synced", "1", "quarantine"),
    ("reads-unconfirmed", "3", "had been answered before"),
    ("requests-forgotten", "1", "said again"),
    ("truncates-too-much", "4", "missing"),
    ("vote-before-sync", "47", "nothing goes back"),
    ("votes-not-synced", "2", "its vote is older"),
];
/// Bugs that the first seeds do not find: what the simulation is still too weak for. The first of them shows when all lose
/// power while something is acknowledged and nobody's disk has it, which one seed in forty or so comes to.
const NOT_FOUND: [&str; 2] = ["append-before-sync", "snapshot-without-applied"];

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

#[test]
fn every_planted_bug_is_accounted_for() {
    let listed = |name: &str| FOUND_BY.iter().any(|(found, ..)| *found == name) || NOT_FOUND.contains(&name);
    let missing: Vec<_> = Planted::ALL.iter().map(|planted| planted.name()).filter(|name| !listed(name)).collect();
    assert!(missing.is_empty(), "{missing:?} stand in no table");
    assert_eq!(Planted::ALL.len(), FOUND_BY.len() + NOT_FOUND.len());
}
