//! How long nobody got an answer.

use serde::Serialize;

use super::super::observed::Observed;

/// The longest time between two answers, whoever got them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// That ended after the harm was asked for.
    pub longest_us: u64,
    /// That ended before: what is usual here.
    pub usual_us: u64,
}

impl Gap {
    /// Of acknowledged writes; none when there was none after the harm.
    pub fn of_writes(seen: &Observed) -> Option<Self> {
        Self::between(seen.acknowledged().map(|(write, ..)| write.answered_us).collect(), seen)
    }

    /// Of answered reads.
    pub fn of_reads(seen: &Observed) -> Option<Self> {
        Self::between(seen.reads.iter().map(|read| read.answered_us).collect(), seen)
    }

    /// Writers and readers go on until they are told to stop, so the time from the last answer to that is one too.
    fn between(mut answered: Vec<u64>, seen: &Observed) -> Option<Self> {
        answered.sort_unstable();
        answered.last().filter(|last| **last >= seen.fault_us)?;
        answered.push(seen.stopped_us.max(*answered.last()?));
        let longest = |after: bool| {
            let gaps = answered.windows(2).filter(|pair| (pair[1] >= seen.fault_us) == after);
            gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        Some(Self { longest_us: longest(true), usual_us: longest(false) })
    }
}
