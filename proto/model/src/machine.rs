//! What a slave tells of its machine: facts that rarely change and use that always does. Never in Raft.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};

use crate::{limits::STRAY_PIDS_MAX, spec::Resource};

/// How firmly a slave can hold on to processes; shown per host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum SupervisionLevel {
    /// A fresh cgroup v2 leaf per incarnation: nothing escapes, killing is one write.
    #[n(0)]
    Cgroup,
    /// Session, sub-reaper and descendant scan: a program that works at it can escape.
    #[default]
    #[n(1)]
    Session,
}

/// What rarely changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct MachineFacts {
    /// Logical processors.
    #[n(0)]
    pub cores: u32,
    /// Processor model.
    #[n(1)]
    pub cpu_model: String,
    /// Bytes of memory.
    #[n(2)]
    pub memory_bytes: u64,
    /// Bytes of swap.
    #[n(3)]
    pub swap_bytes: u64,
    /// Operating system and its version.
    #[n(4)]
    pub os: String,
    /// Kernel release.
    #[n(5)]
    pub kernel: String,
    /// Processor architecture.
    #[n(6)]
    pub architecture: String,
    /// Version of the slave.
    #[n(7)]
    pub slave_version: String,
    /// How firmly processes are held.
    #[n(8)]
    pub supervision: SupervisionLevel,
    /// Which limits of `resources` can be held. One that is not in here is unknown to a slave of this version.
    #[n(20)]
    #[cbor(default)]
    pub limits: Vec<LimitSupport>,
    /// What a person should know about how processes are held here, one sentence each.
    #[n(21)]
    #[cbor(default)]
    pub supervision_notes: Vec<String>,
}

/// Whether one limit can be held on a host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LimitSupport {
    /// Which.
    #[n(0)]
    pub resource: Resource,
    /// Why it cannot; empty when it can.
    #[n(1)]
    pub missing: String,
}

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Disk {
    /// Where it is mounted.
    #[n(0)]
    pub mount_point: String,
    /// Device or source.
    #[n(1)]
    pub device: String,
    /// File system type.
    #[n(2)]
    pub file_system: String,
    /// Size in bytes.
    #[n(3)]
    pub total_bytes: u64,
    /// Bytes left for ordinary users.
    #[n(4)]
    pub available_bytes: u64,
    /// Inodes in all, 0 where the file system does not count them.
    #[n(5)]
    pub total_inodes: u64,
    /// Inodes left.
    #[n(6)]
    pub free_inodes: u64,
}

/// One network interface and its rates over the last sample.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct NetworkInterface {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Bytes received per second.
    #[n(1)]
    pub received_bytes_per_second: u64,
    /// Bytes sent per second.
    #[n(2)]
    pub sent_bytes_per_second: u64,
    /// Bytes received since boot.
    #[n(3)]
    pub received_bytes: u64,
    /// Bytes sent since boot.
    #[n(4)]
    pub sent_bytes: u64,
}

/// What one instance's processes use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ProcessUsage {
    /// The instance, as `name` or `name:3`.
    #[n(0)]
    pub instance: String,
    /// CPU over the last sample in thousandths of one core.
    #[n(1)]
    pub cpu_millicores: u32,
    /// Resident memory of the main process, in bytes.
    #[n(2)]
    pub resident_bytes: u64,
    /// Threads of the main process.
    #[n(3)]
    pub threads: u32,
    /// Open files of the main process.
    #[n(4)]
    pub open_files: u32,
}

/// Processes where the slave keeps its own, of which its ledger knows nothing: the ledger was lost or is an older one,
/// or they were put there past the slave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Stray {
    /// The instance they were started for, as `name` or `name:3`.
    #[n(0)]
    pub instance: String,
    /// Which of its starts.
    #[n(1)]
    pub incarnation: u64,
    /// Their pids, the first [`STRAY_PIDS_MAX`] of them.
    #[n(2)]
    pub pids: Vec<u32>,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.pids.len() >= STRAY_PIDS_MAX { " and more" } else { "" };
        let pids: Vec<String> = self.pids.iter().map(ToString::to_string).collect();
        write!(f, "stray processes of {}, incarnation {}: {}{more}", self.instance, self.incarnation, pids.join(", "))
    }
}

/// One sample of what always changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct MachineUsage {
    /// Host's wall clock at the sample, milliseconds since 1970.
    #[n(0)]
    pub sampled_at_ms: u64,
    /// Seconds since boot.
    #[n(1)]
    pub uptime_seconds: u64,
    /// CPU in use over the last sample, in thousandths of all cores together (1000 is everything).
    #[n(2)]
    pub cpu_permille: u32,
    /// Load averages over 1, 5 and 15 minutes, in thousandths.
    #[n(3)]
    pub load_permille: Vec<u32>,
    /// Memory in use, in bytes.
    #[n(4)]
    pub memory_used_bytes: u64,
    /// Memory that could be given to programs, in bytes.
    #[n(5)]
    pub memory_available_bytes: u64,
    /// Swap in use, in bytes.
    #[n(6)]
    pub swap_used_bytes: u64,
    /// File systems.
    #[n(7)]
    pub disks: Vec<Disk>,
    /// Interfaces.
    #[n(8)]
    pub networks: Vec<NetworkInterface>,
    /// Instances that have a process.
    #[n(9)]
    pub processes: Vec<ProcessUsage>,
    /// Processes that nobody here knows of.
    #[n(30)]
    #[cbor(skip_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
}
