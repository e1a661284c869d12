//! The promises about the fleet, one per file, judged from outside: by what the managed programs themselves wrote down, by
//! what was done to them, and by what managers said of them. No judge asks a slave, and none shares code with Minder.

mod accounts;
mod at_most_one;
mod logs;
mod nothing_older;
mod nothing_unasked;
mod outlives;
mod policy;
mod status;
mod stopped;
mod trees;

use std::{collections::BTreeMap, path::PathBuf};

pub use self::{
    accounts::{Account, read_accounts},
    policy::Policy,
};
use crate::Note;

/// Everything that the judges know.
#[derive(Debug, Default)]
pub struct Fleet {
    /// By instance, as `process:index@host`.
    pub accounts: BTreeMap<String, Account>,
    /// In the order in which they were made.
    pub notes: Vec<Note>,
    /// When the last look was, as accounts say it.
    pub ended_at: u64,
    /// What was declared of how processes are restarted, by process.
    pub policies: BTreeMap<String, Policy>,
    /// Folders of output, each with the most that it may hold.
    pub logs: Vec<(PathBuf, u64)>,
}

/// What a judge found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Which promise.
    pub promise: &'static str,
    /// How much there was to judge.
    pub checked: usize,
    /// What broke it; empty when it held.
    pub broken: Vec<String>,
}

/// A promise, and who judges it.
type Judge = (&'static str, fn(&Fleet, &mut Finding));

/// All judges over all promises.
pub fn judge(fleet: &Fleet) -> Vec<Finding> {
    let judges: [Judge; 9] = [
        ("at most one live incarnation", at_most_one::judge),
        ("what was stopped stays stopped", stopped::judge),
        ("nothing starts unasked", nothing_unasked::judge),
        ("a process outlives slave, manager and network trouble", outlives::judge),
        ("killing means the whole tree", trees::judge),
        ("restarts follow the policy", policy::judge),
        ("the status shown is true or says how old it is", status::judge),
        ("nothing moves a host to an older revision", nothing_older::judge),
        ("logs are bounded", logs::judge),
    ];
    let find = |(promise, judge): Judge| {
        let mut finding = Finding { promise, ..Finding::default() };
        judge(fleet, &mut finding);
        finding
    };
    judges.into_iter().map(find).collect()
}

/// The host in `process:index@host`.
fn host_of(instance: &str) -> &str {
    instance.split_once('@').map_or("", |(_, host)| host)
}

/// The process in it.
fn process_of(instance: &str) -> &str {
    instance.split_once(':').map_or("", |(process, _)| process)
}

/// When somebody killed this instance or switched its machine off, in order.
fn blows(fleet: &Fleet, instance: &str) -> Vec<u64> {
    let blow = |note: &Note| match note {
        Note::Killed { instance: killed, at } if killed == instance => Some(*at),
        Note::Reboot { host, at } if host == host_of(instance) => Some(*at),
        _ => None,
    };
    fleet.notes.iter().filter_map(blow).collect()
}

/// Seconds, as accounts say them.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:03} s", nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fleet with one instance's account, in the programs' own words.
    pub fn fleet(instance: &str, account: &str, notes: Vec<Note>) -> Fleet {
        let accounts = [(instance.to_owned(), Account::parse(account))].into();
        Fleet { accounts, notes, ended_at: 1_000_000_000_000, ..Fleet::default() }
    }

    /// What one judge finds.
    pub fn broken(judge: fn(&Fleet, &mut Finding), fleet: &Fleet) -> usize {
        let mut finding = Finding::default();
        judge(fleet, &mut finding);
        assert!(finding.checked > 0, "nothing was judged");
        finding.broken.len()
    }
}
