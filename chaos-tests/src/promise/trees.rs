//! Killing means the whole tree: a twig that hears no signal, in a session of its own, is gone when its instance is said to
//! be stopped, and before the next incarnation begins.

use super::{Finding, Fleet};
use crate::Note;

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (instance, account) in &fleet.accounts {
        finding.checked += account.starts.len();
        let orphans = account.orphans.iter();
        finding
            .broken
            .extend(orphans.map(|(incarnation, _)| format!("{instance} {incarnation} met an earlier one's twig")));
    }
    for note in &fleet.notes {
        if let Note::FoundAlive { instance, twig: true, .. } = note {
            finding.broken.push(format!("{instance} is said to be stopped and a twig of it lives"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn twigs_that_live_on_are_seen() {
        assert_eq!(broken(judge, &fleet("a:1@h", "start 1 10\nstart 2 20\n", vec![])), 0);
        assert_eq!(broken(judge, &fleet("a:1@h", "start 1 10\nstart 2 20\nORPHAN 2 20\n", vec![])), 1);
        let alive = Note::FoundAlive { instance: "a:1@h".into(), at: 15, twig: true };
        assert_eq!(broken(judge, &fleet("a:1@h", "start 1 10\n", vec![alive])), 1);
    }
}
