//! What people on the machine itself say, past the managers. A local stop is a wish of its own beside the assignment: it
//! is kept in the record, wins over what is assigned, and ends by a local start, by a later start or restart order of
//! the managers, or with the assignment of the instance. A local start never runs what the managers want stopped.

use alloc::{format, string::String, vec, vec::Vec};

use minder_model::{Item, LocalStop, Wanted};

use super::{Fact, Supervisor, Wish};
use crate::{
    event::{Effect, LocalOrder, LocalRefusal, Now},
    record::Outcome,
};

impl Supervisor {
    /// Why a local order would not be taken now; `None` when it would.
    pub fn local_refusal(&self, order: LocalOrder) -> Option<LocalRefusal> {
        match (&self.wish, order) {
            (Wish::Unsaid | Wish::Gone, _) => Some(LocalRefusal::NotAssigned),
            (Wish::Like(item, _), LocalOrder::Start | LocalOrder::Restart) if item.wanted == Wanted::Stopped => {
                Some(LocalRefusal::WantedStopped)
            }
            (Wish::Like(..), LocalOrder::Stop | LocalOrder::Start | LocalOrder::Restart) => None,
        }
    }

    /// What is to be true here: the assignment, and what was said locally.
    pub(super) fn wanted(&self, item: &Item) -> Wanted {
        item.wanted_beside(self.record.local_stop.as_ref())
    }

    /// The wish is a new one: a local stop may be over by it.
    pub(super) fn end_outdated_local_stop(&mut self) -> Vec<Effect> {
        let Some(stop) = &self.record.local_stop else { return Vec::new() };
        let why = match &self.wish {
            Wish::Like(item, _) if item.start_at > stop.start_at => {
                format!("a start or restart order of the managers, revision {}, came after it", item.start_at)
            }
            Wish::Gone => String::from("the instance is not assigned any more"),
            Wish::Like(..) | Wish::Unsaid => return Vec::new(),
        };
        let text = format!("no longer {stop}: {why}");
        self.record.local_stop = None;
        vec![Effect::Save, Effect::Tell(text)]
    }

    pub(super) fn on_local(&mut self, order: LocalOrder, by: String, now: Now) -> Vec<Effect> {
        let Wish::Like(item, _) = &self.wish else { return Vec::new() };
        if self.local_refusal(order).is_some() {
            return Vec::new();
        }
        let start_at = item.start_at;
        match (order, &self.record.local_stop) {
            // It stays the first one's.
            (LocalOrder::Stop, Some(_)) => Vec::new(),
            (LocalOrder::Stop, None) => {
                let stop = LocalStop { by, at_ms: now.wall_ms, start_at };
                let text = format!("{stop}");
                self.record.local_stop = Some(stop);
                vec![Effect::Save, Effect::Tell(text)]
            }
            (LocalOrder::Start, _) => self.start_locally(&by, now),
            (LocalOrder::Restart, _) => self.restart_locally(&by, now),
        }
    }

    /// Ends a local stop; what has given up or ended is tried again now.
    fn start_locally(&mut self, by: &str, now: Now) -> Vec<Effect> {
        let was_stopped = self.record.local_stop.take().is_some();
        let waits = match (self.fact, self.record.outcome) {
            (Fact::Down { .. }, Outcome::Backoff(_) | Outcome::Fatal(_) | Outcome::Exited) => true,
            (Fact::Down { .. }, Outcome::Pending | Outcome::Stopped)
            | (Fact::Unclear | Fact::Starting | Fact::Up { .. } | Fact::Stopping { .. }, _) => false,
        };
        if waits {
            self.forget_restarts();
            self.record.outcome = Outcome::Pending;
            self.fact = Fact::Down { due_mono_ms: Some(now.mono_ms) };
        }
        match was_stopped || waits {
            true => vec![Effect::Save, Effect::Tell(format!("started locally by {by}"))],
            false => Vec::new(),
        }
    }

    /// Ends the incarnation as a stop does, so that it is on record, and none of what is wanted keeps the next one from
    /// starting.
    fn restart_locally(&mut self, by: &str, now: Now) -> Vec<Effect> {
        let ended = match self.fact {
            Fact::Up { .. } | Fact::Starting => self.stop(super::Why::Operator, now),
            Fact::Unclear => {
                if let Some(live) = &mut self.record.live {
                    live.stopping = true;
                }
                Vec::new()
            }
            Fact::Stopping { .. } => Vec::new(),
            Fact::Down { .. } => return self.start_locally(by, now),
        };
        self.record.local_stop = None;
        [Effect::Save, Effect::Tell(format!("restarted locally by {by}"))].into_iter().chain(ended).collect()
    }
}
