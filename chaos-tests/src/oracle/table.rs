//! The desired table, modelled anew: what a write does to processes that each have one value and one host.

use std::collections::BTreeMap;

use crate::history::{Op, Outcome, Row};

/// Processes by name.
#[derive(Debug, Clone, Default)]
pub struct Table(pub BTreeMap<String, Row>);

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The process becomes this.
    Put(Row),
    /// The process goes.
    Delete(Row),
    /// It is done and changes nothing.
    Nothing,
    /// It is refused.
    Refused(Outcome),
}

impl Table {
    /// What `op` does as the write of this revision.
    pub fn effect(&self, op: &Op, revision: u64) -> Effect {
        let before = op.process().and_then(|process| self.0.get(process));
        refusal(op, before).map_or_else(|| done(op, before, revision), Effect::Refused)
    }
}

/// Why `op` is refused where the process is `before`.
pub fn refusal(op: &Op, before: Option<&Row>) -> Option<Outcome> {
    let conflicts = |expect: &Option<u64>| expect.is_some_and(|at| at != before.map_or(0, |row| row.revision));
    match op {
        Op::Put { expect, .. } => conflicts(expect).then_some(Outcome::Conflict),
        Op::Delete { .. } | Op::Order { .. } if before.is_none() => Some(Outcome::Absent),
        Op::Delete { expect, .. } => conflicts(expect).then_some(Outcome::Conflict),
        Op::Order { .. } | Op::Read { .. } => None,
    }
}

fn done(op: &Op, before: Option<&Row>, revision: u64) -> Effect {
    match (op, before) {
        (Op::Put { value, .. }, Some(row)) if row.value == *value => Effect::Nothing,
        (Op::Put { process, value, .. }, before) => Effect::Put(Row {
            process: process.clone(),
            value: value.clone(),
            generation: before.map_or(0, |row| row.generation) + 1,
            revision,
            running: before.is_none_or(|row| row.running),
        }),
        (Op::Delete { .. }, Some(row)) => Effect::Delete(row.clone()),
        (Op::Order { running, .. }, Some(row)) if row.running != *running => {
            Effect::Put(Row { running: *running, revision, ..row.clone() })
        }
        (Op::Delete { .. } | Op::Order { .. } | Op::Read { .. }, _) => Effect::Nothing,
    }
}
