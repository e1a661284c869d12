//! The simulator is tested: a known bug is put in, and a seed finds it.
#![allow(missing_docs)]

use minder_sim::{Options, Planted, run};

/// Each bug with the first seed that finds it.
const FOUND_BY: [(&str, u64); 33] = [
    ("ack-before-quorum", 2),
    ("answers-not-in-snapshot", 2),
    ("clock-in-apply", 1),
    ("count-lost", 8),
    ("end-before-empty", 1),
    ("exit-lost", 7),
    ("expectation-ignored", 2),
    ("forgotten-alive", 31),
    ("gone-not-reported", 2),
    ("intent-after-fork", 3),
    ("kill-of-main-alone", 1),
    ("later-session-dropped", 40),
    ("lease-of-paused-leader", 163),
    ("local-before-assigned", 496),
    ("local-stop-lost", 7),
    ("lost-shown-stopped", 9),
    ("nonce-ignored", 249),
    ("number-used-again", 167),
    ("old-observations", 52),
    ("order-in-apply", 1),
    ("pid-alone", 460),
    ("position-before-rows", 1),
    ("read-index-reused", 212),
    ("reboot-is-exit", 1),
    ("refusal-ignored", 39),
    ("repeat-is-new", 1),
    ("sessions-not-woken", 1),
    ("signal-before-saved", 491),
    ("takeover-kills", 2),
    ("timer-survives-stop", 2),
    ("told-before-saved", 46),
    ("watch-resumes-at", 1),
    ("watch-skips", 2),
];
/// Bugs that no seed up to 1,200 finds: what the simulator is still too weak for.
const NOT_FOUND: [&str; 4] = ["fence-ignored", "forgotten-and-assigned", "read-before-apply", "wake-lost"];

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
    let listed = |name: &str| FOUND_BY.iter().any(|(found, _)| *found == name) || NOT_FOUND.contains(&name);
    let missing: Vec<_> = Planted::ALL.iter().map(|planted| planted.name()).filter(|name| !listed(name)).collect();
    assert!(missing.is_empty(), "{missing:?} stand in no table");
    assert_eq!(Planted::ALL.len(), FOUND_BY.len() + NOT_FOUND.len());
}
