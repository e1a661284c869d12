//! A share of what `make sim` runs: no seed breaks a promise, and one seed is one world.
#![allow(missing_docs)]

use minder_sim::{Options, run};

/// About five seconds of one core.
const SEEDS: u64 = 600;
/// Seeds that found something once: each stands for a bug in Minder or in the simulator itself.
const REGRESSIONS: [u64; 11] = [40, 78, 121, 141, 167, 496, 1_142, 2_758, 3_013, 4_018, 5_619];

#[test]
fn no_seed_breaks_a_promise() {
    for seed in REGRESSIONS.into_iter().chain(20_001..20_001 + SEEDS) {
        let ran = run(&Options::of(seed), None, false);
        assert_eq!(ran.failure, None, "seed {seed}; again: make sim SEED={seed}\n{}", Options::of(seed));
    }
}

#[test]
fn a_seed_is_one_world() {
    for seed in 1..20 {
        let [one, other] = [false, true].map(|with_lines| run(&Options::of(seed), None, with_lines));
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
    }
}

/// A run in which nothing happens shows nothing.
#[test]
fn things_happen() {
    let runs: Vec<_> = (1..40).map(|seed| run(&Options::of(seed), None, false)).collect();
    let sum = |of: fn(&minder_sim::Run) -> u64| runs.iter().map(of).sum::<u64>();
    let faults: std::collections::BTreeSet<&str> = runs.iter().flat_map(|run| run.faults.keys().copied()).collect();
    assert!(faults.len() >= 11, "{faults:?}");
    assert!(sum(|run| run.calls) > 3_000 && sum(|run| run.starts) > 1_500 && sum(|run| run.elections) > 120);
    assert!(sum(|run| run.restarts_judged) > 200);
}
