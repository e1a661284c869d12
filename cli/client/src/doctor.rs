//! What is wrong and what to do about it, from what managers answer: pure functions over replies, one file for each kind
//! of thing that can be wrong. Every limit stands beside the rule that uses it.

mod hosts;
mod managers;
mod processes;

use serde::Serialize;

use crate::v1;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work now.
    Bad,
    /// Something works, but not for long or not well.
    Weak,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without its full stop.
    pub what: String,
    /// What to do, in another.
    pub advice: String,
}

/// What was asked of the managers. An answer that could not be had is its reason.
#[derive(Debug, Clone)]
pub struct Checkup {
    /// How the managers stand.
    pub managers: v1::GetManagersReply,
    /// Hosts, which only a leader knows.
    pub hosts: Result<v1::ListHostsReply, String>,
    /// Instances, which only a leader knows.
    pub instances: Result<v1::ListInstancesReply, String>,
}

impl Checkup {
    /// Everything that is wrong, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = managers::findings(&self.managers);
        match (&self.hosts, &self.instances) {
            (Ok(hosts), Ok(instances)) => {
                found.extend(hosts::findings(hosts, &leader_version(&self.managers)));
                found.extend(processes::findings(instances));
            }
            (Err(why), _) | (_, Err(why)) => found.push(Finding::bad(
                format!("hosts and processes cannot be looked at: {why}"),
                "mend the managers first; the slaves go on supervising meanwhile",
            )),
        }
        found.sort_by_key(|finding| finding.severity);
        found
    }
}

impl Finding {
    fn bad(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Bad, what: what.into(), advice: advice.into() }
    }

    fn weak(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Weak, what: what.into(), advice: advice.into() }
    }
}

fn leader_version(managers: &v1::GetManagersReply) -> String {
    let leader = managers.managers.iter().find(|manager| manager.role == "leader");
    leader.map(|leader| leader.version.clone()).unwrap_or_default()
}

/// Names in one sentence are as many as one reads.
const NAMED_MAX: usize = 5;

/// `a`, `a, b`, and of many the first few: `a, b, c, d, e and 12 more`.
fn list<T: ToString>(names: &[T]) -> String {
    let first: Vec<String> = names.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// `1 host is`, `3 hosts are`.
fn are(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun} is") } else { format!("{count} {noun}s are") }
}

/// `1.5s`, `250ms`.
fn seconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms}ms") } else { format!("{}.{}s", ms / 1_000, ms % 1_000 / 100) }
}
