//! Where an instance has a place in its host's order it does not start or stop by itself: it asks, and does so in the
//! step that says it may. [`crate::keep_order`] answers.
//!
//! So it is with restarts that nobody said but the policy, on a host that gives them their turn one after the other: a
//! thousand crash loops must not keep others from starting.

use alloc::{string::String, vec::Vec};

use minder_model::{RunSpec, Spec};

use super::{Fact, Supervisor, Why, Wish};
use crate::{
    event::{Effect, Gate, Now},
    order::Standing,
};

/// Its place in the order. Nothing of it is durable: after a restart of the slave it asks again.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Others come after it.
    pub(super) is_needed: bool,
    /// What it asks for now is allowed in this step.
    is_open: bool,
    /// It would start or stop.
    asks: bool,
    /// Its restarts wait for their turn; without it they do not.
    takes_turns: bool,
    /// It is its turn in this step.
    has_turn: bool,
    /// It would restart.
    asks_turn: bool,
    /// What it was told it waits for, and since when by the wall clock.
    waits: Option<(String, u64)>,
}

impl Place {
    /// A step begins.
    pub(super) fn begin(&mut self) {
        self.asks = false;
        self.asks_turn = false;
    }

    pub(super) fn answer(&mut self, gate: Gate, now: Now) {
        match gate {
            Gate::Open => self.is_open = true,
            Gate::Turn => self.has_turn = true,
            Gate::Wait(sentence) => {
                let since_ms = self.waits.take().map_or(now.wall_ms, |(_, since_ms)| since_ms);
                self.waits = Some((sentence, since_ms));
            }
        }
    }

    /// A step ends: what was allowed and not done has to be asked for again.
    pub(super) fn end(&mut self) {
        self.is_open = false;
        self.has_turn = false;
        if !self.asks {
            self.waits = None;
        }
    }

    /// Whether it may be done now.
    fn lets(&mut self) -> bool {
        self.asks = !self.is_open;
        self.is_open
    }

    /// Whether it may restart now.
    fn lets_restart(&mut self) -> bool {
        self.asks_turn = self.takes_turns && !self.has_turn;
        !self.asks_turn
    }

    pub(super) fn waits(&self) -> Option<&(String, u64)> {
        self.waits.as_ref()
    }
}

impl Supervisor {
    /// Waits for [`Gate::Turn`] with each restart that nobody but its policy wants.
    pub fn taking_turns(mut self) -> Self {
        self.place.takes_turns = true;
        self
    }

    /// Whether it would restart now if it were its turn.
    pub fn asks_for_turn(&self) -> bool {
        self.place.asks_turn
    }

    /// How it stands in the order of its host.
    pub fn standing(&self) -> Standing<'_> {
        let killed = matches!(self.fact, Fact::Stopping { stopping, .. } if stopping.killed);
        Standing {
            key: &self.record.key,
            wanted: match &self.wish {
                Wish::Like(item, _) => Some(self.wanted(item)),
                Wish::Unsaid | Wish::Gone => None,
            },
            phase: self.phase(),
            is_up: self.is_up(),
            holds_others: self.record.live.is_some() && !killed,
            asks: self.place.asks,
            waits: self.place.waits().map(|(sentence, _)| sentence.as_str()),
            is_needed: self.place.is_needed,
            spec: self.ordering_spec(),
        }
    }

    /// Whether there is anything about it that matters to the order of its host.
    pub fn is_ordered(&self) -> bool {
        let comes_after = || self.ordering_spec().is_some_and(|spec| spec.comes_after().next().is_some());
        self.place.is_needed || comes_after()
    }

    fn ordering_spec(&self) -> Option<&Spec> {
        let wished = match &self.wish {
            Wish::Like(_, Some(spec)) => Some(&spec.run_spec),
            Wish::Like(_, None) | Wish::Unsaid | Wish::Gone => None,
        };
        let live = self.live_spec.as_ref().filter(|_| self.record.live.is_some());
        live.or(wished).map(RunSpec::spec)
    }

    /// Whether the incarnation that the wish asks for may be started in this step. What has a place in the order waits for
    /// that alone: its turn could come while others keep it waiting.
    pub(super) fn may_start(&mut self, by_policy: bool) -> bool {
        let ordered =
            matches!(&self.wish, Wish::Like(_, Some(spec)) if spec.run_spec.spec().comes_after().next().is_some());
        if ordered { self.place.lets() } else { !by_policy || self.place.lets_restart() }
    }

    /// Begins to end what is not wanted any more, when it may.
    pub(super) fn stop_in_order(&mut self, now: Now) -> Vec<Effect> {
        match !self.place.is_needed || self.place.lets() {
            true => self.stop(Why::Operator, now),
            false => Vec::new(),
        }
    }

    /// It waits for another to start.
    pub(super) fn waits_to_start(&self) -> bool {
        matches!(self.fact, Fact::Down { .. }) && self.place.waits().is_some()
    }
}
