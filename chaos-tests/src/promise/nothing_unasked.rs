//! What was not asked for does not run: at every start there was a reason that no earlier start had used up: an order, its
//! own end, a kill, a reboot.

use super::{Finding, Fleet, blows, seconds};
use crate::Note;

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (instance, account) in &fleet.accounts {
        let ordered = fleet.notes.iter().filter_map(|note| match note {
            Note::MayStart { instance: allowed, at } if allowed == instance => Some(*at),
            _ => None,
        });
        let ended = account.ends.iter().filter(|(.., how)| how != "c0").map(|(_, at, _)| *at);
        let mut reasons: Vec<u64> = ordered.chain(ended).chain(blows(fleet, instance)).collect();
        reasons.sort_unstable();
        for (number, (incarnation, began)) in account.starts.iter().enumerate() {
            finding.checked += 1;
            let before = reasons.partition_point(|reason| reason <= began);
            if before <= number {
                finding.broken.push(format!(
                    "{instance} {incarnation} began at {} as number {}, and there were {before} reasons",
                    seconds(*began),
                    number + 1
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn a_start_without_a_reason_is_seen() {
        let allowed = |at| Note::MayStart { instance: "a:1@h".into(), at };
        let of = |account, notes| broken(judge, &fleet("a:1@h", account, notes));
        assert_eq!(of("start 1 10\n", vec![allowed(5)]), 0);
        assert_eq!(of("start 1 10\n", vec![]), 1);
        assert_eq!(of("start 1 10\nstart 2 20\n", vec![allowed(5)]), 1);
        assert_eq!(of("start 1 10\nend 1 15 c3\nstart 2 20\n", vec![allowed(5)]), 0);
        assert_eq!(of("start 1 10\nstart 2 20\n", vec![allowed(5), allowed(30)]), 1, "it was too early");
        let reboot = Note::Reboot { host: "h".into(), at: 15 };
        assert_eq!(of("start 1 10\nstart 2 20\n", vec![allowed(5), reboot]), 0);
    }
}
