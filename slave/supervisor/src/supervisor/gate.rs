//! Where an instance has a place in its host's order it does not start or stop by itself: it asks, and does so in the
//! step that says it may. [`crate::keep_order`] answers.

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
    /// What it was told it waits for, and since when by the wall clock.
    waits: Option<(String, u64)>,
}

impl Place {
    /// A step begins.
    pub(super) fn begin(&mut self) {
        self.asks = false;
    }

    pub(super) fn answer(&mut self, gate: Gate, now: Now) {
        match gate {
            Gate::Open => self.is_open = true,
            Gate::Wait(sentence) => {
                let since_ms = self.waits.take().map_or(now.wall_ms, |(_, since_ms)| since_ms);
                self.waits = Some((sentence, since_ms));
            }
        }
    }

    /// A step ends: what was allowed and not done has to be asked for again.
    pub(super) fn end(&mut self) {
        self.is_open = false;
        if !self.asks {
            self.waits = None;
        }
    }

    /// Whether it may be done now.
    fn lets(&mut self) -> bool {
        self.asks = !self.is_open;
        self.is_open
    }

    pub(super) fn waits(&self) -> Option<&(String, u64)> {
        self.waits.as_ref()
    }
}

impl Supervisor {
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

    /// Whether the incarnation that the wish asks for may be started in this step.
    pub(super) fn may_start(&mut self) -> bool {
        let ordered =
            matches!(&self.wish, Wish::Like(_, Some(spec)) if spec.run_spec.spec().comes_after().next().is_some());
        !ordered || self.place.lets()
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
