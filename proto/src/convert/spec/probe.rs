//! Health and ready checks.

use minder_model::{Health, OnUnhealthy, Probe, Ready};

use super::{Errors, millis};
use crate::v1;

pub(super) fn health_from_wire(errors: &mut Errors, wire: v1::HealthSpec) -> Option<Health> {
    let on_failure = match v1::OnUnhealthy::try_from(wire.on_failure) {
        Ok(v1::OnUnhealthy::Unspecified | v1::OnUnhealthy::Restart) => OnUnhealthy::Restart,
        Ok(v1::OnUnhealthy::Mark) => OnUnhealthy::Mark,
        Err(_) => {
            errors.add("health.on_failure", format!("{} is no choice", wire.on_failure));
            return None;
        }
    };
    let default = Health::new(probe_from_wire(errors, "health", wire.probe)?);
    Some(Health {
        interval: millis(wire.interval_ms, default.interval),
        timeout: millis(wire.timeout_ms, default.timeout),
        start_grace: millis(wire.start_grace_ms, default.start_grace),
        threshold: wire.threshold.unwrap_or(default.threshold),
        on_failure,
        ..default
    })
}

pub(super) fn health_to_wire(health: &Health) -> v1::HealthSpec {
    let on_failure = match health.on_failure {
        OnUnhealthy::Restart => v1::OnUnhealthy::Restart,
        OnUnhealthy::Mark => v1::OnUnhealthy::Mark,
    };
    v1::HealthSpec {
        probe: Some(probe_to_wire(&health.probe)),
        interval_ms: Some(health.interval.0),
        timeout_ms: Some(health.timeout.0),
        start_grace_ms: Some(health.start_grace.0),
        threshold: Some(health.threshold),
        on_failure: on_failure.into(),
    }
}

pub(super) fn ready_from_wire(errors: &mut Errors, wire: v1::ReadySpec) -> Option<Ready> {
    let default = Ready::new(probe_from_wire(errors, "ready", wire.probe)?);
    Some(Ready {
        interval: millis(wire.interval_ms, default.interval),
        timeout: millis(wire.timeout_ms, default.timeout),
        threshold: wire.threshold.unwrap_or(default.threshold),
        ..default
    })
}

pub(super) fn ready_to_wire(ready: &Ready) -> v1::ReadySpec {
    v1::ReadySpec {
        probe: Some(probe_to_wire(&ready.probe)),
        interval_ms: Some(ready.interval.0),
        timeout_ms: Some(ready.timeout.0),
        threshold: Some(ready.threshold),
    }
}

fn probe_from_wire(errors: &mut Errors, path: &str, wire: Option<v1::Probe>) -> Option<Probe> {
    use v1::probe::Kind;
    match wire.and_then(|probe| probe.kind) {
        Some(Kind::Exec(args)) => Some(Probe::Exec(args.items)),
        Some(Kind::Tcp(address)) => Some(Probe::Tcp(address)),
        Some(Kind::Http(url)) => Some(Probe::Http(url)),
        Some(Kind::Grpc(address)) => Some(Probe::Grpc(address)),
        None => {
            errors.add(path, "says no way to ask; there are exec, tcp, http, grpc".into());
            None
        }
    }
}

fn probe_to_wire(probe: &Probe) -> v1::Probe {
    use v1::probe::Kind;
    let kind = match probe {
        Probe::Exec(words) => Kind::Exec(v1::Args { items: words.clone() }),
        Probe::Tcp(address) => Kind::Tcp(address.clone()),
        Probe::Http(url) => Kind::Http(url.clone()),
        Probe::Grpc(address) => Kind::Grpc(address.clone()),
    };
    v1::Probe { kind: Some(kind) }
}
