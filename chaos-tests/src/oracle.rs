//! Judges of what clients saw. They share no code with what they judge: the desired table is modelled anew in
//! [`witness`], from what README.md says of it.
//!
//! Each gives a [`Verdict`]. What cannot be judged is inconclusive, which a run must count as red: an oracle that saw
//! nothing has proved nothing.

pub mod managers;
pub mod search;
mod table;
pub mod watch;
pub mod witness;

use std::fmt;

/// What an oracle finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The promise held, as far as so many things show.
    Holds {
        /// What was compared: calls, events or looks.
        checked: usize,
    },
    /// The promise was broken, one sentence for each time; the first ones only.
    Broken(Vec<String>),
    /// There was too little to judge by, and why.
    Inconclusive(String),
}

/// Findings listed: the first one is the one to look into.
const FINDINGS_MAX: usize = 10;

impl Verdict {
    /// The verdict of these findings over so many things.
    pub(crate) fn of(mut findings: Vec<String>, checked: usize) -> Self {
        findings.truncate(FINDINGS_MAX);
        match (findings.is_empty(), checked) {
            (false, _) => Self::Broken(findings),
            (true, 0) => Self::Inconclusive("there was nothing to judge".into()),
            (true, checked) => Self::Holds { checked },
        }
    }

    /// Whether the promise is known to have held.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Holds { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds { checked } => write!(f, "holds ({checked} checked)"),
            Self::Broken(findings) => write!(f, "BROKEN: {}", findings.join("; ")),
            Self::Inconclusive(why) => write!(f, "inconclusive: {why}"),
        }
    }
}
