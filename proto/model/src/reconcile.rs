//! The one function that says what is owed between an assignment and what a slave sees. The slave acts on it, the
//! leader waits for it to become empty, `plan` and the simulator show it.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    assignment::{Assignment, Item, Wanted},
    id::InstanceKey,
    report::{Cause, InstanceStatus, Phase},
};

/// What an instance still owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwedWhy {
    /// It should run and does not yet.
    Start,
    /// It should not run and still does.
    Stop,
    /// It runs something else than it should: another spec, or from before a restart order.
    Replace,
    /// It is no longer assigned and still there.
    Remove,
    /// A signal has not been delivered.
    Signal,
    /// It runs, and its ready check does not pass.
    Ready,
    /// It gave up, or ended and its policy wants no restart; nothing more will happen by itself.
    Failed,
    /// It should run and was stopped on its machine; nothing more will happen without an order.
    LocalStop,
}

/// One instance that is not as assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Which instance.
    pub key: InstanceKey,
    /// What it owes.
    pub why: OwedWhy,
}

/// Everything `seen` owes to `assignment`, in order of keys. Empty means converged.
///
/// A process that ended by its own policy (`Exited`) owes nothing if it ended cleanly under the wanted spec: that is
/// what its policy asks for. `Fatal` is owed as [`OwedWhy::Failed`], which a waiting person wants to know at once.
pub fn reconcile(assignment: &Assignment, seen: &BTreeMap<InstanceKey, InstanceStatus>) -> Vec<Owed> {
    let mut owed: Vec<Owed> = Vec::new();
    for (key, item) in &assignment.items {
        if let Some(why) = owed_by(item, seen.get(key)) {
            owed.push(Owed { key: key.clone(), why });
        }
    }
    for key in seen.keys().filter(|key| !assignment.items.contains_key(key)) {
        owed.push(Owed { key: key.clone(), why: OwedWhy::Remove });
    }
    owed.sort_by(|one, other| one.key.cmp(&other.key));
    owed
}

/// What one instance owes; `None` when it is as assigned. See [`reconcile`].
pub fn owed_by(item: &Item, status: Option<&InstanceStatus>) -> Option<OwedWhy> {
    let Some(status) = status else {
        // A slave that has never seen the instance has nothing to stop.
        return (item.wanted == Wanted::Running).then_some(OwedWhy::Start);
    };
    match item.wanted {
        Wanted::Stopped => (status.phase != Phase::Stopped).then_some(OwedWhy::Stop),
        Wanted::Running if matches!(status.cause, Cause::StoppedLocally(_)) => Some(OwedWhy::LocalStop),
        Wanted::Running => {
            let current = status.spec == item.spec && status.restart_at >= item.restart_at;
            let signalled = item.signal.is_none_or(|order| status.signal_at >= order.revision);
            match status.phase {
                _ if !current => Some(OwedWhy::Replace),
                Phase::Running | Phase::Ready | Phase::Exited if !signalled => Some(OwedWhy::Signal),
                Phase::Running if status.ready.is_some() => Some(OwedWhy::Ready),
                Phase::Running | Phase::Ready => None,
                Phase::Exited | Phase::Fatal if status.retry_at < item.retry_at => Some(OwedWhy::Start),
                Phase::Exited => None,
                Phase::Fatal => Some(OwedWhy::Failed),
                Phase::Pending
                | Phase::Starting
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Backoff
                | Phase::Lost
                | Phase::Unknown => Some(OwedWhy::Start),
            }
        }
    }
}

impl OwedWhy {
    /// The word on the wire and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Replace => "replace",
            Self::Remove => "remove",
            Self::Signal => "signal",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::LocalStop => "local stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::{Digest, Generation, HostName, Incarnation, LocalStop, ProcessName, Revision, Signal, SignalOrder};

    fn item(wanted: Wanted) -> Item {
        Item {
            generation: Generation(1),
            spec: Digest::of(b"spec"),
            wanted,
            restart_at: Revision(5),
            retry_at: Revision::ZERO,
            signal: None,
            start_at: Revision::ZERO,
        }
    }

    fn status(phase: Phase) -> InstanceStatus {
        InstanceStatus {
            key: InstanceKey::new(ProcessName::new("app").unwrap(), 1),
            phase,
            cause: Cause::Wanted,
            since_ms: 0,
            generation: Generation(1),
            spec: Digest::of(b"spec"),
            incarnation: Incarnation(1),
            pid: 0,
            started_at_ms: 0,
            restarts: 0,
            restarts_in_window: 0,
            next_start_ms: 0,
            restart_at: Revision(5),
            retry_at: Revision::ZERO,
            signal_at: Revision::ZERO,
            exits: Vec::new(),
            health: None,
            ready: None,
        }
    }

    #[test]
    fn every_phase_owes_what_it_should() {
        use OwedWhy::*;
        for (phase, running, stopped) in [
            (Phase::Pending, Some(Start), Some(Stop)),
            (Phase::Starting, Some(Start), Some(Stop)),
            (Phase::Running, None, Some(Stop)),
            (Phase::Ready, None, Some(Stop)),
            (Phase::Stopping, Some(Start), Some(Stop)),
            (Phase::Stopped, Some(Start), None),
            (Phase::Backoff, Some(Start), Some(Stop)),
            (Phase::Fatal, Some(Failed), Some(Stop)),
            (Phase::Exited, None, Some(Stop)),
            (Phase::Lost, Some(Start), Some(Stop)),
            (Phase::Unknown, Some(Start), Some(Stop)),
        ] {
            assert_eq!(owed_by(&item(Wanted::Running), Some(&status(phase))), running, "{phase}");
            assert_eq!(owed_by(&item(Wanted::Stopped), Some(&status(phase))), stopped, "{phase}");
        }
        let unready = InstanceStatus { ready: Some(crate::ProbeStatus::default()), ..status(Phase::Running) };
        assert_eq!(owed_by(&item(Wanted::Running), Some(&unready)), Some(Ready));
        assert_eq!(owed_by(&item(Wanted::Running), None), Some(Start));
        assert_eq!(owed_by(&item(Wanted::Stopped), None), None);
    }

    #[test]
    fn orders_are_owed_until_they_are_carried_out() {
        let running = status(Phase::Running);
        let restart = Item { restart_at: Revision(9), ..item(Wanted::Running) };
        assert_eq!(owed_by(&restart, Some(&running)), Some(OwedWhy::Replace));
        let signal = Item {
            signal: Some(SignalOrder { revision: Revision(9), signal: Signal::HUP, reload: false }),
            ..item(Wanted::Running)
        };
        assert_eq!(owed_by(&signal, Some(&running)), Some(OwedWhy::Signal));
        let retry = Item { retry_at: Revision(9), ..item(Wanted::Running) };
        assert_eq!(owed_by(&retry, Some(&status(Phase::Fatal))), Some(OwedWhy::Start));
    }

    #[test]
    fn a_local_stop_is_owed_until_it_is_over() {
        let stop = LocalStop { by: "ann".into(), at_ms: 1_795_512_645_000, start_at: Revision(5) };
        let stopped = InstanceStatus { cause: Cause::StoppedLocally(stop.clone()), ..status(Phase::Stopped) };
        assert_eq!(stopped.cause.to_string(), "stopped locally by ann at 2026-11-24T09:30:45Z");
        assert_eq!(owed_by(&item(Wanted::Running), Some(&stopped)), Some(OwedWhy::LocalStop));
        assert_eq!(owed_by(&item(Wanted::Stopped), Some(&stopped)), None);
        for (start_at, wanted, beside) in [
            (5, Wanted::Running, Wanted::Stopped),
            (6, Wanted::Running, Wanted::Running),
            (5, Wanted::Stopped, Wanted::Stopped),
            (6, Wanted::Stopped, Wanted::Stopped),
        ] {
            let item = Item { start_at: Revision(start_at), ..item(wanted) };
            assert_eq!(item.wanted_beside(Some(&stop)), beside, "{start_at} {wanted:?}");
            assert_eq!(item.wanted_beside(None), wanted);
        }
    }

    #[test]
    fn what_is_not_assigned_any_more_is_to_be_removed() {
        let assignment = Assignment::empty(HostName::new("h").unwrap());
        let running = status(Phase::Running);
        let seen = [(running.key.clone(), running)].into();
        let owed = reconcile(&assignment, &seen);
        assert_eq!(owed.len(), 1);
        assert_eq!((owed[0].key.to_string().as_str(), owed[0].why), ("app", OwedWhy::Remove));
    }
}
