//! What is seen: statuses of instances, facts and use of machines.

use minder_model::{
    Asked, Cause, Digest, Disk, ExitRecord, ExitStatus, Generation, Incarnation, InstanceKey, InstanceStatus,
    LastOutput, LimitSupport, LocalStop, MachineFacts, MachineUsage, NetworkInterface, Phase, ProbeState, ProbeStatus,
    ProcessName, ProcessUsage, Resource, Revision, STRAY_PIDS_MAX, Signal, StartFailure, Stray, SupervisionLevel,
    exits_added,
};

use crate::v1;

/// A status that does not fit the model.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct StatusError {
    path: &'static str,
    message: String,
}

impl StatusError {
    fn new(path: &'static str, message: impl ToString) -> Self {
        Self { path, message: message.to_string() }
    }
}

/// A phase on the wire.
pub fn phase_to_wire(phase: Phase) -> v1::Phase {
    match phase {
        Phase::Pending => v1::Phase::Pending,
        Phase::Starting => v1::Phase::Starting,
        Phase::Running => v1::Phase::Running,
        Phase::Ready => v1::Phase::Ready,
        Phase::Stopping => v1::Phase::Stopping,
        Phase::Stopped => v1::Phase::Stopped,
        Phase::Backoff => v1::Phase::Backoff,
        Phase::Fatal => v1::Phase::Fatal,
        Phase::Exited => v1::Phase::Exited,
        Phase::Lost => v1::Phase::Lost,
        Phase::Unknown => v1::Phase::Unknown,
    }
}

/// A phase from the wire; one that a newer version may have added is unknown.
pub fn phase_from_wire(phase: v1::Phase) -> Phase {
    match phase {
        v1::Phase::Pending => Phase::Pending,
        v1::Phase::Starting => Phase::Starting,
        v1::Phase::Running => Phase::Running,
        v1::Phase::Ready => Phase::Ready,
        v1::Phase::Stopping => Phase::Stopping,
        v1::Phase::Stopped => Phase::Stopped,
        v1::Phase::Backoff => Phase::Backoff,
        v1::Phase::Fatal => Phase::Fatal,
        v1::Phase::Exited => Phase::Exited,
        v1::Phase::Lost => Phase::Lost,
        v1::Phase::Unknown | v1::Phase::Unspecified => Phase::Unknown,
    }
}

/// A status on the wire.
pub fn instance_status_to_wire(status: &InstanceStatus) -> v1::InstanceStatus {
    v1::InstanceStatus {
        process: status.key.process.to_string(),
        index: status.key.index,
        phase: phase_to_wire(status.phase).into(),
        cause: Some(cause_to_wire(&status.cause)),
        since_ms: status.since_ms,
        generation: status.generation.0,
        spec_digest: prost::bytes::Bytes::copy_from_slice(&status.spec.0),
        incarnation: status.incarnation.0,
        pid: status.pid,
        started_at_ms: status.started_at_ms,
        restarts: status.restarts,
        restarts_in_window: status.restarts_in_window,
        next_start_ms: status.next_start_ms,
        restart_at: status.restart_at.0,
        retry_at: status.retry_at.0,
        signal_at: status.signal_at.0,
        exits: status.exits.iter().map(exit_record_to_wire).collect(),
        health: status.health.as_ref().map(probe_status_to_wire),
        ready: status.ready.as_ref().map(probe_status_to_wire),
        exits_added: false,
    }
}

/// A status on the wire for whoever has been told `before`: of its exits only those that are new.
pub fn instance_status_to_wire_since(before: &InstanceStatus, status: &InstanceStatus) -> v1::InstanceStatus {
    match exits_added(&before.exits, &status.exits) {
        Some(exits) => {
            let told = InstanceStatus { exits, ..status.clone() };
            v1::InstanceStatus { exits_added: true, ..instance_status_to_wire(&told) }
        }
        None => instance_status_to_wire(status),
    }
}

/// A status from the wire.
pub fn instance_status_from_wire(wire: v1::InstanceStatus) -> Result<InstanceStatus, StatusError> {
    let process = ProcessName::new(wire.process.clone()).map_err(|error| StatusError::new("status.process", error))?;
    if wire.index == 0 {
        return Err(StatusError::new("status.index", "instances are numbered from 1"));
    }
    let phase = phase_from_wire(wire.phase());
    let exits: Result<Vec<ExitRecord>, StatusError> = wire.exits.into_iter().map(exit_record_from_wire).collect();
    Ok(InstanceStatus {
        key: InstanceKey::new(process, wire.index),
        phase,
        cause: wire.cause.map(cause_from_wire).transpose()?.unwrap_or_default(),
        since_ms: wire.since_ms,
        generation: Generation(wire.generation),
        spec: Digest::from_slice(&wire.spec_digest)
            .ok_or_else(|| StatusError::new("status.spec_digest", "is not 32 bytes"))?,
        incarnation: Incarnation(wire.incarnation),
        pid: wire.pid,
        started_at_ms: wire.started_at_ms,
        restarts: wire.restarts,
        restarts_in_window: wire.restarts_in_window,
        next_start_ms: wire.next_start_ms,
        restart_at: Revision(wire.restart_at),
        retry_at: Revision(wire.retry_at),
        signal_at: Revision(wire.signal_at),
        exits: exits?,
        health: wire.health.map(probe_status_from_wire),
        ready: wire.ready.map(probe_status_from_wire),
    })
}

/// How an incarnation ended, on the wire.
pub fn exit_status_to_wire(status: &ExitStatus) -> v1::ExitStatus {
    use v1::exit_status::Kind;
    let kind = match status {
        ExitStatus::Code(code) => Kind::Code(u32::from(*code)),
        ExitStatus::Signal(signal, core_dumped) => {
            Kind::Signal(v1::SignalExit { signal: signal.number().unsigned_abs(), core_dumped: *core_dumped })
        }
        ExitStatus::Unknown => Kind::Unknown(true),
        ExitStatus::Reboot => Kind::Reboot(true),
        ExitStatus::OutOfMemory => Kind::OutOfMemory(true),
    };
    v1::ExitStatus { kind: Some(kind) }
}

/// How an incarnation ended, from the wire; what a newer version may have added is unknown.
pub fn exit_status_from_wire(wire: v1::ExitStatus) -> Result<ExitStatus, StatusError> {
    use v1::exit_status::Kind;
    Ok(match wire.kind {
        Some(Kind::Code(code)) => ExitStatus::Code(
            u8::try_from(code).map_err(|_| StatusError::new("exit.code", format!("{code} is above 255")))?,
        ),
        Some(Kind::Signal(exit)) => {
            let signal = Signal::from_number(i64::from(exit.signal))
                .ok_or_else(|| StatusError::new("exit.signal", format!("{} is no signal", exit.signal)))?;
            ExitStatus::Signal(signal, exit.core_dumped)
        }
        Some(Kind::Reboot(_)) => ExitStatus::Reboot,
        Some(Kind::OutOfMemory(_)) => ExitStatus::OutOfMemory,
        Some(Kind::Unknown(_)) | None => ExitStatus::Unknown,
    })
}

/// A cause on the wire.
pub fn cause_to_wire(cause: &Cause) -> v1::Cause {
    use v1::cause::Kind;
    let kind = match cause {
        Cause::Wanted => Kind::Wanted(true),
        Cause::Ended(status) => Kind::Ended(exit_status_to_wire(status)),
        Cause::StartFailed(failure) => Kind::StartFailed(start_failure_to_wire(failure)),
        Cause::LimitReached(last, limit) => {
            Kind::LimitReached(v1::LimitReached { last: Some(exit_status_to_wire(last)), limit: *limit })
        }
        Cause::FatalCode(code) => Kind::FatalCode(u32::from(*code)),
        Cause::Operator => Kind::Operator(true),
        Cause::SpecChanged => Kind::SpecChanged(true),
        Cause::KilledAfterGrace => Kind::KilledAfterGrace(true),
        Cause::TakenOver => Kind::TakenOver(true),
        Cause::SpecMissing => Kind::SpecMissing(true),
        Cause::Unhealthy(sentence) => Kind::Unhealthy(sentence.clone()),
        Cause::NotReady(answer) => Kind::NotReady(answer.clone()),
        Cause::Waiting(sentence) => Kind::Waiting(sentence.clone()),
        Cause::StoppedLocally(stop) => {
            Kind::StoppedLocally(v1::LocalStop { by: stop.by.clone(), at_ms: stop.at_ms, start_at: stop.start_at.0 })
        }
    };
    v1::Cause { kind: Some(kind) }
}

/// A cause from the wire.
pub fn cause_from_wire(wire: v1::Cause) -> Result<Cause, StatusError> {
    use v1::cause::Kind;
    Ok(match wire.kind {
        Some(Kind::Wanted(_)) | None => Cause::Wanted,
        Some(Kind::Ended(status)) => Cause::Ended(exit_status_from_wire(status)?),
        Some(Kind::StartFailed(failure)) => Cause::StartFailed(start_failure_from_wire(failure)),
        Some(Kind::LimitReached(reached)) => {
            Cause::LimitReached(exit_status_from_wire(reached.last.unwrap_or_default())?, reached.limit)
        }
        Some(Kind::FatalCode(code)) => {
            Cause::FatalCode(u8::try_from(code).map_err(|_| StatusError::new("cause.fatal_code", "is above 255"))?)
        }
        Some(Kind::Operator(_)) => Cause::Operator,
        Some(Kind::SpecChanged(_)) => Cause::SpecChanged,
        Some(Kind::KilledAfterGrace(_)) => Cause::KilledAfterGrace,
        Some(Kind::TakenOver(_)) => Cause::TakenOver,
        Some(Kind::SpecMissing(_)) => Cause::SpecMissing,
        Some(Kind::Unhealthy(sentence)) => Cause::Unhealthy(sentence),
        Some(Kind::NotReady(answer)) => Cause::NotReady(answer),
        Some(Kind::Waiting(sentence)) => Cause::Waiting(sentence),
        Some(Kind::StoppedLocally(stop)) => {
            Cause::StoppedLocally(LocalStop { by: stop.by, at_ms: stop.at_ms, start_at: Revision(stop.start_at) })
        }
    })
}

fn start_failure_to_wire(failure: &StartFailure) -> v1::StartFailure {
    v1::StartFailure { step: failure.step.clone(), errno: failure.errno, message: failure.message.clone() }
}

fn start_failure_from_wire(wire: v1::StartFailure) -> StartFailure {
    StartFailure { step: wire.step, errno: wire.errno, message: wire.message }
}

/// One ended incarnation on the wire.
pub fn exit_record_to_wire(record: &ExitRecord) -> v1::ExitRecord {
    v1::ExitRecord {
        incarnation: record.incarnation.0,
        generation: record.generation.0,
        status: Some(exit_status_to_wire(&record.status)),
        start_failure: record.start_failure.as_ref().map(start_failure_to_wire),
        started_at_ms: record.started_at_ms,
        ended_at_ms: record.ended_at_ms,
        cpu_ms: record.cpu_ms,
        memory_peak_bytes: record.memory_peak_bytes,
        requested: record.requested,
        killed_after_grace: record.killed_after_grace,
        unhealthy: record.unhealthy.clone().unwrap_or_default(),
        stop_ms: record.stop_ms,
        asked: asked_to_wire(record.asked).into(),
        oom_kills: record.oom_kills,
        last_stdout: record.last_output.stdout.clone(),
        last_stderr: record.last_output.stderr.clone(),
        locally: record.locally,
    }
}

fn asked_to_wire(asked: Asked) -> v1::Asked {
    match asked {
        Asked::Nobody => v1::Asked::Nobody,
        Asked::Operator => v1::Asked::Operator,
        Asked::SpecChanged => v1::Asked::SpecChanged,
        Asked::Restart => v1::Asked::Restart,
    }
}

fn asked_from_wire(asked: v1::Asked) -> Asked {
    match asked {
        v1::Asked::Nobody | v1::Asked::Unspecified => Asked::Nobody,
        v1::Asked::Operator => Asked::Operator,
        v1::Asked::SpecChanged => Asked::SpecChanged,
        v1::Asked::Restart => Asked::Restart,
    }
}

/// One ended incarnation from the wire.
pub fn exit_record_from_wire(wire: v1::ExitRecord) -> Result<ExitRecord, StatusError> {
    let asked = asked_from_wire(wire.asked());
    Ok(ExitRecord {
        incarnation: Incarnation(wire.incarnation),
        generation: Generation(wire.generation),
        status: exit_status_from_wire(wire.status.unwrap_or_default())?,
        start_failure: wire.start_failure.map(start_failure_from_wire),
        started_at_ms: wire.started_at_ms,
        ended_at_ms: wire.ended_at_ms,
        cpu_ms: wire.cpu_ms,
        memory_peak_bytes: wire.memory_peak_bytes,
        requested: wire.requested,
        killed_after_grace: wire.killed_after_grace,
        unhealthy: Some(wire.unhealthy).filter(|sentence| !sentence.is_empty()),
        stop_ms: wire.stop_ms,
        asked,
        oom_kills: wire.oom_kills,
        last_output: LastOutput { stdout: wire.last_stdout, stderr: wire.last_stderr },
        locally: wire.locally,
    })
}

fn probe_status_to_wire(probe: &ProbeStatus) -> v1::ProbeStatus {
    let state = match probe.state {
        ProbeState::Pending => v1::ProbeState::Pending,
        ProbeState::Passing => v1::ProbeState::Passing,
        ProbeState::Failing => v1::ProbeState::Failing,
    };
    v1::ProbeStatus {
        state: state.into(),
        failures: probe.failures,
        message: probe.message.clone(),
        since_ms: probe.since_ms,
    }
}

/// A check's standing from the wire; a state that a newer version may have added is pending.
pub fn probe_status_from_wire(wire: v1::ProbeStatus) -> ProbeStatus {
    let state = match wire.state() {
        v1::ProbeState::Pending | v1::ProbeState::Unspecified => ProbeState::Pending,
        v1::ProbeState::Passing => ProbeState::Passing,
        v1::ProbeState::Failing => ProbeState::Failing,
    };
    ProbeStatus { state, failures: wire.failures, message: wire.message, since_ms: wire.since_ms }
}

/// Facts on the wire.
pub fn machine_facts_to_wire(facts: &MachineFacts) -> v1::MachineFacts {
    let supervision = match facts.supervision {
        SupervisionLevel::Cgroup => v1::SupervisionLevel::Cgroup,
        SupervisionLevel::Session => v1::SupervisionLevel::Session,
    };
    v1::MachineFacts {
        cores: facts.cores,
        cpu_model: facts.cpu_model.clone(),
        memory_bytes: facts.memory_bytes,
        swap_bytes: facts.swap_bytes,
        os: facts.os.clone(),
        kernel: facts.kernel.clone(),
        architecture: facts.architecture.clone(),
        slave_version: facts.slave_version.clone(),
        supervision: supervision.into(),
        limits: facts.limits.iter().map(limit_support_to_wire).collect(),
        supervision_notes: facts.supervision_notes.clone(),
    }
}

/// Facts from the wire; any text is a fact, so nothing can be wrong with them.
pub fn machine_facts_from_wire(wire: v1::MachineFacts) -> MachineFacts {
    let supervision = match wire.supervision() {
        v1::SupervisionLevel::Cgroup => SupervisionLevel::Cgroup,
        v1::SupervisionLevel::Session | v1::SupervisionLevel::Unspecified => SupervisionLevel::Session,
    };
    MachineFacts {
        cores: wire.cores,
        cpu_model: wire.cpu_model,
        memory_bytes: wire.memory_bytes,
        swap_bytes: wire.swap_bytes,
        os: wire.os,
        kernel: wire.kernel,
        architecture: wire.architecture,
        slave_version: wire.slave_version,
        supervision,
        limits: wire.limits.into_iter().filter_map(limit_support_from_wire).collect(),
        supervision_notes: wire.supervision_notes,
    }
}

fn limit_support_to_wire(support: &LimitSupport) -> v1::LimitSupport {
    v1::LimitSupport { resource: support.resource.word().into(), missing: support.missing.clone() }
}

/// A limit that only a newer version knows is none of this one's specs.
fn limit_support_from_wire(wire: v1::LimitSupport) -> Option<LimitSupport> {
    Some(LimitSupport { resource: Resource::from_word(&wire.resource)?, missing: wire.missing })
}

/// Use on the wire.
pub fn machine_usage_to_wire(usage: &MachineUsage) -> v1::MachineUsage {
    v1::MachineUsage {
        sampled_at_ms: usage.sampled_at_ms,
        uptime_seconds: usage.uptime_seconds,
        cpu_permille: usage.cpu_permille,
        load_permille: usage.load_permille.clone(),
        memory_used_bytes: usage.memory_used_bytes,
        memory_available_bytes: usage.memory_available_bytes,
        swap_used_bytes: usage.swap_used_bytes,
        disks: usage.disks.iter().map(disk_to_wire).collect(),
        networks: usage.networks.iter().map(network_to_wire).collect(),
        processes: usage.processes.iter().map(process_usage_to_wire).collect(),
        strays: usage.strays.iter().map(stray_to_wire).collect(),
    }
}

/// Use from the wire.
pub fn machine_usage_from_wire(wire: v1::MachineUsage) -> MachineUsage {
    MachineUsage {
        sampled_at_ms: wire.sampled_at_ms,
        uptime_seconds: wire.uptime_seconds,
        cpu_permille: wire.cpu_permille,
        load_permille: wire.load_permille,
        memory_used_bytes: wire.memory_used_bytes,
        memory_available_bytes: wire.memory_available_bytes,
        swap_used_bytes: wire.swap_used_bytes,
        disks: wire.disks.into_iter().map(disk_from_wire).collect(),
        networks: wire.networks.into_iter().map(network_from_wire).collect(),
        processes: wire.processes.into_iter().map(process_usage_from_wire).collect(),
        strays: wire.strays.into_iter().map(stray_from_wire).collect(),
    }
}

fn stray_to_wire(stray: &Stray) -> v1::Stray {
    v1::Stray { instance: stray.instance.clone(), incarnation: stray.incarnation, pids: stray.pids.clone() }
}

fn stray_from_wire(wire: v1::Stray) -> Stray {
    let pids = wire.pids.into_iter().take(STRAY_PIDS_MAX).collect();
    Stray { instance: wire.instance, incarnation: wire.incarnation, pids }
}

/// Use of one instance on the wire.
pub fn process_usage_to_wire(usage: &ProcessUsage) -> v1::ProcessUsage {
    v1::ProcessUsage {
        instance: usage.instance.clone(),
        cpu_millicores: usage.cpu_millicores,
        resident_bytes: usage.resident_bytes,
        threads: usage.threads,
        open_files: usage.open_files,
    }
}

fn process_usage_from_wire(wire: v1::ProcessUsage) -> ProcessUsage {
    ProcessUsage {
        instance: wire.instance,
        cpu_millicores: wire.cpu_millicores,
        resident_bytes: wire.resident_bytes,
        threads: wire.threads,
        open_files: wire.open_files,
    }
}

fn disk_to_wire(disk: &Disk) -> v1::Disk {
    v1::Disk {
        mount_point: disk.mount_point.clone(),
        device: disk.device.clone(),
        file_system: disk.file_system.clone(),
        total_bytes: disk.total_bytes,
        available_bytes: disk.available_bytes,
        total_inodes: disk.total_inodes,
        free_inodes: disk.free_inodes,
    }
}

fn disk_from_wire(wire: v1::Disk) -> Disk {
    Disk {
        mount_point: wire.mount_point,
        device: wire.device,
        file_system: wire.file_system,
        total_bytes: wire.total_bytes,
        available_bytes: wire.available_bytes,
        total_inodes: wire.total_inodes,
        free_inodes: wire.free_inodes,
    }
}

fn network_to_wire(network: &NetworkInterface) -> v1::NetworkInterface {
    v1::NetworkInterface {
        name: network.name.clone(),
        received_bytes_per_second: network.received_bytes_per_second,
        sent_bytes_per_second: network.sent_bytes_per_second,
        received_bytes: network.received_bytes,
        sent_bytes: network.sent_bytes,
    }
}

fn network_from_wire(wire: v1::NetworkInterface) -> NetworkInterface {
    NetworkInterface {
        name: wire.name,
        received_bytes_per_second: wire.received_bytes_per_second,
        sent_bytes_per_second: wire.sent_bytes_per_second,
        received_bytes: wire.received_bytes,
        sent_bytes: wire.sent_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_and_cause_comes_back_as_it_went() {
        for phase in Phase::ALL {
            assert_eq!(phase_from_wire(phase_to_wire(phase)), phase);
        }
        for cause in [
            Cause::Wanted,
            Cause::Ended(ExitStatus::Signal(Signal::KILL, true)),
            Cause::Ended(ExitStatus::Reboot),
            Cause::Ended(ExitStatus::OutOfMemory),
            Cause::StartFailed(StartFailure { step: "exec".into(), errno: 2, message: "no".into() }),
            Cause::LimitReached(ExitStatus::Code(3), 10),
            Cause::FatalCode(7),
            Cause::Operator,
            Cause::SpecChanged,
            Cause::KilledAfterGrace,
            Cause::TakenOver,
            Cause::SpecMissing,
            Cause::Unhealthy("health check failed".into()),
            Cause::NotReady("refused".into()),
            Cause::Waiting("waits for db".into()),
            Cause::StoppedLocally(LocalStop { by: "ann".into(), at_ms: 7, start_at: Revision(3) }),
        ] {
            assert_eq!(cause_from_wire(cause_to_wire(&cause)).unwrap(), cause);
        }
    }

    #[test]
    fn checks_come_back_as_they_went() {
        for state in [ProbeState::Pending, ProbeState::Passing, ProbeState::Failing] {
            let probe = ProbeStatus { state, failures: 2, message: "refused".into(), since_ms: 7 };
            assert_eq!(probe_status_from_wire(probe_status_to_wire(&probe)), probe);
        }
    }

    #[test]
    fn facts_come_back_as_they_went() {
        let support = |(resource, missing): (Resource, &str)| LimitSupport { resource, missing: missing.into() };
        let facts = MachineFacts {
            supervision: SupervisionLevel::Cgroup,
            limits: [(Resource::Memory, ""), (Resource::Cpu, "no"), (Resource::Pids, "")].map(support).into(),
            supervision_notes: vec!["a note".into()],
            ..MachineFacts::default()
        };
        let mut wire = machine_facts_to_wire(&facts);
        wire.limits.push(v1::LimitSupport { resource: "time".into(), missing: String::new() });
        assert_eq!(machine_facts_from_wire(wire), facts);
    }

    #[test]
    fn statuses_that_do_not_fit_are_refused_by_path() {
        let wire = v1::InstanceStatus { process: "a".into(), index: 0, ..Default::default() };
        assert!(instance_status_from_wire(wire).unwrap_err().to_string().starts_with("status.index"));
        let wire = v1::InstanceStatus { process: "a".into(), index: 1, ..Default::default() };
        assert!(instance_status_from_wire(wire).unwrap_err().to_string().starts_with("status.spec_digest"));
    }
}
