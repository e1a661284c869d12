//! What happened in the fleet, as this leader saw it: a bounded ring in memory, never in Raft. A new leader fills its
//! own from what the slaves send again.

use std::{collections::VecDeque, sync::Mutex};

use minder_proto::v1;
use tokio::sync::watch;

/// Events kept: at some 300 bytes each about 3 MiB, and hours of a fleet that is not in flames.
const EVENTS_KEPT_MAX: usize = 10_000;

/// The ring of events.
pub struct EventLog {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    /// Number of the first event in `events`; numbers begin at 1.
    first: u64,
    events: VecDeque<v1::Event>,
}

impl EventLog {
    /// An empty ring.
    pub fn new() -> Self {
        let ring = Ring { first: 1, events: VecDeque::new() };
        Self { ring: Mutex::new(ring), newest: watch::channel(0).0 }
    }

    /// Adds one event, and forgets the oldest beyond the bound.
    pub fn push(&self, event: v1::Event) {
        let mut ring = crate::lock(&self.ring);
        ring.events.push_back(event);
        if ring.events.len() > EVENTS_KEPT_MAX {
            ring.events.pop_front();
            ring.first += 1;
        }
        let newest = ring.first + ring.events.len() as u64 - 1;
        self.newest.send_replace(newest);
    }

    /// The events after number `after`, with the number of the last; an event that was forgotten meanwhile is skipped.
    pub fn after(&self, after: u64) -> (Vec<v1::Event>, u64) {
        let ring = crate::lock(&self.ring);
        let skip = (after + 1).saturating_sub(ring.first) as usize;
        let events: Vec<v1::Event> = ring.events.iter().skip(skip).cloned().collect();
        (events, ring.first + ring.events.len() as u64 - 1)
    }

    /// Number of the newest event, followed.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}
