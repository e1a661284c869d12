//! Managers as they show themselves: equal states at equal indices, and nothing that goes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// One look at one manager, by what any client can ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When it was asked, in microseconds after the history began.
    pub call_us: u64,
    /// When its answer was there.
    pub return_us: u64,
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

/// Terms never go back, over restarts as well; committed and applied never do while a manager runs. Of two looks at the same
/// time neither is the later one.
pub fn never_back(looks: &[Look]) -> Verdict {
    let mut managers: BTreeMap<u64, Vec<&Look>> = BTreeMap::new();
    looks.iter().for_each(|look| managers.entry(look.manager).or_default().push(look));
    let (mut findings, mut compared) = (Vec::new(), 0);
    for (manager, mut looks) in managers {
        looks.sort_by_key(|look| look.call_us);
        for look in &looks {
            let before = || looks.iter().filter(|before| before.return_us < look.call_us);
            compared += usize::from(before().next().is_some());
            let mut back = |what: &str, from: Option<u64>, to: u64| {
                if let Some(from) = from.filter(|from| to < *from) {
                    findings.push(format!("manager {manager}: {what} went back from {from} to {to}"));
                }
            };
            let same_run = || before().filter(|before| before.run == look.run);
            back("its term", before().map(|before| before.term).max(), look.term);
            back("what it knows to be committed", same_run().map(|before| before.committed).max(), look.committed);
            back("what it has applied", same_run().map(|before| before.applied).max(), look.applied);
        }
    }
    Verdict::of(findings, compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, manager: u64, run: u64, term: u64, applied: u64, state_hash: &str) -> Look {
        let (call_us, return_us, state_hash) = (10 * at, 10 * at + 1, state_hash.into());
        Look { call_us, return_us, manager, run, term, committed: applied, applied, state_hash }
    }

    #[test]
    fn managers_that_agree_are_good() {
        let looks = [
            look(1, 1, 1, 1, 5, "x"),
            look(1, 2, 1, 1, 5, "x"),
            look(2, 1, 2, 2, 3, "w"),
            look(2, 2, 1, 2, 6, "y"),
            // Asked before the one above was answered, answered after it.
            Look { call_us: 20, return_us: 40, ..look(2, 2, 1, 1, 5, "x") },
        ];
        assert_eq!(equal_states(&looks), Verdict::Holds { checked: 2 });
        assert_eq!(never_back(&looks), Verdict::Holds { checked: 3 });
    }

    #[test]
    fn planted_mistakes_are_found() {
        let broken = |verdict: Verdict, expected: &str| match verdict {
            Verdict::Broken(findings) => assert!(findings.iter().any(|found| found.contains(expected)), "{findings:?}"),
            other => panic!("{expected}: {other}"),
        };
        broken(equal_states(&[look(1, 1, 1, 1, 5, "x"), look(2, 2, 1, 1, 5, "y")]), "at revision 5");
        broken(never_back(&[look(1, 1, 1, 2, 5, "x"), look(2, 1, 2, 1, 5, "x")]), "its term");
        broken(never_back(&[look(1, 1, 1, 1, 5, "x"), look(2, 1, 1, 1, 4, "x")]), "has applied");
        assert!(matches!(equal_states(&[look(1, 1, 1, 1, 5, "x")]), Verdict::Inconclusive(_)));
    }
}
