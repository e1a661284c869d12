//! What is promised (design: the twelve promises), judged from outside: by the log, by a table of the simulator's own, by
//! what the kernel knows and by what crossed the network. No judge uses the code that it judges.

mod acknowledged;
mod asked;
mod converged;
mod exits;
mod one_incarnation;
mod outlives;
mod restarts;
mod revisions;
mod same_state;
mod status;

use std::collections::BTreeMap;

pub use self::asked::Intent;
use self::{
    acknowledged::Acknowledged, asked::LocalStops, exits::Exits, restarts::Restarts, revisions::Revisions,
    same_state::SameState, status::Seen,
};
use crate::{
    ask::Ask,
    kernel::Leaf,
    model::Model,
    network::Node,
    world::{World, say},
};

/// Everything that judges need to remember.
#[derive(Debug, Default)]
pub struct Oracles {
    /// Every request that was ever made.
    pub asks: Asks,
    /// The table once more.
    pub model: Model,
    /// Promise 1.
    pub acknowledged: Acknowledged,
    /// Programs that began.
    pub starts: u64,
    intents: BTreeMap<(usize, Leaf), Intent>,
    local_stops: LocalStops,
    revisions: Revisions,
    same_state: SameState,
    restarts: Restarts,
    exits: Exits,
    seen: Seen,
}

impl Oracles {
    /// Restarts by policy that were judged.
    pub fn restarts_judged(&self) -> u64 {
        self.restarts.judged
    }
}

/// Requests by their number.
#[derive(Debug, Default)]
pub struct Asks(Vec<(Ask, Option<u64>)>);

impl Asks {
    /// Takes in a request; gives its number.
    pub fn take(&mut self, ask: Ask, expected: Option<u64>) -> u64 {
        self.0.push((ask, expected));
        self.0.len() as u64
    }

    /// A request.
    pub fn get(&self, request: u64) -> Option<&(Ask, Option<u64>)> {
        self.0.get((request as usize).checked_sub(1)?)
    }
}

impl World {
    /// A promise is broken. The first one counts.
    pub fn fail(&mut self, promise: u8, what: String) {
        if self.failure.is_none() {
            say!(self, Node::World, "promise {promise} is broken: {what}");
            self.failure = Some(format!("promise {promise}: {what}"));
        }
    }
}
