//! Answers as JSON and YAML show them. These names are an interface: scripts rely on them.

use std::collections::BTreeMap;

use minder_client::v1;
use minder_model::{ExitStatus, Spec};
use minder_proto::convert::{spec::spec_from_wire, status};
use serde::Serialize;

use crate::{
    failure::{FAILED, Failure},
    flags::Output,
    screen::put,
    words,
};

/// Prints a value as JSON or YAML.
pub fn print<T: Serialize>(output: Output, value: &T) -> Result<(), Failure> {
    let text = match output {
        Output::Yaml => serde_yaml_ng::to_string(value).map_err(|error| error.to_string()),
        Output::Json | Output::Table | Output::Wide | Output::Name => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
        }
    };
    put(&text.map_err(|why| Failure::new(FAILED, "the answer cannot be written in this form").cause(why))?);
    Ok(())
}

#[derive(Serialize)]
pub struct Listing<T> {
    pub revision: u64,
    pub term: u64,
    pub items: Vec<T>,
}

impl<T> Listing<T> {
    pub fn new(position: Option<&v1::Position>, items: Vec<T>) -> Self {
        let position = position.cloned().unwrap_or_default();
        Self { revision: position.revision, term: position.term, items }
    }
}

#[derive(Serialize)]
pub struct WriteView {
    pub revision: u64,
    pub term: u64,
    pub dry_run: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ChangeView>,
    pub instance_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Serialize)]
pub struct ChangeView {
    pub name: String,
    pub change: &'static str,
    pub generation: u64,
    pub instances: u64,
}

impl WriteView {
    pub fn new(reply: &v1::WriteReply) -> Self {
        let position = reply.position.clone().unwrap_or_default();
        let change = |change: &v1::ProcessChange| ChangeView {
            name: change.name.clone(),
            change: change_word(change.kind()),
            generation: change.generation,
            instances: change.instances,
        };
        Self {
            revision: position.revision,
            term: position.term,
            dry_run: reply.dry_run,
            processes: reply.processes.iter().map(change).collect(),
            instance_count: reply.instance_count,
            instances: reply.instances.iter().map(words::full).collect(),
            warnings: reply.warnings.clone(),
        }
    }
}

pub fn change_word(kind: v1::ProcessChangeKind) -> &'static str {
    match kind {
        v1::ProcessChangeKind::Created => "created",
        v1::ProcessChangeKind::Changed => "changed",
        v1::ProcessChangeKind::Unchanged => "unchanged",
        v1::ProcessChangeKind::Deleted => "deleted",
        v1::ProcessChangeKind::Unspecified => "unknown",
    }
}

#[derive(Serialize)]
pub struct InstanceView {
    pub name: String,
    pub process: String,
    pub instance: u32,
    pub host: String,
    pub phase: &'static str,
    pub wanted_running: bool,
    pub owed: String,
    pub why: String,
    pub cause: String,
    pub pid: u32,
    pub since_ms: u64,
    pub started_at_ms: u64,
    pub incarnation: u64,
    pub generation: u64,
    pub generation_wanted: u64,
    pub restarts: u32,
    pub restarts_in_window: u32,
    pub next_start_ms: u64,
    pub age_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitView>,
}

#[derive(Serialize)]
pub struct ExitView {
    pub incarnation: u64,
    pub generation: u64,
    pub how: String,
    pub started_at_ms: u64,
    pub ended_at_ms: u64,
    pub lived_ms: u64,
    pub cpu_ms: u64,
    pub memory_peak_bytes: u64,
    pub requested: bool,
    pub killed_after_grace: bool,
    pub oom_kills: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub start_failure_step: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub last_stdout: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub last_stderr: String,
}

impl InstanceView {
    pub fn new(instance: &v1::Instance) -> Self {
        let name = instance.name.clone().unwrap_or_default();
        let seen = instance.status.clone().unwrap_or_default();
        let cause = seen.cause.clone().and_then(|cause| status::cause_from_wire(cause).ok());
        let usage = instance.usage.as_ref();
        Self {
            name: words::instance(&name),
            process: name.process,
            instance: name.index,
            host: name.host,
            phase: phase(instance),
            wanted_running: instance.wanted_running,
            owed: instance.owed.clone(),
            why: instance.why.clone(),
            cause: cause.map(|cause| cause.to_string()).unwrap_or_default(),
            pid: seen.pid,
            since_ms: seen.since_ms,
            started_at_ms: seen.started_at_ms,
            incarnation: seen.incarnation,
            generation: seen.generation,
            generation_wanted: instance.generation_wanted,
            restarts: seen.restarts,
            restarts_in_window: seen.restarts_in_window,
            next_start_ms: seen.next_start_ms,
            age_ms: instance.age_ms,
            cpu_millicores: usage.map(|usage| usage.cpu_millicores),
            resident_bytes: usage.map(|usage| usage.resident_bytes),
            threads: usage.map(|usage| usage.threads),
            open_files: usage.map(|usage| usage.open_files),
            labels: instance.labels.clone(),
            warnings: instance.warnings.clone(),
            exits: seen.exits.iter().map(ExitView::new).collect(),
        }
    }

    /// `name@host`.
    pub fn full(&self) -> String {
        format!("{}@{}", self.name, self.host)
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, "RUNNING" | "READY")
    }
}

/// The phase to show. An instance that no slave has ever reported is pending.
pub fn phase(instance: &v1::Instance) -> &'static str {
    match instance.status.as_ref().map(v1::InstanceStatus::phase) {
        None | Some(v1::Phase::Unspecified) => "PENDING",
        Some(phase) => status::phase_from_wire(phase).word(),
    }
}

impl ExitView {
    pub fn new(exit: &v1::ExitRecord) -> Self {
        // A slave of a newer version may say what this one has no word for.
        let how = status::exit_record_from_wire(exit.clone())
            .map_or_else(|_| ExitStatus::Unknown.to_string(), |exit| exit.to_string());
        Self {
            incarnation: exit.incarnation,
            generation: exit.generation,
            how,
            started_at_ms: exit.started_at_ms,
            ended_at_ms: exit.ended_at_ms,
            lived_ms: exit.ended_at_ms.saturating_sub(exit.started_at_ms),
            cpu_ms: exit.cpu_ms,
            memory_peak_bytes: exit.memory_peak_bytes,
            requested: exit.requested,
            killed_after_grace: exit.killed_after_grace,
            oom_kills: exit.oom_kills,
            start_failure_step: exit.start_failure.as_ref().map(|failure| failure.step.clone()).unwrap_or_default(),
            last_stdout: exit.last_stdout.clone(),
            last_stderr: exit.last_stderr.clone(),
        }
    }
}

#[derive(Serialize)]
pub struct ProcessView {
    pub name: String,
    pub generation: u64,
    pub revision: u64,
    pub wanted_running: bool,
    pub created_at_ms: u64,
    pub changed_at_ms: u64,
    pub changed_by: String,
    pub hosts: Vec<String>,
    pub spec: Option<Spec>,
}

impl ProcessView {
    pub fn new(process: &v1::Process) -> Self {
        let wire = process.spec.clone().unwrap_or_default();
        Self {
            name: wire.name.clone(),
            generation: process.generation,
            revision: process.revision,
            wanted_running: process.wanted_running,
            created_at_ms: process.created_at_ms,
            changed_at_ms: process.changed_at_ms,
            changed_by: process.changed_by.clone(),
            hosts: process.hosts.clone(),
            // A spec of a newer version may not fit this one's; then the rest is shown all the same.
            spec: spec_from_wire(wire).ok(),
        }
    }
}

#[derive(Serialize)]
pub struct HostView {
    pub name: String,
    pub address: String,
    pub condition: &'static str,
    pub labels: BTreeMap<String, String>,
    pub silent_ms: Option<u64>,
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
        }
    }
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

#[derive(Serialize)]
pub struct ManagersView {
    pub cluster_id: String,
    pub revision: u64,
    pub term: u64,
    pub managers: Vec<ManagerView>,
}

#[derive(Serialize)]
pub struct ManagerView {
    pub id: u64,
    pub peer_address: String,
    pub client_address: String,
    pub role: String,
    pub voter: bool,
    pub term: u64,
    pub last_log_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub snapshot_index: u64,
    pub purged_index: u64,
    pub lag: u64,
    pub state_hash: String,
    pub fsync_p50_us: u64,
    pub fsync_p99_us: u64,
    pub leader_changes: u64,
    pub sessions: u32,
    pub disk_free_bytes: u64,
    pub uptime_seconds: u64,
    pub version: String,
}

impl ManagersView {
    pub fn new(reply: &v1::GetManagersReply) -> Self {
        let position = reply.position.clone().unwrap_or_default();
        Self {
            cluster_id: reply.cluster_id.clone(),
            revision: position.revision,
            term: position.term,
            managers: reply.managers.iter().map(ManagerView::new).collect(),
        }
    }
}

impl ManagerView {
    fn new(manager: &v1::ManagerStatus) -> Self {
        let member = manager.member.clone().unwrap_or_default();
        Self {
            id: member.id,
            peer_address: member.peer_address,
            client_address: member.client_address,
            role: manager.role.clone(),
            voter: manager.voter,
            term: manager.term,
            last_log_index: manager.last_log_index,
            committed_index: manager.committed_index,
            applied_index: manager.applied_index,
            snapshot_index: manager.snapshot_index,
            purged_index: manager.purged_index,
            lag: manager.lag,
            state_hash: manager.state_hash.clone(),
            fsync_p50_us: manager.fsync_p50_us,
            fsync_p99_us: manager.fsync_p99_us,
            leader_changes: manager.leader_changes,
            sessions: manager.sessions,
            disk_free_bytes: manager.disk_free_bytes,
            uptime_seconds: manager.uptime_seconds,
            version: manager.version.clone(),
        }
    }
}

#[derive(Serialize)]
pub struct EventView {
    pub time_ms: u64,
    pub kind: String,
    pub host: String,
    pub process: String,
    pub instance: u32,
    pub text: String,
}
