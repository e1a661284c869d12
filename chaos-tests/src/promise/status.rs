//! The status shown is true or says how old it is: what was shown as running had begun, and had not ended for longer than
//! its age; what was shown as down was not alive all that time.

use super::{Account, Finding, Fleet, blows, seconds};
use crate::Note;

/// Beside the age shown: a silent host is noticed within 2 s here, and an end is told within another 2; a busy machine is
/// given room.
const SLACK_NS: u64 = 6_000_000_000;

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for note in &fleet.notes {
        let Note::Shown { instance, called, returned, up, incarnation, age_ms } = note else { continue };
        finding.checked += 1;
        let nothing = Account::default();
        let account = fleet.accounts.get(instance).unwrap_or(&nothing);
        let since = called.saturating_sub(age_ms * 1_000_000 + SLACK_NS);
        match up {
            true => {
                let began = account.starts.iter().find(|(one, _)| one == incarnation).map(|(_, at)| *at);
                // A program says that it has begun a little after its slave knows.
                if began.is_none_or(|began| began > returned + SLACK_NS) {
                    finding.broken.push(format!("{instance} {incarnation} was shown as running and has never begun"));
                } else if let Some(over) = over_at(fleet, instance, account, *incarnation).filter(|over| *over < since)
                {
                    let late = seconds(since - over);
                    finding
                        .broken
                        .push(format!("{instance} {incarnation} was shown as running {late} after it was over"));
                }
            }
            false => {
                let alive = |(one, began): &&(u64, u64)| {
                    *began < since && over_at(fleet, instance, account, *one).is_none_or(|over| over > *returned)
                };
                if let Some((one, _)) = account.starts.iter().find(alive) {
                    finding.broken.push(format!("{instance} was shown as down while {one} lived"));
                }
            }
        }
    }
}

/// When an incarnation was over for certain: by its own word, by a blow, or because the next one had begun.
fn over_at(fleet: &Fleet, instance: &str, account: &Account, incarnation: u64) -> Option<u64> {
    let began = account.starts.iter().find(|(one, _)| *one == incarnation).map(|(_, at)| *at)?;
    let next = account.starts.iter().map(|(_, at)| *at).find(|at| *at > began);
    let blow = blows(fleet, instance).into_iter().find(|at| *at > began);
    [account.end_of(incarnation), next, blow].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn a_status_that_is_neither_true_nor_old_is_seen() {
        let at = |second: u64| second * 1_000_000_000;
        let of = |account: &str, second: u64, up, incarnation, age_ms| {
            let (called, returned) = (at(second), at(second) + 1);
            let shown = Note::Shown { instance: "a:1@h".into(), called, returned, up, incarnation, age_ms };
            broken(judge, &fleet("a:1@h", account, vec![shown]))
        };
        let account = format!("start 1 {}\nend 1 {} c1\n", at(10), at(50));
        assert_eq!(of(&account, 30, true, 1, 0), 0);
        assert_eq!(of(&account, 30, true, 2, 0), 1, "it has never begun");
        assert_eq!(of(&account, 52, true, 1, 0), 0, "it was over just now");
        assert_eq!(of(&account, 70, true, 1, 0), 1);
        assert_eq!(of(&account, 70, true, 1, 20_000), 0, "it says how old it is");
        assert_eq!(of(&account, 30, false, 1, 0), 1, "it lived");
        assert_eq!(of(&account, 60, false, 1, 0), 0);
    }
}
