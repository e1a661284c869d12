//! Hosts: listed, looked at, labelled, removed.

use std::collections::BTreeMap;

use minder_fleet::Condition;
use minder_model::{HostName, Phase, Selection, Wanted};
use minder_proto::{convert, v1};
use minder_state::{Command, HostRecord, State};
use tonic::Status;

use super::{linearize, wire, write::write};
use crate::{core::Core, fleet::HostView};

pub async fn list(core: &Core, request: v1::ListHostsRequest) -> Result<v1::ListHostsReply, Status> {
    let patterns: Vec<String> = request.patterns.iter().map(|pattern| format!("@{pattern}")).collect();
    let selection = match patterns.is_empty() {
        true => Selection::all(),
        false => Selection::parse(&patterns, &[] as &[&str])
            .map_err(|error| Status::invalid_argument(format!("patterns: {error}")))?,
    };
    linearize(core).await?;
    let (state, applied) = core.node.snapshot_state();
    let hosts: Vec<v1::Host> = known_hosts(&state)
        .into_iter()
        .filter(|host| selection.matches_host(host))
        .map(|host| {
            let mut wire = to_wire(&state, host, &core.fleet.view(host));
            if let Some(usage) = &mut wire.usage {
                usage.processes.clear();
                usage.disks.clear();
            }
            wire
        })
        .collect();
    if hosts.is_empty() && !request.patterns.is_empty() {
        return Err(Status::not_found(format!("no host matches {}", request.patterns.join(", "))));
    }
    let doubt = core.fleet.silence(|silence, _| silence.self_doubt(), |_| false);
    let note = doubt.map(|doubt| doubt.to_string()).unwrap_or_default();
    Ok(v1::ListHostsReply { position: Some(core.position(applied)), hosts, note })
}

pub async fn get(core: &Core, request: v1::GetHostRequest) -> Result<v1::GetHostReply, Status> {
    linearize(core).await?;
    let (state, applied) = core.node.snapshot_state();
    let host = find(&state, request.host)?;
    Ok(v1::GetHostReply {
        position: Some(core.position(applied)),
        host: Some(to_wire(&state, &host, &core.fleet.view(&host))),
    })
}

/// The last hour of a machine. It is observed, so that it needs no quorum round.
pub async fn history(core: &Core, request: v1::GetHostHistoryRequest) -> Result<v1::GetHostHistoryReply, Status> {
    let (state, applied) = core.node.snapshot_state();
    let host = find(&state, request.host)?;
    let samples = core.fleet.history(&host);
    Ok(v1::GetHostHistoryReply {
        position: Some(core.position(applied)),
        host: host.to_string(),
        step_seconds: minder_model::HISTORY_STEP_S,
        samples: samples.iter().map(convert::machine_history::machine_sample_to_wire).collect(),
    })
}

/// A known host by its name or the address it announced.
pub fn find(state: &State, text: String) -> Result<HostName, Status> {
    let by_address = state.hosts().find(|(_, record)| record.address == text).map(|(host, _)| host.clone());
    let host = match by_address {
        Some(host) => host,
        None => wire::host_name("host", text)?,
    };
    if !known_hosts(state).contains(&&host) {
        return Err(Status::not_found(format!("there is no host named {host}, and none announced that address")));
    }
    Ok(host)
}

pub async fn label(core: &Core, request: v1::LabelHostRequest) -> Result<v1::WriteReply, Status> {
    let host = wire::host_name("host", request.host)?;
    let set = request.set.into_iter().map(|(key, value)| (key, Some(value)));
    let unset = request.unset.into_iter().map(|key| (key, None));
    let labels: BTreeMap<String, Option<String>> = set.chain(unset).collect();
    if labels.is_empty() {
        return Err(Status::invalid_argument("set: names no label to set or unset"));
    }
    write(core, request.options, Command::LabelHost(host, labels)).await
}

pub async fn remove(core: &Core, request: v1::RemoveHostRequest) -> Result<v1::WriteReply, Status> {
    let host = wire::host_name("host", request.host)?;
    if core.fleet.session(&host).is_some() {
        return Err(Status::failed_precondition(format!(
            "host {host} is connected and would come back at once; stop its minder-slave first"
        )));
    }
    write(core, request.options, Command::RemoveHost(host)).await
}

/// Hosts that announced themselves and hosts that specs name, by name.
fn known_hosts(state: &State) -> Vec<&HostName> {
    let mut hosts: Vec<&HostName> = state
        .hosts()
        .map(|(host, _)| host)
        .chain(state.assigned_hosts().filter(|host| state.items(host).next().is_some()))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// A host record for watchers of the desired state, without anything observed.
pub fn record_to_wire(host: &HostName, record: &HostRecord) -> v1::Host {
    v1::Host {
        name: host.to_string(),
        address: record.address.clone(),
        labels: record.labels(),
        registered_at_ms: record.registered_at_ms,
        registered: true,
        ..Default::default()
    }
}

fn to_wire(state: &State, host: &HostName, view: &HostView) -> v1::Host {
    let condition = match view.standing.condition {
        Condition::Connected => v1::HostCondition::Connected,
        Condition::Suspect => v1::HostCondition::Suspect,
        Condition::Lost => v1::HostCondition::Lost,
        Condition::Unheard => v1::HostCondition::Unheard,
    };
    let running = |phase: Phase| matches!(phase, Phase::Running | Phase::Ready);
    let desired = match state.host(host) {
        Some(record) => record_to_wire(host, record),
        None => v1::Host { name: host.to_string(), ..Default::default() },
    };
    v1::Host {
        condition: condition.into(),
        silent_ms: view.standing.silent_ms,
        note: view.standing.doubt.as_ref().map(ToString::to_string).unwrap_or_default(),
        clock_offset_ms: view.clock_offset_ms,
        boot_id: view.boot_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        slave_id: view.slave_id.clone(),
        facts: Some(convert::status::machine_facts_to_wire(&view.facts)),
        usage: view.usage.as_ref().map(|(usage, _)| convert::status::machine_usage_to_wire(usage)),
        usage_age_ms: view.usage.as_ref().map(|(_, age)| *age),
        assignment_revision: state.assignment_revision(host).0,
        assignment_revision_seen: view.observed.revision.0,
        instances_wanted: state.items(host).filter(|(_, item)| item.wanted == Wanted::Running).count() as u32,
        instances_running: view.observed.statuses.iter().filter(|status| running(status.phase)).count() as u32,
        ..desired
    }
}
