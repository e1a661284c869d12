//! Answers as JSON and YAML show them. These names are an interface: scripts rely on them.

mod host;

use std::collections::BTreeMap;

use minder_client::v1;
use minder_model::{ExitStatus, Spec};
use minder_proto::convert::{spec::spec_from_wire, status};
use serde::Serialize;

pub use self::host::{FactsView, HostView, UsageView};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsView>,
}

/// What is remembered of a large apply whose request was repeated.
#[derive(Serialize)]
pub struct CountsView {
    pub created: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub deleted: u64,
    pub instances: u64,
}

impl From<v1::ProcessCounts> for CountsView {
    fn from(counts: v1::ProcessCounts) -> Self {
        let v1::ProcessCounts { created, changed, unchanged, deleted, instances } = counts;
        Self { created, changed, unchanged, deleted, instances }
    }
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
            counts: reply.counts.map(CountsView::from),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<CheckView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<CheckView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitView>,
}

#[derive(Serialize)]
pub struct CheckView {
    pub state: &'static str,
    pub failures: u32,
    pub message: String,
    pub since_ms: u64,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_ms: Option<u64>,
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
            health: seen.health.map(CheckView::new),
            ready: seen.ready.map(CheckView::new),
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

impl CheckView {
    fn new(wire: v1::ProbeStatus) -> Self {
        let probe = status::probe_status_from_wire(wire);
        Self { state: probe.state.word(), failures: probe.failures, message: probe.message, since_ms: probe.since_ms }
    }

    /// For people: how it stands, since when, and the last answer that was none.
    pub fn sentence(&self) -> String {
        let since = if self.since_ms == 0 { String::new() } else { format!(" for {}", words::since(self.since_ms)) };
        match (self.message.as_str(), self.failures) {
            ("", _) => format!("{}{since}", self.state),
            (message, 0 | 1) => format!("{}{since}: {message}", self.state),
            (message, failures) => format!("{}{since}: {message} ({failures} in a row)", self.state),
        }
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
            stop_ms: exit.stop_ms,
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
pub struct ManagersView {
    pub cluster_id: String,
    pub revision: u64,
    pub term: u64,
    pub command_version: u32,
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
    pub disk_total_bytes: u64,
    pub disk_floor_bytes: u64,
    pub log_bytes: u64,
    pub snapshot_bytes: u64,
    pub snapshot_age_ms: Option<u64>,
    pub clock_offset_ms: Option<i64>,
    pub answered_in_us: Option<u64>,
    pub proposals_in_flight: u32,
    pub proposals_max: u32,
    pub uptime_seconds: u64,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_version: Option<u32>,
}

impl ManagersView {
    pub fn new(reply: &v1::GetManagersReply) -> Self {
        let position = reply.position.clone().unwrap_or_default();
        Self {
            cluster_id: reply.cluster_id.clone(),
            revision: position.revision,
            term: position.term,
            command_version: reply.cluster_version.max(1),
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
            disk_total_bytes: manager.disk_total_bytes,
            disk_floor_bytes: manager.disk_floor_bytes,
            log_bytes: manager.log_bytes,
            snapshot_bytes: manager.snapshot_bytes,
            snapshot_age_ms: manager.snapshot_age_ms,
            clock_offset_ms: manager.clock_offset_ms,
            answered_in_us: manager.answered_in_us,
            proposals_in_flight: manager.proposals_in_flight,
            proposals_max: manager.proposals_max,
            uptime_seconds: manager.uptime_seconds,
            version: manager.version.clone(),
            command_version: (manager.role != "unreachable").then_some(manager.command_version.max(1)),
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
