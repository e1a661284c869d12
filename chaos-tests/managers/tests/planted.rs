//! The simulation is tested: a known bug is put in, and a seed finds it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeSet, process::Command};

use minder_managers_sim::Planted;

/// Each bug with the seed that finds it, and words of which one is in what is found.
const FOUND_BY: [(&str, u64, &[&str]); 11] = [
    ("append-before-sync", 78, &["every answer fits one order of all writes"]),
    ("applied-without-rows", 1, &["managers are in step"]),
    ("folder-goes-back", 2, &["had been answered before", "both lead in term"]),
    ("log-not-synced", 1, &["quarantine"]),
    ("nothing-synced", 2, &["quarantine"]),
    ("reads-unconfirmed", 2, &["had been answered before"]),
    ("requests-forgotten", 1, &["said again"]),
    ("snapshot-without-applied", 5, &["state and snapshots reach only", "managers have equal states"]),
    ("truncates-too-much", 7, &["missing"]),
    ("vote-before-sync", 4, &["nothing goes back", "both lead in term"]),
    ("votes-not-synced", 4, &["its vote is older"]),
];
/// Whatever changes when managers do what makes a run of the same seed another one. Then the first of so many must find the
/// bug, which takes longer; the seed above is to be the one that this test names.
const SEEDS: u64 = 100;

#[test]
fn every_planted_bug_is_found() {
    for (name, seed, words) in FOUND_BY {
        if finds(name, seed, words) {
            continue;
        }
        let found = (1..=SEEDS).find(|seed| finds(name, *seed, words));
        println!("{name} is found by seed {found:?} now, not by {seed}");
        assert!(found.is_some(), "{name}: none of {SEEDS} seeds finds it");
    }
}

fn finds(name: &str, seed: u64, words: &[&str]) -> bool {
    let keep = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_minder-managers-sim"));
    command.args(["--seed", &seed.to_string(), "--planted", name, "--keep"]).arg(keep.path());
    let said = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
    said.contains("1 failed") && words.iter().any(|word| said.contains(word))
}

#[test]
fn every_planted_bug_is_in_the_table() {
    let listed: BTreeSet<&str> = FOUND_BY.iter().map(|(name, ..)| *name).collect();
    let planted: BTreeSet<&str> = Planted::ALL.iter().map(|planted| planted.name()).collect();
    assert_eq!(listed, planted);
}
