//! Nothing moves a host to an older revision: whoever asks later is told of no older one.

use std::collections::BTreeMap;

use super::{Finding, Fleet};
use crate::Note;

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    let mut looks: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for note in &fleet.notes {
        // A leader that has not heard of a host yet says nothing of it.
        if let Note::Holds { host, called, returned, revision: revision @ 1.. } = note {
            looks.entry(host).or_default().push((*called, *returned, *revision));
        }
    }
    for (host, looks) in looks {
        finding.checked += looks.len();
        let mut answered = looks.clone();
        answered.sort_by_key(|(_, returned, _)| *returned);
        let mut asked = looks;
        asked.sort_unstable();
        let (mut at, mut held) = (0, 0);
        for (called, _, revision) in asked {
            while at < answered.len() && answered[at].1 < called {
                held = held.max(answered[at].2);
                at += 1;
            }
            if revision < held {
                finding.broken.push(format!("{host} held {held} and later {revision}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn a_host_that_goes_back_is_seen() {
        let holds = |called, returned, revision| Note::Holds { host: "h".into(), called, returned, revision };
        let of = |notes| broken(judge, &fleet("a:1@h", "", notes));
        assert_eq!(of(vec![holds(1, 2, 5), holds(3, 4, 5), holds(5, 6, 0), holds(7, 8, 9)]), 0);
        assert_eq!(of(vec![holds(1, 2, 5), holds(3, 4, 4)]), 1);
        assert_eq!(of(vec![holds(1, 4, 5), holds(3, 5, 4)]), 0, "they were asked at the same time");
    }
}
