//! What all that was seen comes to. The judges share no code with what they judge.

use std::fmt;

use minder_chaos_tests::oracle::{Verdict, managers, search, watch, witness};

use crate::{shared::Shared, world::FIRST_WATCHER};

/// Windows of each process in which any order is searched for, and how long each is.
const WINDOWS: u64 = 10;
const WINDOW_US: u64 = 1_500_000;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Every promise held.
    Passed,
    /// A promise was broken.
    Failed(String),
    /// Something that was to be tried could not be seen to happen.
    Inconclusive(String),
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Inconclusive(why) => write!(f, "inconclusive: {why}"),
        }
    }
}

/// Judges everything that clients saw.
pub fn judge(shared: &Shared) -> Judgement {
    let (records, watched, looks) = shared.seen();
    let watchers: std::collections::BTreeSet<u64> = watched.iter().map(|watch| watch.client).collect();
    let chains = watchers.iter().map(|client| watch::chain(&watched, *client));
    let blind = |chain: &watch::Chain| chain.blind.iter().map(|(after, upto)| upto - after).sum::<u64>();
    // The one that missed the least.
    let Some(chain) = chains.min_by_key(|chain| (blind(chain), u64::MAX - chain.upto)) else {
        return Judgement::Inconclusive(format!("watcher {FIRST_WATCHER} and its like saw nothing"));
    };
    let verdicts = [
        ("every answer fits one order of all writes", witness::check(&records, &chain)),
        ("some order explains what was read", search::check(&records, WINDOWS, WINDOW_US)),
        ("watches are whole", watch::check(&watched, &chain)),
        ("managers have equal states", managers::equal_states(&looks)),
        ("nothing goes back", managers::never_back(&looks)),
    ];
    for (what, verdict) in &verdicts {
        tracing::info!("{what}: {verdict}");
    }
    let found = |broken: bool| {
        let mut of_kind = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Broken(_)) == broken);
        of_kind.find(|(_, verdict)| !verdict.holds()).map(|(what, verdict)| format!("{what}: {verdict}"))
    };
    match (found(true), found(false)) {
        (Some(broken), _) => Judgement::Failed(broken),
        (None, Some(unsure)) => Judgement::Inconclusive(unsure),
        (None, None) => Judgement::Passed,
    }
}
