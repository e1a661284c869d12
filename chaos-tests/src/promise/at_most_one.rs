//! At most one live incarnation of an instance: a lock that only one process can hold was free for each, and no incarnation
//! began twice or after a later one.

use super::{Finding, Fleet};

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (instance, account) in &fleet.accounts {
        finding.checked += account.starts.len() + account.doubles.len();
        let doubles = account.doubles.iter();
        finding.broken.extend(doubles.map(|(incarnation, _)| format!("{instance} {incarnation} met another one")));
        for pair in account.starts.windows(2).filter(|pair| pair[0].0 >= pair[1].0) {
            finding.broken.push(format!("{instance} {} began after {}", pair[1].0, pair[0].0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, judge};

    #[test]
    fn doubles_are_seen() {
        let of = |account| broken(judge, &fleet("a:1@h", account, vec![]));
        assert_eq!(of("start 1 10\nstart 2 20\n"), 0);
        assert_eq!(of("start 1 10\nDOUBLE 2 20\n"), 1);
        assert_eq!(of("start 1 10\nstart 1 20\n"), 1);
        assert_eq!(of("start 2 10\nstart 1 20\n"), 1);
    }
}
