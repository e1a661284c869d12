//! Managers as they show themselves: equal states at equal indices, and nothing that goes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// One look at one manager, by what any client can ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When, in microseconds after the history began.
    pub at_us: u64,
    /// Its node id.
    pub manager: u64,
    /// Which start of it, counted by whoever started it.
    pub run: u64,
    /// Its term.
    pub term: u64,
    /// What it knows to be committed.
    pub committed: u64,
    /// What it has applied.
    pub applied: u64,
    /// The hash of its state there.
    pub state_hash: String,
}

/// All managers that have applied the same entries have the same state.
pub fn equal_states(looks: &[Look]) -> Verdict {
    let mut hashes: BTreeMap<u64, &Look> = BTreeMap::new();
    let (mut findings, mut compared) = (Vec::new(), 0);
    for look in looks {
        match hashes.get(&look.applied) {
            None => {
                hashes.insert(look.applied, look);
            }
            Some(first) => {
                compared += 1;
                if first.state_hash != look.state_hash {
                    findings.push(format!(
                        "at revision {} manager {} has state {} and manager {} has {}",
                        look.applied, first.manager, first.state_hash, look.manager, look.state_hash
                    ));
                }
            }
        }
    }
    Verdict::of(findings, compared)
}

/// Terms never go back, over restarts as well; committed and applied never do while a manager runs.
pub fn never_back(looks: &[Look]) -> Verdict {
    let mut latest: BTreeMap<u64, &Look> = BTreeMap::new();
    let (mut findings, mut compared) = (Vec::new(), 0);
    for look in looks {
        if let Some(before) = latest.insert(look.manager, look) {
            compared += 1;
            let mut back = |what: &str, from: u64, to: u64| {
                if to < from {
                    findings.push(format!("manager {}: {what} went back from {from} to {to}", look.manager));
                }
            };
            back("its term", before.term, look.term);
            if before.run == look.run {
                back("what it knows to be committed", before.committed, look.committed);
                back("what it has applied", before.applied, look.applied);
            }
        }
    }
    Verdict::of(findings, compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(manager: u64, run: u64, term: u64, applied: u64, state_hash: &str) -> Look {
        Look { at_us: 0, manager, run, term, committed: applied, applied, state_hash: state_hash.into() }
    }

    #[test]
    fn managers_that_agree_are_good() {
        let looks = [look(1, 1, 1, 5, "x"), look(2, 1, 1, 5, "x"), look(1, 2, 2, 3, "w"), look(2, 1, 2, 6, "y")];
        assert_eq!(equal_states(&looks), Verdict::Holds { checked: 1 });
        assert_eq!(never_back(&looks), Verdict::Holds { checked: 2 });
    }

    #[test]
    fn planted_mistakes_are_found() {
        let broken = |verdict: Verdict, expected: &str| match verdict {
            Verdict::Broken(findings) => assert!(findings.iter().any(|found| found.contains(expected)), "{findings:?}"),
            other => panic!("{expected}: {other}"),
        };
        broken(equal_states(&[look(1, 1, 1, 5, "x"), look(2, 1, 1, 5, "y")]), "at revision 5");
        broken(never_back(&[look(1, 1, 2, 5, "x"), look(1, 2, 1, 5, "x")]), "its term");
        broken(never_back(&[look(1, 1, 1, 5, "x"), look(1, 1, 1, 4, "x")]), "has applied");
        assert!(matches!(equal_states(&[look(1, 1, 1, 5, "x")]), Verdict::Inconclusive(_)));
    }
}
