//! What happens to an instance and what is done about it.

use alloc::{boxed::Box, string::String};

use minder_model::{
    ExitStatus, Generation, Incarnation, Item, LastOutput, Probe, RunSpec, Signal, StartFailure, StopScope,
};

/// The time, as an argument, and a number for the jitter of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that only goes forward, in milliseconds; deadlines are on it.
    pub mono_ms: u64,
    /// The wall clock, milliseconds since 1970; what outlives the slave is on it.
    pub wall_ms: u64,
    /// Any number; waits are jittered with it.
    pub random: u64,
}

/// What happens to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is assigned like this. The run spec is absent while the slave has not got it.
    Assigned {
        /// What is wanted.
        item: Item,
        /// What `item.spec` addresses.
        run_spec: Option<RunSpec>,
    },
    /// It is assigned no more.
    Removed,
    /// The incarnation that was asked for runs.
    Started {
        /// Which one.
        incarnation: Incarnation,
        /// Its main process.
        pid: u32,
        /// Wall clock at its start.
        started_at_ms: u64,
    },
    /// After a restart of the slave: the incarnation of before is alive.
    TakenOver {
        /// Which one.
        incarnation: Incarnation,
        /// Its main process.
        pid: u32,
        /// Wall clock at its start.
        started_at_ms: u64,
        /// What it runs, if the slave still has it.
        run_spec: Option<RunSpec>,
    },
    /// The incarnation is over: no process of it is left.
    Ended(Ended),
    /// Every process of the incarnation is gone; its end is told when its last hook has run.
    Leaving {
        /// Which one.
        incarnation: Incarnation,
    },
    /// The question that [`Effect::Probe`] asked is answered, by silence too.
    Probed {
        /// Of this incarnation.
        incarnation: Incarnation,
        /// By which check.
        kind: ProbeKind,
        /// Its number.
        number: u64,
        /// Success, or what came instead, in a few words.
        answer: Result<(), String>,
    },
    /// Somebody on the machine itself says so.
    Local {
        /// What is to be done.
        order: LocalOrder,
        /// The user who says it.
        by: String,
    },
    /// A time that [`Effect::WakeAt`] asked for may have come.
    Timer,
    /// Others of its host come after it, or none do: while they do it asks before it stops.
    Needed(bool),
    /// The answer of its host's order to what it asks; see [`crate::keep_order`].
    Gate(Gate),
}

/// Whether it is an instance's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may start or stop, in this step.
    Open,
    /// It waits, for what the sentence says.
    Wait(String),
    /// A restart that its policy makes may happen, in this step.
    Turn,
}

/// Which of its two checks a question belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether it is well.
    Health,
    /// Whether it can serve.
    Ready,
}

/// What people on the machine itself may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOrder {
    /// Stop, and stay stopped whatever is assigned.
    Stop,
    /// End a local stop; try again now what has given up or ended.
    Start,
    /// Begin a new incarnation; ends a local stop as well.
    Restart,
}

/// Why a local order is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRefusal {
    /// The managers have not assigned it, or not any more.
    NotAssigned,
    /// The managers want it stopped.
    WantedStopped,
}

/// How an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub incarnation: Incarnation,
    /// How its main process ended.
    pub status: ExitStatus,
    /// Set when the program never ran.
    pub start_failure: Option<StartFailure>,
    /// Wall clock at its start.
    pub started_at_ms: u64,
    /// Wall clock at its end.
    pub ended_at_ms: u64,
    /// CPU time, in milliseconds.
    pub cpu_ms: u64,
    /// Peak memory, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes of it that the kernel killed for memory.
    pub oom_kills: u32,
    /// The last it said.
    pub last_output: LastOutput,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make [`crate::Supervisor::record`] durable before anything that follows.
    Save,
    /// Start an incarnation.
    Spawn {
        /// Its number, never used before.
        incarnation: Incarnation,
        /// The spec version it runs.
        generation: Generation,
        /// How it is run.
        run_spec: Box<RunSpec>,
    },
    /// Send a signal.
    Signal {
        /// To this incarnation.
        incarnation: Incarnation,
        /// This one.
        signal: Signal,
        /// To whom of it.
        scope: StopScope,
        /// Send CONT right after it, so that a stopped program sees it.
        then_continue: bool,
    },
    /// Run the command of its spec's `reload`.
    Reload {
        /// Beside this incarnation.
        incarnation: Incarnation,
    },
    /// Kill every process of the incarnation.
    KillTree {
        /// Of this one.
        incarnation: Incarnation,
    },
    /// Ask a running process. Every question is answered by one [`Event::Probed`]; until then the same check asks no
    /// other.
    Probe {
        /// This incarnation.
        incarnation: Incarnation,
        /// For this check.
        kind: ProbeKind,
        /// Goes back with the answer.
        number: u64,
        /// How; variables are not filled in yet.
        probe: Probe,
        /// An answer that takes longer is a failure.
        timeout_ms: u64,
    },
    /// Give [`Event::Timer`] at this time or later.
    WakeAt(u64),
    /// Tell people, as an event.
    Tell(String),
    /// Nothing is left of the instance: drop it and its record.
    Forget,
}
