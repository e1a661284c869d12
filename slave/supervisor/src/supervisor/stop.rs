//! How an incarnation is ended: the first word, the further ones of its spec, and when its grace is over the whole tree.

use alloc::vec::Vec;

use minder_model::{Signal, Stop};

use super::{Fact, Supervisor, Why};
use crate::{
    event::{Effect, Now},
    record::Live,
};

/// A kill is asked for again after this time: the first word may have been lost with a shim or a connection.
const KILL_AGAIN_MS: u64 = 5_000;

/// A kill that is looked at so much later than it is due: the slave, or all of its machine, has stood still. The program may
/// not have heard its last word before now.
const LATE_MS: u64 = 1_000;
/// It gets so much time then, or its grace where that is shorter.
const LATE_GRACE_MS: u64 = 1_000;

/// A stop on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    /// Why.
    pub(super) why: Why,
    /// When it began, on the clock that only goes forward.
    pub(super) since_mono_ms: u64,
    /// How many of the spec's words have been said, the first one included.
    said: usize,
    /// When the tree is killed; once it was, when it is killed again.
    kill_at_mono_ms: u64,
    /// It has got more time because the kill would have been late.
    late: bool,
    /// The grace was not enough.
    pub(super) killed: bool,
}

impl Supervisor {
    /// Begins to end the live incarnation.
    pub(super) fn stop(&mut self, why: Why, now: Now) -> Vec<Effect> {
        let Some(live) = self.record.live else { return Vec::new() };
        let (pid, started_at_ms) = match self.fact {
            Fact::Up { pid, started_at_ms, .. } => (pid, started_at_ms),
            Fact::Starting => (0, 0),
            Fact::Down { .. } | Fact::Unclear | Fact::Stopping { .. } => return Vec::new(),
        };
        // A stop that began before the slave's restart goes on with what is left of its grace.
        let begun = live.stop_mono_ms.filter(|at| *at <= now.mono_ms);
        let since_mono_ms = begun.unwrap_or(now.mono_ms);
        let kill_at_mono_ms = since_mono_ms + self.stop_spec().grace.0;
        if begun.is_none() {
            self.record.since_ms = now.wall_ms;
        }
        self.record.live = Some(Live { stopping: why == Why::Operator, stop_mono_ms: Some(since_mono_ms), ..live });
        let stopping = Stopping { why, since_mono_ms, said: 0, kill_at_mono_ms, late: false, killed: false };
        self.fact = Fact::Stopping { pid, started_at_ms, stopping };
        [Effect::Save].into_iter().chain(self.settle_stopping(now)).collect()
    }

    /// Says what is due. Only a program that runs can be asked; one without a pid is asked when it has one.
    pub(super) fn settle_stopping(&mut self, now: Now) -> Vec<Effect> {
        let stop = self.stop_spec();
        let Some(live) = self.record.live else { return Vec::new() };
        let Fact::Stopping { pid, stopping, .. } = &mut self.fact else { return Vec::new() };
        let since_ms = now.mono_ms.saturating_sub(stopping.since_mono_ms);
        let due = 1 + stop.escalation.iter().take_while(|step| step.after.0 <= since_ms).count();
        let mut effects = Vec::new();
        if *pid != 0 && stopping.said < due && !stopping.killed {
            stopping.said = due;
            effects.push(word(&stop, due, live));
        } else if now.mono_ms > stopping.kill_at_mono_ms + LATE_MS && !stopping.late && !stopping.killed {
            stopping.late = true;
            stopping.kill_at_mono_ms = now.mono_ms + stop.grace.0.min(LATE_GRACE_MS);
        } else if now.mono_ms >= stopping.kill_at_mono_ms {
            stopping.killed = true;
            stopping.kill_at_mono_ms = now.mono_ms + KILL_AGAIN_MS;
            effects.push(Effect::KillTree { incarnation: live.incarnation });
        }
        let next_word = stop.escalation.get(due - 1).map(|step| stopping.since_mono_ms + step.after.0);
        let next = next_word
            .filter(|_| !stopping.killed)
            .map_or(stopping.kill_at_mono_ms, |at| at.min(stopping.kill_at_mono_ms));
        effects.push(Effect::WakeAt(next.max(now.mono_ms)));
        effects
    }

    pub(super) fn stop_spec(&self) -> Stop {
        self.live_spec.as_ref().map_or_else(Stop::default, |spec| spec.spec().stop.clone())
    }
}

/// The word that is due now: those it follows have been said or are overtaken. Where the first one is KILL, that means the
/// whole tree, as at the end of every grace.
fn word(stop: &Stop, due: usize, live: Live) -> Effect {
    let incarnation = live.incarnation;
    let step = due.checked_sub(2).and_then(|at| stop.escalation.get(at));
    match step.map_or(stop.signal, |step| step.signal) {
        Signal::KILL => Effect::KillTree { incarnation },
        signal => Effect::Signal { incarnation, signal, scope: stop.scope, then_continue: true },
    }
}
