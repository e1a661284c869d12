//! Writing and forgetting processes.

use minder_model::{APPLY_SPECS_MAX, FieldErrors, Spec, check_order, check_spec, warnings};
use minder_proto::{convert, v1};
use minder_raft_store::in_place;
use minder_state::{Command, Outline};
use tonic::Status;

use super::{linearize, wire, write::write};
use crate::core::Core;

/// So many specs take some milliseconds to read.
const MANY: usize = 256;

pub async fn apply(core: &Core, request: v1::ApplyRequest) -> Result<v1::WriteReply, Status> {
    if request.specs.is_empty() {
        return Err(Status::invalid_argument("specs: is empty; name at least one process"));
    }
    if request.specs.len() > APPLY_SPECS_MAX {
        let count = request.specs.len();
        return Err(Status::invalid_argument(format!(
            "specs: has {count}, the limit of one request is {APPLY_SPECS_MAX}"
        )));
    }
    let specs = match request.specs.len() {
        many if many > MANY => in_place(|| checked(request.specs))?,
        _ => checked(request.specs)?,
    };
    check_rings(core, &specs).await?;
    let found: Vec<String> = specs
        .iter()
        .flat_map(|spec| warnings(spec).into_iter().map(|warning| format!("{}: {warning}", spec.name)))
        .chain(unknown_hosts(core, &specs))
        .collect();
    let mut reply = write(core, request.options, Command::apply(specs)).await?;
    reply.warnings = found;
    Ok(reply)
}

fn checked(wire: Vec<v1::ProcessSpec>) -> Result<Vec<Spec>, Status> {
    let mut specs = Vec::with_capacity(wire.len());
    for (at, spec) in wire.into_iter().enumerate() {
        let name = spec.name.clone();
        let refused = |errors: FieldErrors| Status::invalid_argument(format!("specs[{at}] ({name}): {errors}"));
        let spec = convert::spec::spec_from_wire(spec).map_err(refused)?;
        check_spec(&spec).map_err(refused)?;
        specs.push(spec);
    }
    Ok(specs)
}

pub async fn delete(core: &Core, request: v1::DeleteRequest) -> Result<v1::WriteReply, Status> {
    if request.processes.is_empty() {
        return Err(Status::invalid_argument("processes: is empty; name at least one process"));
    }
    let names: Result<Vec<_>, Status> = request
        .processes
        .into_iter()
        .enumerate()
        .map(|(at, name)| wire::process_name(&format!("processes[{at}]"), name))
        .collect();
    write(core, request.options, Command::Delete(names?)).await
}

/// Refuses what would close a ring, with what is declared already. Two requests that close one together at the same
/// moment are not caught here; their processes name the ring and none of them starts.
async fn check_rings(core: &Core, specs: &[Spec]) -> Result<(), Status> {
    if specs.iter().all(|spec| spec.comes_after().next().is_none()) {
        return Ok(());
    }
    linearize(core).await?;
    let (state, _) = core.node.snapshot_state();
    match check_order(specs, |name| state.process(name).map(|record| &*record.spec)).into_iter().next() {
        Some((at, error)) => Err(Status::invalid_argument(format!("specs[{at}] ({}): {error}", specs[at].name))),
        None => Ok(()),
    }
}

/// Placing on a host that is yet to come is allowed; a mistyped name looks the same.
fn unknown_hosts(core: &Core, specs: &[Spec]) -> Vec<String> {
    let of = |outline: &Outline, spec: &Spec| {
        let unknown = spec.hosts.iter().filter(|host| !outline.has_host(host));
        let unknown: Vec<&str> = unknown.map(|host| host.as_str()).take(5).collect();
        (!unknown.is_empty())
            .then(|| format!("{}: spec.hosts: no slave has announced itself as {} yet", spec.name, unknown.join(", ")))
    };
    core.node.outline(|outline| specs.iter().filter_map(|spec| of(outline, spec)).collect())
}
