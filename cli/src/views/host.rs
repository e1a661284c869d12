//! Hosts and their machines.

use std::collections::BTreeMap;

use minder_client::v1;
use serde::Serialize;

#[derive(Serialize)]
pub struct HostView {
    pub name: String,
    pub address: String,
    pub condition: &'static str,
    pub labels: BTreeMap<String, String>,
    pub silent_ms: Option<u64>,
    /// Of a silent host: why it is not called lost.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How far its wall clock is ahead of the leader's.
    pub clock_offset_ms: Option<i64>,
    pub registered: bool,
    pub boot_id: String,
    pub instances_wanted: u32,
    pub instances_running: u32,
    pub assignment_revision: u64,
    pub assignment_revision_seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<FactsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
    pub usage_age_ms: Option<u64>,
}

#[derive(Serialize)]
pub struct FactsView {
    pub cores: u32,
    pub cpu_model: String,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub os: String,
    pub kernel: String,
    pub architecture: String,
    pub slave_version: String,
    pub supervision: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supervision_notes: Vec<String>,
    /// Limits by name: `enforced`, or why not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub struct UsageView {
    pub sampled_at_ms: u64,
    pub uptime_seconds: u64,
    pub cpu_permille: u32,
    pub load_permille: Vec<u32>,
    pub memory_used_bytes: u64,
    pub memory_available_bytes: u64,
    pub swap_used_bytes: u64,
    pub disks: Vec<DiskView>,
    pub networks: Vec<NetworkView>,
    pub processes: Vec<ProcessUsageView>,
    /// Processes that the slave knows nothing of, a sentence for each group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<String>,
}

#[derive(Serialize)]
pub struct DiskView {
    pub mount_point: String,
    pub device: String,
    pub file_system: String,
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub total_inodes: u64,
    pub free_inodes: u64,
}

#[derive(Serialize)]
pub struct NetworkView {
    pub name: String,
    pub received_bytes_per_second: u64,
    pub sent_bytes_per_second: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

#[derive(Serialize)]
pub struct ProcessUsageView {
    pub instance: String,
    pub cpu_millicores: u32,
    pub resident_bytes: u64,
    pub threads: u32,
    pub open_files: u32,
}

impl HostView {
    pub fn new(host: &v1::Host) -> Self {
        Self {
            name: host.name.clone(),
            address: host.address.clone(),
            condition: match host.condition() {
                v1::HostCondition::Connected => "connected",
                v1::HostCondition::Suspect => "suspect",
                v1::HostCondition::Lost => "lost",
                v1::HostCondition::Unheard | v1::HostCondition::Unspecified => "unheard",
            },
            labels: host.labels.clone(),
            silent_ms: host.silent_ms,
            note: host.note.clone(),
            clock_offset_ms: host.clock_offset_ms,
            registered: host.registered,
            boot_id: host.boot_id.clone(),
            instances_wanted: host.instances_wanted,
            instances_running: host.instances_running,
            assignment_revision: host.assignment_revision,
            assignment_revision_seen: host.assignment_revision_seen,
            facts: host.facts.as_ref().map(FactsView::new),
            usage: host.usage.as_ref().map(UsageView::new),
            usage_age_ms: host.usage_age_ms,
        }
    }
}

impl FactsView {
    fn new(facts: &v1::MachineFacts) -> Self {
        Self {
            cores: facts.cores,
            cpu_model: facts.cpu_model.clone(),
            memory_bytes: facts.memory_bytes,
            swap_bytes: facts.swap_bytes,
            os: facts.os.clone(),
            kernel: facts.kernel.clone(),
            architecture: facts.architecture.clone(),
            slave_version: facts.slave_version.clone(),
            supervision: match facts.supervision() {
                v1::SupervisionLevel::Cgroup => "cgroup",
                v1::SupervisionLevel::Session | v1::SupervisionLevel::Unspecified => "session",
            },
            supervision_notes: facts.supervision_notes.clone(),
            limits: facts.limits.iter().map(limit).collect(),
        }
    }
}

fn limit(support: &v1::LimitSupport) -> (String, String) {
    let held = if support.missing.is_empty() { "enforced".into() } else { support.missing.clone() };
    (support.resource.clone(), held)
}

impl UsageView {
    fn new(usage: &v1::MachineUsage) -> Self {
        Self {
            sampled_at_ms: usage.sampled_at_ms,
            uptime_seconds: usage.uptime_seconds,
            cpu_permille: usage.cpu_permille,
            load_permille: usage.load_permille.clone(),
            memory_used_bytes: usage.memory_used_bytes,
            memory_available_bytes: usage.memory_available_bytes,
            swap_used_bytes: usage.swap_used_bytes,
            disks: usage.disks.iter().map(DiskView::new).collect(),
            networks: usage.networks.iter().map(NetworkView::new).collect(),
            processes: usage.processes.iter().map(ProcessUsageView::new).collect(),
            strays: usage.strays.iter().map(stray).collect(),
        }
    }
}

fn stray(stray: &v1::Stray) -> String {
    let v1::Stray { instance, incarnation, pids } = stray.clone();
    minder_model::Stray { instance, incarnation, pids }.to_string()
}

impl DiskView {
    fn new(disk: &v1::Disk) -> Self {
        Self {
            mount_point: disk.mount_point.clone(),
            device: disk.device.clone(),
            file_system: disk.file_system.clone(),
            total_bytes: disk.total_bytes,
            available_bytes: disk.available_bytes,
            total_inodes: disk.total_inodes,
            free_inodes: disk.free_inodes,
        }
    }
}

impl NetworkView {
    fn new(network: &v1::NetworkInterface) -> Self {
        Self {
            name: network.name.clone(),
            received_bytes_per_second: network.received_bytes_per_second,
            sent_bytes_per_second: network.sent_bytes_per_second,
            received_bytes: network.received_bytes,
            sent_bytes: network.sent_bytes,
        }
    }
}

impl ProcessUsageView {
    fn new(usage: &v1::ProcessUsage) -> Self {
        Self {
            instance: usage.instance.clone(),
            cpu_millicores: usage.cpu_millicores,
            resident_bytes: usage.resident_bytes,
            threads: usage.threads,
            open_files: usage.open_files,
        }
    }
}
