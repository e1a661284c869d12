//! Restarts follow the policy: never sooner than its delay, never more than its limit, never forgotten.

use super::{Finding, Fleet, blows, process_of, seconds};

/// Who is late by so much is forgotten. Restarts take turns and machines are switched off meanwhile.
const LATE_NS: u64 = 40_000_000_000;
/// Clocks of delays count milliseconds.
const EARLY_NS: u64 = 20_000_000;

/// What a process was declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The shortest wait before a restart, in milliseconds.
    pub delay_ms: u64,
    /// Restarts allowed, for ever; 0 means no limit.
    pub limit: usize,
}

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (instance, account) in &fleet.accounts {
        let Some(policy) = fleet.policies.get(process_of(instance)) else { continue };
        let blows = blows(fleet, instance);
        finding.checked += account.ends.len();
        if policy.limit > 0 && account.starts.len() > policy.limit + 1 {
            let starts = account.starts.len();
            finding.broken.push(format!("{instance} began {starts} times, with {} restarts allowed", policy.limit));
        }
        for (incarnation, ended, _) in &account.ends {
            let next = account.starts.iter().map(|(_, began)| *began).find(|began| began > ended);
            let waited = next.unwrap_or(fleet.ended_at).saturating_sub(*ended);
            // A machine that was switched off has no delays to keep; one more start is not counted against them.
            let struck = blows.iter().any(|at| *ended < *at && *at < *ended + waited);
            if next.is_some() && waited + EARLY_NS < policy.delay_ms * 1_000_000 && !struck {
                finding.broken.push(format!("{instance} began again {} after {incarnation} ended", seconds(waited)));
            }
            if policy.limit == 0 && waited > LATE_NS {
                finding.broken.push(format!("{instance} is forgotten since {incarnation} ended, {}", seconds(waited)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn of(account: &str, policy: Policy) -> usize {
        let policies = [("a".to_owned(), policy)].into();
        let ended_at = 60_000_000_000;
        broken(judge, &Fleet { policies, ended_at, ..fleet("a:1@h", account, vec![]) })
    }

    #[test]
    fn restarts_too_soon_too_often_and_never_are_seen() {
        let always = Policy { delay_ms: 500, limit: 0 };
        assert_eq!(of("start 1 10\nend 1 59000000000 c1\nstart 2 59600000000\n", always), 0);
        assert_eq!(of("start 1 10\nend 1 59000000000 c1\nstart 2 59300000000\n", always), 1);
        assert_eq!(of("start 1 10\nend 1 1000000000 c1\n", always), 1, "never again");
        let once = Policy { delay_ms: 0, limit: 1 };
        assert_eq!(of("start 1 10\nend 1 20 c1\nstart 2 30\nend 2 40 c1\n", once), 0);
        assert_eq!(of("start 1 10\nend 1 20 c1\nstart 2 30\nend 2 40 c1\nstart 3 50\n", once), 1);
    }
}
