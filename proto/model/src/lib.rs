//! The words of Minder as types: what users declare, what managers assign, what slaves report, and the one
//! function that says what is owed between the two.
//!
//! This crate decides nothing about time, files, threads or the network; they do not exist here. It knows neither
//! the wire (`minder-proto`) nor the replicated table (`minder-state`).
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

mod assignment;
mod check;
mod digest;
mod duration;
mod exits;
mod host_warnings;
mod id;
mod items;
mod limits;
mod machine;
mod machine_history;
mod reconcile;
mod report;
mod selection;
mod signal;
mod size;
mod spec;
mod stored;
mod utc;
mod version;

pub use assignment::{Assignment, AssignmentDelta, DeltaError, Item, LocalStop, SignalOrder, Wanted};
pub use check::{
    FieldError, FieldErrors, check_labels, check_order, check_spec, ring as order_ring, said as order_ring_said,
    warnings,
};
pub use digest::Digest;
pub use duration::Millis;
pub use exits::{exits_added, note_exit};
pub use host_warnings::host_warnings;
pub use id::{
    BootId, ClusterId, Generation, HostName, IdError, Incarnation, InstanceKey, InstanceRef, ManagerId, ProcessName,
    RequestId, Revision,
};
pub use items::Items;
pub use limits::*;
pub use machine::{
    Disk, LimitSupport, MachineFacts, MachineUsage, NetworkInterface, ProcessUsage, Stray, SupervisionLevel,
};
pub use machine_history::{HISTORY_SAMPLES, HISTORY_STEP_S, HistoryStep, MachineHistory, MachineSample};
pub use reconcile::{Owed, OwedWhy, owed_by, reconcile};
pub use report::{
    Asked, Cause, ExitRecord, ExitStatus, InstanceStatus, LastOutput, Phase, ProbeState, ProbeStatus, StartFailure,
};
pub use selection::{Place, Selection, SelectionError};
pub use signal::Signal;
pub use size::Bytes;
pub use spec::{
    Cores, Daemon, File, Health, Hook, Hooks, Limit, LogFull, Logs, OnUnhealthy, Override, Probe, Ready, Reload,
    Resource, Resources, Restart, RestartPolicy, RunSpec, Spec, Start, Stop, StopScope, StopStep, Target,
};
pub use stored::{encode, encode_after};
pub use utc::Utc;
pub use version::CommandVersion;
