//! What the leader's look at its fleet's silence has found, in sentences for the events.

use alloc::{format, string::String};

use minder_model::{HostName, Millis};

use crate::condition::{Condition, Doubt};

/// Something changed by silence, or by its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A host is spoken of otherwise.
    Host {
        /// Which.
        host: HostName,
        /// How it was spoken of.
        from: Condition,
        /// How it is now.
        to: Condition,
        /// How long it has been silent, or had been; `None` when this leader never heard of it.
        silent_ms: Option<u64>,
        /// What speaks against calling it lost.
        doubt: Option<Doubt>,
    },
    /// The leader itself had no time for so long, in milliseconds: nobody's silence before now counts.
    LeaderWasAway {
        /// How long.
        away_ms: u64,
    },
    /// The leader begins to suspect itself, or ends to.
    SelfDoubt {
        /// It begins.
        begins: bool,
        /// How many hosts of how many are silent.
        doubt: Doubt,
    },
}

impl Change {
    /// The host it is about; `None` when it is about the leader.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Host { host, .. } => Some(host),
            Self::LeaderWasAway { .. } | Self::SelfDoubt { .. } => None,
        }
    }

    /// One sentence.
    pub fn text(&self) -> String {
        match self {
            Self::Host { to, silent_ms, doubt, .. } => of_host(*to, *silent_ms, doubt.as_ref()),
            Self::LeaderWasAway { away_ms } => {
                format!("the leader itself was away for {}; silence counts from now on", rounded(*away_ms))
            }
            Self::SelfDoubt { begins: true, doubt } => {
                format!("{doubt}; none of them is called LOST before another manager agrees or time is up")
            }
            Self::SelfDoubt { begins: false, .. } => String::from("the leader does not suspect itself any more"),
        }
    }
}

fn of_host(to: Condition, silent_ms: Option<u64>, doubt: Option<&Doubt>) -> String {
    let but = doubt.map(|doubt| format!(": {doubt}")).unwrap_or_default();
    match (to, silent_ms) {
        (Condition::Connected, silent) => {
            format!("heard again after {} of silence", rounded(silent.unwrap_or_default()))
        }
        (Condition::Lost, Some(silent)) => format!(
            "silent for {}, LOST; its processes may well be running, and nothing is done to them",
            rounded(silent)
        ),
        (Condition::Lost, None) => String::from(
            "not heard of since this leader took over, LOST; its processes may well be running, and nothing is done to them",
        ),
        (Condition::Suspect | Condition::Unheard, silent) => {
            format!("silent for {}, {}{but}", rounded(silent.unwrap_or_default()), to.word())
        }
    }
}

fn rounded(ms: u64) -> Millis {
    Millis(ms / 100 * 100)
}
