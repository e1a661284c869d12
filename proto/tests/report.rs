//! The largest report a slave can make fits one message, and what it tells comes back as it went.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{
    Asked, Cause, Digest, EXITS_KEPT_MAX, ExitRecord, ExitStatus, Generation, HOST_INSTANCES_MAX, Incarnation,
    InstanceKey, InstanceStatus, LAST_OUTPUT_BYTES_MAX, LastOutput, MESSAGE_BYTES_MAX, PROBE_MESSAGE_BYTES_MAX, Phase,
    ProbeState, ProbeStatus, ProcessName, Revision, Signal, StartFailure, note_exit,
};
use minder_proto::convert::status::{
    instance_status_from_wire, instance_status_to_wire, instance_status_to_wire_since,
};
use prost::Message;

fn exit(incarnation: u64) -> ExitRecord {
    ExitRecord {
        incarnation: Incarnation(incarnation),
        generation: Generation(1_000_000),
        status: ExitStatus::Signal(Signal::KILL, true),
        start_failure: None,
        started_at_ms: 1_800_000_000_000,
        ended_at_ms: 1_800_000_000_000,
        cpu_ms: 1_000_000,
        memory_peak_bytes: 1 << 40,
        requested: true,
        killed_after_grace: true,
        asked: Asked::SpecChanged,
        oom_kills: 1_000,
        last_output: LastOutput::of(&[b'o'; 1_024], &[b'e'; 1_024]),
        stop_ms: Some(1_000_000),
        locally: true,
        unhealthy: Some(format!("health check failed: {} (3 in a row)", "x".repeat(PROBE_MESSAGE_BYTES_MAX))),
    }
}

fn probe() -> ProbeStatus {
    let message = "x".repeat(PROBE_MESSAGE_BYTES_MAX);
    ProbeStatus { state: ProbeState::Failing, failures: 3, message, since_ms: 1_800_000_000_000 }
}

fn status(exits: std::ops::RangeInclusive<u64>) -> InstanceStatus {
    let mut status = InstanceStatus {
        key: InstanceKey::new(ProcessName::new("a-process-with-quite-a-long-name").unwrap(), 1_000),
        phase: Phase::Fatal,
        cause: Cause::StartFailed(StartFailure {
            step: "working_directory".into(),
            errno: 13,
            message: "working_directory /srv/some/where/deep: Permission denied (os error 13)".into(),
        }),
        since_ms: 1_800_000_000_000,
        generation: Generation(1_000_000),
        spec: Digest::of(b"x"),
        incarnation: Incarnation(1_000_000),
        pid: 4_000_000,
        started_at_ms: 1_800_000_000_000,
        restarts: 1_000,
        restarts_in_window: 1_000,
        next_start_ms: 1_800_000_000_000,
        restart_at: Revision(1_000_000_000),
        retry_at: Revision(1_000_000_000),
        signal_at: Revision(1_000_000_000),
        exits: vec![],
        health: None,
        ready: None,
    };
    exits.for_each(|incarnation| note_exit(&mut status.exits, exit(incarnation)));
    status
}

#[test]
fn the_largest_report_fits_one_message() {
    let status = status(100_000..=100_100);
    assert_eq!(status.exits.len(), EXITS_KEPT_MAX);
    assert_eq!(status.exits.last().unwrap().last_output.stderr.len(), LAST_OUTPUT_BYTES_MAX);
    let status = InstanceStatus { health: Some(probe()), ready: Some(probe()), ..status };
    let bytes = instance_status_to_wire(&status).encoded_len();
    assert!(bytes * HOST_INSTANCES_MAX < MESSAGE_BYTES_MAX, "{bytes} bytes for one instance");
}

#[test]
fn statuses_come_back_as_they_went_and_a_change_tells_little() {
    let (before, after) = (status(1..=20), status(1..=21));
    assert_eq!(instance_status_from_wire(instance_status_to_wire(&after)).unwrap(), after);
    let change = instance_status_to_wire_since(&before, &after);
    assert!(change.exits_added && change.exits.len() == 1, "{change:?}");
    assert!(instance_status_to_wire_since(&after, &after).encoded_len() < 300);
    let anew = instance_status_to_wire_since(&before, &status(1..=1));
    assert!(!anew.exits_added && anew.exits.len() == 1, "{anew:?}");
}
