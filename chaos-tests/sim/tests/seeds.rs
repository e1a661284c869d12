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

/// Some three seconds of one core, and some ninety simulated hours.
#[test]
fn no_long_life_breaks_a_promise() {
    let runs: Vec<_> = (20_001..20_007).map(|seed| (seed, run(&Options::long(seed), None, false))).collect();
    for (seed, ran) in &runs {
        assert_eq!(ran.failure, None, "again: make sim LONG=1 SEED={seed}\n{}", Options::long(*seed));
    }
    let sum = |of: fn(&minder_sim::Run) -> u64| runs.iter().map(|(_, run)| of(run)).sum::<u64>();
    let hours = sum(|run| run.simulated_ms) / 3_600_000;
    assert!(hours > 40, "{hours} simulated hours");
    // By night something happens as well: as often as this in days alone it does not.
    let faults: u64 = runs.iter().flat_map(|(_, run)| run.faults.values()).sum();
    assert!(faults > hours * 2, "{faults} faults in {hours} hours");
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
