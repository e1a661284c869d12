//! A process outlives slave, manager and network trouble: those that nobody orders about and that do not end by themselves
//! are never told to end, and begin again only after somebody has killed them or switched off their machine.

use super::{Finding, Fleet, blows, process_of, seconds};

/// Processes of this name only run.
pub(super) const STEADY: &str = "steady";

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (instance, account) in fleet.accounts.iter().filter(|(instance, _)| process_of(instance) == STEADY) {
        finding.checked += account.starts.len();
        let blows = blows(fleet, instance);
        for (incarnation, at, how) in &account.ends {
            finding.broken.push(format!("{instance} {incarnation} was told to end at {} ({how})", seconds(*at)));
        }
        for pair in account.starts.windows(2) {
            let ((_, before), (incarnation, began)) = (pair[0], pair[1]);
            if !blows.iter().any(|at| before < *at && *at < began) {
                finding.broken.push(format!("{instance} {incarnation} began at {} for no reason", seconds(began)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::Note;

    #[test]
    fn a_restart_for_no_reason_is_seen() {
        let killed = Note::Killed { instance: "steady:1@h".into(), at: 15 };
        let of = |account, notes| broken(judge, &fleet("steady:1@h", account, notes));
        assert_eq!(of("start 1 10\n", vec![]), 0);
        assert_eq!(of("start 1 10\nstart 2 20\n", vec![]), 1);
        assert_eq!(of("start 1 10\nstart 2 20\n", vec![killed.clone()]), 0);
        assert_eq!(of("start 1 10\nstart 2 20\nstart 3 30\n", vec![killed]), 1);
        assert_eq!(of("start 1 10\nend 1 12 c0\n", vec![]), 1);
    }
}
