//! How a host is spoken of: the word for its silence, and what speaks against taking that silence for its own.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use minder_model::Millis;

/// After how much silence a host is spoken of how, and when the leader doubts itself instead. Times in milliseconds of
/// the leader's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceLimits {
    /// Silence until a host is suspect.
    pub suspect_ms: u64,
    /// Silence until it is lost.
    pub lost_ms: u64,
    /// When so many hosts of a hundred are silent at once, the leader suspects itself.
    pub mass_percent: u32,
    /// But not for fewer hosts than this: two of three machines that fail together are no wonder.
    pub mass_hosts_min: u32,
    /// How long beyond the lost limit it doubts itself while no other manager can tell it better.
    pub mass_hold_ms: u64,
}

/// Looks at the clock within one suspect limit. A leader that misses half of that limit was away itself.
const LOOKS: u64 = 10;

impl SilenceLimits {
    /// How often [`Silence::look`](crate::Silence::look) is to be called at the least, in milliseconds.
    pub fn look_every_ms(&self) -> u64 {
        (self.suspect_ms / LOOKS).max(1)
    }
}

impl Default for SilenceLimits {
    /// design.md 6: five missed heartbeats, then fifteen. Half of a fleet does not fail in one moment, but for a room
    /// without power, and that is still true two minutes later; a switch that restarts or an address that moves is back
    /// by then. Kubernetes stops its evictions at 55 %.
    fn default() -> Self {
        Self { suspect_ms: 5_000, lost_ms: 15_000, mass_percent: 50, mass_hosts_min: 3, mass_hold_ms: 120_000 }
    }
}

/// How the leader speaks of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// It was heard of lately.
    Connected,
    /// It has been silent for longer than the suspect limit.
    Suspect,
    /// It has been silent for longer than the lost limit, and nothing speaks against it.
    Lost,
    /// This leader has never heard of it, and has not led long enough to say more.
    #[default]
    Unheard,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connected, Self::Suspect, Self::Lost, Self::Unheard];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Suspect => "suspect",
            Self::Lost => "LOST",
            Self::Unheard => "unheard",
        }
    }
}

/// Why a silent host is not called lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// These managers, by node id, have its connection: the way from it to the leader is what is broken.
    HeardBy(Vec<u64>),
    /// Many hosts are silent at once: more likely the leader is cut off than all of them.
    ManyAtOnce {
        /// Hosts that are silent.
        silent: usize,
        /// Hosts that were not lost before.
        of: usize,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeardBy(managers) => write!(f, "connected to {}, not to the leader", name_managers(managers)),
            Self::ManyAtOnce { silent, of } => {
                write!(f, "{silent} of {of} hosts are silent at once, so the leader suspects itself")
            }
        }
    }
}

/// `manager 2`, `managers 2 and 3`.
pub fn name_managers(ids: &[u64]) -> String {
    match ids {
        [one] => format!("manager {one}"),
        [others @ .., last] => {
            let others: Vec<String> = others.iter().map(|id| format!("{id}")).collect();
            format!("managers {} and {last}", others.join(", "))
        }
        [] => String::from("no manager"),
    }
}

/// How one host stands with the leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The word for it.
    pub condition: Condition,
    /// Since its last sign of life, in milliseconds; `None` when this leader never had one.
    pub silent_ms: Option<u64>,
    /// Of a silent host: what speaks against calling it lost.
    pub doubt: Option<Doubt>,
}

/// What is known of a slave when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquaintance {
    /// The kernel's boot id of its machine; empty when it did not say.
    pub boot_id: String,
    /// Drawn by the slave at its start.
    pub slave_id: String,
}

/// What a session that opens means: a machine that was restarted, a slave that was, or only the way to it. `before` is
/// what this leader knew of the host, `silent_ms` how long it had not been heard.
pub fn returned(before: Option<&Acquaintance>, now: &Acquaintance, silent_ms: Option<u64>) -> String {
    let silent = Millis(silent_ms.unwrap_or_default() / 100 * 100);
    match before {
        None => String::from("session opened"),
        Some(before) if before.boot_id != now.boot_id && !before.boot_id.is_empty() && !now.boot_id.is_empty() => {
            format!("session opened: back after a restart of the machine, {silent} after the last sign of life")
        }
        Some(before) if before.slave_id != now.slave_id => {
            format!("session opened: back after a restart of the slave alone, {silent} after the last sign of life")
        }
        Some(_) => format!(
            "session opened: back after {silent} without a sign of life; neither the machine nor the slave was restarted"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_tells_a_restart_from_a_broken_way() {
        let slave = |boot: &str, slave: &str| Acquaintance { boot_id: boot.into(), slave_id: slave.into() };
        for (before, now, expected) in [
            (None, slave("b1", "s1"), "session opened"),
            (Some(slave("b1", "s1")), slave("b2", "s2"), "restart of the machine"),
            (Some(slave("b1", "s1")), slave("b1", "s2"), "restart of the slave alone"),
            (Some(slave("b1", "s1")), slave("b1", "s1"), "neither the machine nor the slave was restarted"),
            (Some(slave("", "s1")), slave("b1", "s2"), "restart of the slave alone"),
        ] {
            let text = returned(before.as_ref(), &now, Some(17_040));
            assert!(text.contains(expected), "{before:?} {now:?}: {text}");
        }
    }

    #[test]
    fn managers_are_named_in_a_sentence() {
        for (ids, expected) in
            [(&[2][..], "manager 2"), (&[2, 3], "managers 2 and 3"), (&[1, 2, 3], "managers 1, 2 and 3")]
        {
            assert_eq!(name_managers(ids), expected);
        }
    }
}
