//! Declared processes: linearizable from the leader, or stale from whoever is asked.

use std::time::Duration;

use minder_model::{HostName, InstanceKey, InstanceRef, Selection};
use minder_proto::{convert, v1};
use minder_state::{ProcessRecord, State};
use tonic::Status;

use super::{linearize, wire};
use crate::{
    core::Core,
    forward::{is_forwarded, leader_elsewhere, mark_forwarded, while_leading},
};

/// How long the leader may take; it answers from memory.
const LEADER_DEADLINE: Duration = Duration::from_secs(5);

pub async fn get(
    core: &Core,
    request: tonic::Request<v1::GetProcessesRequest>,
) -> Result<v1::GetProcessesReply, Status> {
    let forwarded = is_forwarded(&request);
    let request = request.into_inner();
    if !request.options.as_ref().is_some_and(|options| options.stale) {
        if let Some(leader) = leader_elsewhere(core, forwarded).await? {
            let mut control = v1::control_client::ControlClient::new(leader.channel)
                .max_decoding_message_size(minder_model::MESSAGE_BYTES_MAX);
            let mut request = mark_forwarded(tonic::Request::new(request));
            request.set_timeout(LEADER_DEADLINE);
            let reply = while_leading(core, leader.id, control.get_processes(request)).await?;
            return Ok(reply.into_inner());
        }
        linearize(core).await?;
    }
    let selection = wire::selection(request.selection, true)?;
    let (state, applied) = core.node.snapshot_state();
    let meant = |record: &&ProcessRecord| is_meant(&state, &selection, record);
    let records: Vec<&ProcessRecord> = match selection.names() {
        Some(names) => names.filter_map(|name| state.process(&name)).filter(meant).collect(),
        None => state.processes().map(|(_, record)| record).filter(meant).collect(),
    };
    let processes = records.into_iter().map(|record| to_wire(record, state.hosts_of(&record.spec.name))).collect();
    Ok(v1::GetProcessesReply { position: Some(core.position(applied)), processes })
}

/// A process is meant as a whole, or by one of its instances.
fn is_meant(state: &State, selection: &Selection, record: &ProcessRecord) -> bool {
    let name = &record.spec.name;
    let first_of = |host: &HostName| InstanceRef { host: host.clone(), key: InstanceKey::new(name.clone(), 1) };
    selection.matches_process(name, &record.spec.labels)
        || state.hosts_of(name).any(|host| selection.matches(&first_of(host), &record.spec.labels))
}

/// A process record on the wire.
pub fn to_wire<'a>(record: &ProcessRecord, hosts: impl Iterator<Item = &'a HostName>) -> v1::Process {
    v1::Process {
        spec: Some(convert::spec::spec_to_wire(&record.spec)),
        generation: record.generation.0,
        revision: record.revision.0,
        wanted_running: record.wanted == minder_model::Wanted::Running,
        created_at_ms: record.created_at_ms,
        changed_at_ms: record.changed_at_ms,
        changed_by: record.changed_by.clone(),
        hosts: hosts.map(ToString::to_string).collect(),
    }
}
