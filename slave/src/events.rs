//! What happened on this host, for people: a bounded ring that a new leader is sent again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use minder_model::{Cause, InstanceKey, InstanceStatus, Millis, Phase, ProbeState};
use minder_proto::{convert::status::phase_to_wire, v1};
use tokio::sync::watch;

use crate::clock::wall_ms;

/// Events kept: a crash loop of many processes must not grow the slave.
const KEPT_MAX: usize = 1_000;

/// The ring.
pub struct Events {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

struct Ring {
    sequence: u64,
    events: VecDeque<v1::SlaveEvent>,
}

impl Events {
    /// An empty ring. Its numbers go on from the wall clock, so that those of a restarted slave are new to its leader.
    pub fn new() -> Self {
        let sequence = wall_ms();
        Self { ring: Mutex::new(Ring { sequence, events: VecDeque::new() }), newest: watch::channel(sequence).0 }
    }

    /// Notes that an instance's phase is another one, that its health check turned, or that it begins to wait for others.
    /// Whoever follows hears of it with [`Self::show`]: a program that is to start waits for nobody who reads of it.
    pub fn phase_changed(&self, before: &InstanceStatus, after: &InstanceStatus) {
        let same_phase = before.phase == after.phase && before.incarnation == after.incarnation;
        if same_phase && is_unhealthy(before) == is_unhealthy(after) && waits(before) == waits(after) {
            return;
        }
        self.push(v1::SlaveEvent {
            sequence: 0,
            time_ms: wall_ms(),
            instance: after.key.to_string(),
            phase: phase_to_wire(after.phase).into(),
            text: sentence(before, after),
        });
    }

    /// Notes something that users want to know of an instance and that is no change of phase: one line.
    pub fn tell(&self, key: &InstanceKey, text: String) {
        self.push(v1::SlaveEvent { time_ms: wall_ms(), instance: key.to_string(), text, ..v1::SlaveEvent::default() });
        self.show();
    }

    /// Notes something of this host itself: one line.
    pub fn tell_of_host(&self, text: String) {
        self.push(v1::SlaveEvent { time_ms: wall_ms(), text, ..v1::SlaveEvent::default() });
        self.show();
    }

    /// Wakes whoever follows, if there is anything new.
    pub fn show(&self) {
        let newest = self.ring().sequence;
        self.newest.send_if_modified(|shown| std::mem::replace(shown, newest) != newest);
    }

    /// Events after number `after`, at most `most` of the newest.
    pub fn after(&self, after: u64, most: usize) -> Vec<v1::SlaveEvent> {
        let ring = self.ring();
        let newer = ring.events.iter().filter(|event| event.sequence > after).count();
        ring.events.iter().skip(ring.events.len() - newer.min(most)).cloned().collect()
    }

    /// Number of the newest event, followed.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut event: v1::SlaveEvent) {
        let mut ring = self.ring();
        ring.sequence += 1;
        event.sequence = ring.sequence;
        ring.events.push_back(event);
        if ring.events.len() > KEPT_MAX {
            ring.events.pop_front();
        }
    }
}

/// Longest piece of a program's own words in an event.
const SAID_CHARS_MAX: usize = 160;

/// How the last incarnation went, for an event that tells of its end: how long it lived and what it said last.
fn end_of(status: &InstanceStatus) -> String {
    let Some(exit) = status.exits.last().filter(|exit| exit.incarnation == status.incarnation) else {
        return String::new();
    };
    let lived = match exit.start_failure {
        Some(_) => String::new(),
        None => format!(" after {}", Millis(exit.lived_ms())),
    };
    match exit.last_output.last_line() {
        Some(line) if !exit.requested => {
            let said: String = line.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
            format!("{lived}, last said {said:?}")
        }
        Some(_) | None => lived,
    }
}

fn sentence(before: &InstanceStatus, status: &InstanceStatus) -> String {
    // How the stop went that has just come to its end.
    let stop = match status.exits.last() {
        Some(exit) if before.exits.last() != Some(exit) => exit.stop_words(),
        Some(_) | None => String::new(),
    };
    let cause = format!("{}{}", status.cause, end_of(status));
    let wait = Millis(status.next_start_ms.saturating_sub(wall_ms()) / 100 * 100);
    match status.phase {
        Phase::Starting if !stop.is_empty() => {
            format!("starting, incarnation {}; the one before {stop}", status.incarnation)
        }
        Phase::Starting => format!("starting, incarnation {}", status.incarnation),
        Phase::Running | Phase::Ready if !cause.is_empty() => format!("running, pid {}; {cause}", status.pid),
        Phase::Running => format!("running, pid {}", status.pid),
        Phase::Ready => format!("ready, pid {}", status.pid),
        Phase::Backoff => format!("{cause}; next start in {wait}"),
        Phase::Fatal if status.next_start_ms > 0 => format!("given up: {cause}; one more try in {wait}"),
        Phase::Fatal => format!("given up: {cause}"),
        Phase::Exited => format!("ended: {cause}"),
        Phase::Stopping | Phase::Stopped if matches!(status.cause, Cause::StoppedLocally(_)) => {
            format!("{}: {cause}", status.phase.word().to_lowercase())
        }
        Phase::Stopping => format!("stopping {}", status.cause),
        Phase::Stopped | Phase::Pending if !stop.is_empty() => stop,
        Phase::Stopped => format!("stopped {cause}"),
        // How long the one before lived has been told by then.
        Phase::Pending if status.cause != Cause::Wanted => format!("pending: {}", status.cause),
        Phase::Pending | Phase::Lost | Phase::Unknown => status.phase.word().to_lowercase(),
    }
}

fn is_unhealthy(status: &InstanceStatus) -> bool {
    status.health.as_ref().is_some_and(|health| health.state == ProbeState::Failing)
}

fn waits(status: &InstanceStatus) -> bool {
    matches!(status.cause, Cause::Waiting(_))
}

#[cfg(test)]
mod tests {
    use minder_supervisor::{Record, Supervisor};

    use super::*;
    use crate::clock::now;

    #[test]
    fn a_phase_wakes_nobody_before_it_is_shown_and_a_word_at_once() {
        let key = InstanceKey::parse("web").unwrap();
        let before = Supervisor::new(Record::new(key.clone(), 0)).status(now());
        let after = InstanceStatus { phase: Phase::Running, pid: 7, ..before.clone() };
        let events = Events::new();
        let mut newest = events.newest();
        let mut is_woken = || {
            let changed = newest.has_changed().unwrap();
            newest.mark_unchanged();
            changed
        };
        events.phase_changed(&before, &after);
        assert!(!is_woken());
        events.show();
        assert!(is_woken());
        events.show();
        assert!(!is_woken(), "nothing was new");
        events.tell(&key, "reloaded".into());
        assert!(is_woken());
        assert_eq!(events.after(0, 10).len(), 2);
    }
}
