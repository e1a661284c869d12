//! Writing and forgetting processes, all of a request or none.

use alloc::{collections::BTreeMap, collections::BTreeSet, format, sync::Arc, vec::Vec};

use minder_model::{Generation, HOST_INSTANCES_MAX, HostName, ProcessName, Revision};

use super::{Answer, place};
use crate::{
    proposal::{Expect, Proposal},
    record::{ProcessRecord, SharedSpec},
    reply::{Outcome, ProcessChange, ProcessChangeKind, Refusal},
    state::State,
    writer::Writer,
};

/// The hosts of a spec, with the number of its instances on each.
type Hosts = Vec<(HostName, u32)>;

pub(super) fn apply(writer: &mut Writer<'_>, specs: &[SharedSpec], proposal: &Proposal) -> Answer {
    check_request(writer.state, specs)?;
    if proposal.expect != Expect::Anything {
        for spec in specs {
            check_expected(writer.state, &spec.name, proposal.expect)?;
        }
    }
    let hosts: Vec<Hosts> = specs.iter().map(|spec| place::hosts_of(writer.state, spec)).collect();
    check_hosts_have_room(writer.state, specs, &hosts)?;
    let applied = specs.iter().zip(&hosts).map(|(spec, hosts)| apply_one(writer, spec, hosts, proposal));
    Ok(Outcome::Processes(applied.collect()))
}

pub(super) fn delete(writer: &mut Writer<'_>, names: &[ProcessName], proposal: &Proposal) -> Answer {
    for name in names {
        writer.state.process(name).ok_or_else(|| Refusal::NoSuchProcess(name.clone()))?;
        check_expected(writer.state, name, proposal.expect)?;
    }
    let names: BTreeSet<&ProcessName> = names.iter().collect();
    Ok(Outcome::Processes(names.into_iter().map(|name| delete_one(writer, name)).collect()))
}

pub(super) fn check_expected(state: &State, name: &ProcessName, expect: Expect) -> Result<(), Refusal> {
    let actual = state.process(name).map_or(Revision::ZERO, |record| record.revision);
    match expect {
        Expect::Revision(expected) if expected != actual => Err(Refusal::Conflict(name.clone(), expected, actual)),
        Expect::Revision(_) | Expect::Anything => Ok(()),
    }
}

/// What a spec itself must be was checked before it was proposed (`check_spec`): a rule that is another one in the
/// next version must not make managers of both versions apply the same entry differently.
fn check_request(state: &State, specs: &[SharedSpec]) -> Result<(), Refusal> {
    let (count, limit) = (specs.len(), state.version().apply_specs_max());
    if count > limit {
        return Err(Refusal::LimitExceeded(format!("{count} specs in one request, the limit is {limit}")));
    }
    let mut seen = BTreeSet::new();
    for (at, spec) in specs.iter().enumerate() {
        if !seen.insert(&spec.name) {
            return Err(Refusal::Invalid(format!("specs[{at}].name: {} stands there twice", spec.name)));
        }
    }
    Ok(())
}

fn check_hosts_have_room(state: &State, specs: &[SharedSpec], hosts: &[Hosts]) -> Result<(), Refusal> {
    let mut added: BTreeMap<&HostName, u64> = BTreeMap::new();
    for (spec, hosts) in specs.iter().zip(hosts) {
        for (host, count) in hosts {
            let there = state.keys_of(&spec.name, host).count() as u64;
            *added.entry(host).or_default() += u64::from(*count).saturating_sub(there);
        }
    }
    for (host, more) in added.into_iter().filter(|(_, more)| *more > 0) {
        let total = state.slices.get(host).map_or(0, |slice| slice.items.len() as u64) + more;
        if total > HOST_INSTANCES_MAX as u64 {
            return Err(Refusal::LimitExceeded(format!(
                "host {host} would have {total} instances, the limit is {HOST_INSTANCES_MAX}"
            )));
        }
    }
    Ok(())
}

fn apply_one(
    writer: &mut Writer<'_>,
    spec: &SharedSpec,
    hosts: &[(HostName, u32)],
    proposal: &Proposal,
) -> ProcessChange {
    let before = writer.state.processes.get(&spec.name).map(|stored| stored.record.clone());
    let kind = match &before {
        None => ProcessChangeKind::Created,
        Some(before) if before.spec == *spec => ProcessChangeKind::Unchanged,
        Some(_) => ProcessChangeKind::Changed,
    };
    let record = match &before {
        Some(before) if kind == ProcessChangeKind::Unchanged => before.clone(),
        earlier => Arc::new(ProcessRecord {
            spec: spec.clone(),
            generation: earlier.as_ref().map_or(Generation::ZERO, |before| before.generation).next(),
            revision: writer.index,
            wanted: earlier.as_ref().map_or(place::WANTED_AT_FIRST, |before| before.wanted),
            created_at_ms: earlier.as_ref().map_or(proposal.time_ms, |before| before.created_at_ms),
            changed_at_ms: proposal.time_ms,
            changed_by: proposal.actor.clone(),
        }),
    };
    if kind != ProcessChangeKind::Unchanged {
        writer.put_process(record.clone());
    }
    let instances = place::place_everywhere(writer, &record, hosts);
    ProcessChange { name: spec.name.clone(), kind, generation: record.generation, instances }
}

fn delete_one(writer: &mut Writer<'_>, name: &ProcessName) -> ProcessChange {
    let generation = writer.state.process(name).map_or(Generation::ZERO, |record| record.generation);
    let hosts: Vec<HostName> = writer.state.hosts_of(name).cloned().collect();
    for host in &hosts {
        place::remove_from(writer, name, host);
    }
    writer.delete_process(name);
    ProcessChange { name: name.clone(), kind: ProcessChangeKind::Deleted, generation, instances: 0 }
}
