//! The simulator is tested: a known bug is put in, and a seed finds it.
#![allow(missing_docs)]

use minder_sim::{Options, Planted, run};

/// Each bug with the first seed that finds it.
const FOUND_BY: [(&str, u64); 38] = [
    ("ack-before-quorum", 1),
    ("answers-not-in-snapshot", 2),
    ("bundles-kept", 1),
    ("clock-in-apply", 1),
    ("count-lost", 43),
    ("end-before-empty", 2),
    ("exit-lost", 3),
    ("expectation-ignored", 1),
    ("fence-ignored", 19),
    ("forgotten-alive", 2),
    ("forgotten-and-assigned", 5483),
    ("gone-not-reported", 2),
    ("intent-after-fork", 17),
    ("kill-of-main-alone", 2),
    ("later-session-dropped", 9),
    ("lease-of-paused-leader", 18),
    ("local-before-assigned", 67),
    ("local-stop-lost", 7),
    ("lost-shown-stopped", 21),
    ("nonce-ignored", 2),
    ("number-used-again", 15),
    ("old-observations", 2),
    ("order-in-apply", 1),
    ("pid-alone", 203),
    ("position-before-rows", 1),
    ("read-before-apply", 22),
    ("read-index-reused", 219),
    ("reboot-is-exit", 4),
    ("refusal-ignored", 2),
    ("repeat-is-new", 1),
    ("sessions-not-woken", 1),
    ("signal-before-saved", 5),
    ("takeover-kills", 1),
    ("timer-survives-stop", 2),
    ("told-before-saved", 21),
    ("wake-lost", 66),
    ("watch-resumes-at", 1),
    ("watch-skips", 2),
];

#[test]
fn every_planted_bug_is_found_by_its_seed() {
    for (name, seed) in FOUND_BY {
        let planted = Planted::ALL.iter().copied().find(|planted| planted.name() == name);
        assert!(planted.is_some(), "{name} is no planted bug");
        let ran = run(&Options::of(seed), planted, false);
        assert!(ran.failure.is_some(), "make sim PLANTED={name} SEED={seed} finds nothing");
    }
}

#[test]
fn every_planted_bug_is_accounted_for() {
    let listed = |name: &str| FOUND_BY.iter().any(|(found, _)| *found == name);
    let missing: Vec<_> = Planted::ALL.iter().map(|planted| planted.name()).filter(|name| !listed(name)).collect();
    assert!(missing.is_empty(), "{missing:?} stand in no table");
    assert_eq!(Planted::ALL.len(), FOUND_BY.len());
}
