//! What was stopped stays stopped: from the moment in which managers said so until somebody is about to order otherwise,
//! it neither lives nor begins.

use super::{Finding, Fleet, seconds};
use crate::Note;

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for note in &fleet.notes {
        match note {
            Note::ToldStopped { instance, at } => {
                finding.checked += 1;
                let until = ordered_after(fleet, instance, *at);
                let Some(account) = fleet.accounts.get(instance) else { continue };
                for (incarnation, began) in account.starts.iter().filter(|(_, began)| *at < *began && *began < until) {
                    let after = seconds(began - at);
                    finding
                        .broken
                        .push(format!("{instance} {incarnation} began {after} after it was said to be stopped"));
                }
            }
            Note::FoundAlive { instance, twig: false, .. } => {
                finding.broken.push(format!("{instance} is said to be stopped and lives"));
            }
            _ => {}
        }
    }
}

/// When somebody next allowed it to run.
fn ordered_after(fleet: &Fleet, instance: &str, moment: u64) -> u64 {
    let allowed = |note: &Note| match note {
        Note::MayStart { instance: ordered, at } if ordered == instance && *at > moment => Some(*at),
        _ => None,
    };
    fleet.notes.iter().filter_map(allowed).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn a_start_after_a_stop_is_seen_unless_it_was_ordered() {
        let stopped = Note::ToldStopped { instance: "a:1@h".into(), at: 50 };
        let allowed = Note::MayStart { instance: "a:1@h".into(), at: 70 };
        let of = |account, notes: &[&Note]| {
            broken(judge, &fleet("a:1@h", account, notes.iter().copied().cloned().collect()))
        };
        assert_eq!(of("start 1 10\n", &[&stopped]), 0);
        assert_eq!(of("start 1 10\nstart 2 60\n", &[&stopped]), 1);
        assert_eq!(of("start 1 10\nstart 2 80\n", &[&stopped, &allowed]), 0);
        assert_eq!(of("start 1 10\nstart 2 60\n", &[&stopped, &allowed]), 1);
        let alive = Note::FoundAlive { instance: "a:1@h".into(), at: 51, twig: false };
        assert_eq!(of("start 1 10\n", &[&stopped, &alive]), 1);
    }
}
