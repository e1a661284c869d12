//! From a shim's last record to the end that a supervisor takes note of, and the sentence a user reads.

use std::io;

use minder_model::{ExitStatus, Incarnation, LastOutput, RunSpec, Signal, Spec, StartFailure};
use minder_shim::{
    identity,
    record::{End, Stage, Step},
};
use minder_supervisor::Ended;

use crate::{
    clock::now,
    os::{incarnation::Over, launch::resource_name},
};

/// What a shim's last record says; without one, or with one of before a reboot, what can honestly be said.
pub fn ended(incarnation: Incarnation, over: &Over, run_spec: Option<&RunSpec>) -> Ended {
    let now_ms = now().wall_ms;
    let last_output = LastOutput::of(&over.output.stdout, &over.output.stderr);
    let used = over.used;
    let Some(record) = &over.record else {
        return Ended {
            incarnation,
            status: ExitStatus::Unknown,
            start_failure: None,
            started_at_ms: now_ms,
            ended_at_ms: now_ms,
            cpu_ms: used.cpu_ms.unwrap_or_default(),
            memory_peak_bytes: used.memory_peak_bytes.unwrap_or_default(),
            oom_kills: used.oom_kills,
            last_output,
        };
    };
    let rebooted = record.boot_id != identity::boot_id();
    let status = match record.end {
        End::Code(code) => ExitStatus::Code(code),
        End::Signal(number, core) => Signal::from_number(i64::from(number))
            .map_or(ExitStatus::Unknown, |signal| ExitStatus::Signal(signal, core)),
        End::None if rebooted => ExitStatus::Reboot,
        End::None => ExitStatus::Unknown,
    };
    let start_failure = (record.stage == Stage::StartFailed || record.failed_step != Step::None)
        .then(|| start_failure(record.failed_step, record.failed_errno, run_spec, &over.failure));
    Ended {
        incarnation,
        status,
        start_failure,
        started_at_ms: record.started_at_ms,
        ended_at_ms: if record.ended_at_ms > 0 { record.ended_at_ms } else { now_ms },
        // The cgroup counts everybody, the record only whom the shim has reaped.
        cpu_ms: used.cpu_ms.unwrap_or(record.cpu_ms),
        memory_peak_bytes: used.memory_peak_bytes.unwrap_or(record.memory_peak_bytes),
        oom_kills: used.oom_kills,
        last_output,
    }
}

/// The end of an incarnation that had no shim.
pub fn failed(incarnation: Incarnation, failure: StartFailure) -> Ended {
    Ended { start_failure: Some(failure), ..ended(incarnation, &Over::default(), None) }
}

/// Says which step failed on what, and the kernel's reason. The detail is the shim's word for which of several.
fn start_failure(step: Step, errno: i32, run_spec: Option<&RunSpec>, detail: &str) -> StartFailure {
    let reason = io::Error::from_raw_os_error(errno);
    let spec = run_spec.map(RunSpec::spec);
    let named = |field: Option<&String>| field.cloned().unwrap_or_default();
    let message = match step {
        Step::Exec => format!("{}: {reason}", named(spec.map(|spec| &spec.command))),
        Step::User if errno == libc::ENOENT => {
            format!("no such user: {}", named(spec.and_then(|spec| spec.user.as_ref())))
        }
        Step::Group if errno == libc::ENOENT => {
            format!("no such group: {}", named(spec.and_then(|spec| spec.group.as_ref())))
        }
        Step::WorkingDirectory => {
            format!("working_directory {}: {reason}", named(spec.and_then(|spec| spec.working_directory.as_ref())))
        }
        Step::User | Step::Group if errno == libc::EPERM => {
            format!("{}: {reason}; only a slave that runs as root starts processes as somebody else", step.word())
        }
        Step::EnvFiles if !detail.is_empty() => format!("env_files: {detail}"),
        Step::Limit => format!("{}: {reason}{}", limit(detail, spec), no_right(errno)),
        Step::Nice => format!("nice{}: {reason}{}", said(spec.and_then(|spec| spec.nice)), no_right(errno)),
        Step::OomScore => {
            let score = said(spec.and_then(|spec| spec.oom_score_adjust));
            format!("oom_score_adjust{score}: {reason}{}", no_right(errno))
        }
        Step::Daemon if errno == libc::ETIMEDOUT => "the launcher did not end in time".into(),
        Step::Daemon => "the launcher ended and left no process behind".into(),
        _ => format!("{}: {reason}", step.word()),
    };
    StartFailure { step: step.word().into(), errno, message }
}

/// The limit whose number the shim has told.
fn limit(number: &str, spec: Option<&Spec>) -> String {
    let Some(name) = resource_name(number) else { return Step::Limit.word().into() };
    format!("limits.{name}{}", said(spec.and_then(|spec| spec.limits.get(name))))
}

fn said(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| format!(" {value}")).unwrap_or_default()
}

/// What somebody who sees such a refusal wants to know.
fn no_right(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => "; the slave has no right to give more than it has itself",
        _ => "",
    }
}
