//! How an instance is shown: its phase as far as anybody can know it, what it owes, and why, in one sentence.

use alloc::{format, string::String};

use minder_model::{Cause, InstanceStatus, Item, Millis, Phase, Wanted, owed_by};

use crate::condition::{Condition, Standing};

/// What a user is shown of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its phase. A lost host's are LOST, an unheard host's UNKNOWN; neither is ever shown as stopped.
    pub phase: Phase,
    /// What it owes: a word of [`minder_model::OwedWhy::word`], `assign` while its slave has not taken the latest
    /// assignment, or empty.
    pub owed: &'static str,
    /// Why it is not as wanted; empty when all is well.
    pub why: String,
}

/// Shows one instance. `taken` says whether its slave has taken over the latest assignment; `reported` whether its
/// slave has reported everything to this leader.
pub fn show(
    item: &Item,
    status: Option<&InstanceStatus>,
    standing: &Standing,
    taken: bool,
    reported: bool,
    registered: bool,
) -> Shown {
    let silent_ms = standing.silent_ms;
    let (phase, why) = match (standing.condition, status) {
        _ if !registered => (
            Phase::Pending,
            String::from(
                "no slave of this name has ever announced itself; start minder-slave there, or mend the spec's hosts",
            ),
        ),
        (Condition::Lost, _) => (Phase::Lost, lost(silent_ms)),
        (_, None) if !reported => (Phase::Unknown, String::from("its slave has not reported to this leader yet")),
        (_, None) if item.wanted == Wanted::Stopped => (Phase::Stopped, String::new()),
        (_, None) => (Phase::Pending, String::from("its slave has not begun with it yet")),
        (_, Some(status)) => (status.phase, why(item, status)),
    };
    let owed = match owed_by(item, status) {
        _ if matches!(phase, Phase::Lost | Phase::Unknown) || !taken => "assign",
        Some(owed) => owed.word(),
        None => "",
    };
    let why = match standing.condition {
        Condition::Suspect if why.is_empty() => suspect(standing),
        Condition::Connected | Condition::Suspect | Condition::Lost | Condition::Unheard => why,
    };
    Shown { phase, owed, why }
}

fn suspect(standing: &Standing) -> String {
    let silent = Millis(standing.silent_ms.unwrap_or_default() / 100 * 100);
    match &standing.doubt {
        Some(doubt) => format!("its host has been silent for {silent}: {doubt}"),
        None => format!("its host has been silent for {silent}"),
    }
}

fn lost(silent_ms: Option<u64>) -> String {
    match silent_ms {
        Some(silent) => {
            format!("its host has been silent for {}; the process may well be running", Millis(silent / 1_000 * 1_000))
        }
        None => {
            String::from("its host has not been heard of since this leader took over; the process may well be running")
        }
    }
}

fn why(item: &Item, status: &InstanceStatus) -> String {
    let cause = format!("{}", status.cause);
    match status.phase {
        Phase::Running | Phase::Ready | Phase::Stopped if status.cause == Cause::Wanted => String::new(),
        Phase::Stopping | Phase::Stopped if matches!(status.cause, Cause::StoppedLocally(_)) => cause,
        Phase::Stopping if item.wanted == Wanted::Stopped => String::from("by operator"),
        Phase::Pending
        | Phase::Starting
        | Phase::Running
        | Phase::Ready
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Backoff
        | Phase::Fatal
        | Phase::Exited
        | Phase::Lost
        | Phase::Unknown => cause,
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Digest, Generation, Revision};

    use super::*;

    #[test]
    fn a_silent_host_is_never_shown_as_stopped() {
        for wanted in [Wanted::Running, Wanted::Stopped] {
            let item = Item {
                generation: Generation(1),
                spec: Digest::default(),
                wanted,
                restart_at: Revision::ZERO,
                retry_at: Revision::ZERO,
                signal: None,
                start_at: Revision::ZERO,
            };
            let standing = |condition, silent_ms| Standing { condition, silent_ms, doubt: None };
            let lost = show(&item, None, &standing(Condition::Lost, Some(20_000)), true, false, true);
            assert_eq!((lost.phase, lost.owed), (Phase::Lost, "assign"));
            assert!(lost.why.contains("silent for 20s"), "{}", lost.why);
            let unheard = show(&item, None, &standing(Condition::Unheard, None), true, false, true);
            assert_eq!(unheard.phase, Phase::Unknown);
            let nobody = show(&item, None, &standing(Condition::Lost, None), true, false, false);
            assert_eq!(nobody.phase, Phase::Pending);
        }
    }
}
