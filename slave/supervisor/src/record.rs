//! What must survive the slave and the machine: counters, plans, and the incarnation that may be alive.

use alloc::{string::String, vec::Vec};

use minder_model::{Cause, Digest, ExitRecord, Generation, Incarnation, InstanceKey, LocalStop, Revision};
use minicbor::{CborLen, Decode, Encode};

/// The durable part of a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Record {
    /// Which instance.
    #[n(0)]
    pub key: InstanceKey,
    /// The last incarnation number that was given out.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The incarnation that was asked for and is not known to be over.
    #[n(2)]
    pub live: Option<Live>,
    /// What became of the last one.
    #[n(3)]
    pub outcome: Outcome,
    /// Why.
    #[n(4)]
    pub cause: Cause,
    /// In this outcome since, wall clock.
    #[n(5)]
    pub since_ms: u64,
    /// The spec that the outcome belongs to.
    #[n(6)]
    pub spec: Digest,
    /// Its version.
    #[n(7)]
    pub generation: Generation,
    /// Restarts by policy since an operator last said start, restart or retry.
    #[n(8)]
    pub restarts: u32,
    /// Wall clock of those within the window, oldest first.
    #[n(9)]
    pub window: Vec<u64>,
    /// The wait before the next restart; 0 when it starts over.
    #[n(10)]
    pub delay_ms: u64,
    /// The latest restart order carried out.
    #[n(11)]
    pub restart_at: Revision,
    /// The latest retry order carried out.
    #[n(12)]
    pub retry_at: Revision,
    /// The latest signal order carried out.
    #[n(13)]
    pub signal_at: Revision,
    /// The latest exits, newest last.
    #[n(14)]
    pub exits: Vec<ExitRecord>,
    /// The limit was reached and no run since then was a good one: one try at a time.
    #[n(15)]
    pub slow: bool,
    /// The live incarnation is being ended for this; its end counts as a failure, also after a restart of the slave.
    #[n(20)]
    pub unhealthy: Option<Unhealthy>,
    /// Somebody on the machine has stopped it, and nothing later says otherwise.
    #[n(40)]
    pub local_stop: Option<LocalStop>,
}

/// Why a running incarnation is ended by its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Unhealthy {
    /// A sentence for people.
    #[n(0)]
    pub sentence: String,
    /// How long it ran well.
    #[n(1)]
    pub ran_ms: u64,
}

/// An incarnation that may be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Live {
    /// Its number.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The spec version it runs.
    #[n(1)]
    pub generation: Generation,
    /// That spec.
    #[n(2)]
    pub spec: Digest,
    /// The part of it that only a new start can change.
    #[n(3)]
    pub launch: Digest,
    /// It was asked to end.
    #[n(4)]
    pub stopping: bool,
    /// When it was, on the machine's clock that only goes forward: a stop outlives a restart of the slave with what is
    /// left of its grace. Means nothing after a reboot, when nothing lives either.
    #[n(20)]
    pub stop_mono_ms: Option<u64>,
}

/// What became of the last incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
pub enum Outcome {
    /// There was none yet, or it made way for the next one.
    #[default]
    #[n(0)]
    Pending,
    /// It was stopped.
    #[n(1)]
    Stopped,
    /// The next one starts at this wall clock.
    #[n(2)]
    Backoff(#[n(0)] u64),
    /// Given up; one more try at this wall clock, 0 for none.
    #[n(3)]
    Fatal(#[n(0)] u64),
    /// It ended and its policy wants no more.
    #[n(4)]
    Exited,
}

impl Record {
    /// An instance that nothing has happened to yet.
    pub fn new(key: InstanceKey, wall_ms: u64) -> Self {
        Self {
            key,
            incarnation: Incarnation::ZERO,
            live: None,
            outcome: Outcome::Pending,
            cause: Cause::Wanted,
            since_ms: wall_ms,
            spec: Digest::default(),
            generation: Generation::ZERO,
            restarts: 0,
            window: Vec::new(),
            delay_ms: 0,
            restart_at: Revision::ZERO,
            retry_at: Revision::ZERO,
            signal_at: Revision::ZERO,
            exits: Vec::new(),
            slow: false,
            unhealthy: None,
            local_stop: None,
        }
    }
}
