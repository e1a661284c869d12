//! Hosts: announced by their slaves, labelled and removed by people. Labels decide where selectors place.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use minder_model::{HostName, ProcessName, check_labels};

use super::{Answer, place};
use crate::{
    record::HostRecord,
    reply::{Outcome, Refusal},
    writer::Writer,
};

pub(super) fn register(
    writer: &mut Writer<'_>,
    host: &HostName,
    address: &str,
    labels: &BTreeMap<String, String>,
    time_ms: u64,
) -> Answer {
    check_labels("host.labels", labels).map_err(|errors| Refusal::Invalid(errors.to_string()))?;
    let before = writer.state.host(host).cloned();
    let unchanged = before.as_ref().is_some_and(|before| before.address == address && before.own_labels == *labels);
    if unchanged {
        return Ok(Outcome::Done);
    }
    let revision = writer.index;
    let record = match before {
        Some(before) => HostRecord { address: address.into(), own_labels: labels.clone(), revision, ..before },
        None => HostRecord {
            address: address.into(),
            own_labels: labels.clone(),
            central_labels: BTreeMap::new(),
            revision,
            registered_at_ms: time_ms,
        },
    };
    writer.put_host(host, record);
    place_by_labels(writer, host);
    Ok(Outcome::Done)
}

pub(super) fn label(writer: &mut Writer<'_>, host: &HostName, changes: &BTreeMap<String, Option<String>>) -> Answer {
    let Some(before) = writer.state.host(host).cloned() else {
        return Err(Refusal::NoSuchHost(host.clone()));
    };
    let mut central_labels = before.central_labels.clone();
    for (key, value) in changes {
        match value {
            Some(value) => central_labels.insert(key.clone(), value.clone()),
            None => central_labels.remove(key),
        };
    }
    check_labels("host.labels", &central_labels).map_err(|errors| Refusal::Invalid(errors.to_string()))?;
    if central_labels != before.central_labels {
        let revision = writer.index;
        writer.put_host(host, HostRecord { central_labels, revision, ..before });
        place_by_labels(writer, host);
    }
    Ok(Outcome::Done)
}

pub(super) fn remove(writer: &mut Writer<'_>, host: &HostName) -> Answer {
    writer.state.host(host).ok_or_else(|| Refusal::NoSuchHost(host.clone()))?;
    let naming = writer.state.processes().find(|(_, record)| record.spec.hosts.contains(host));
    if let Some((process, _)) = naming {
        return Err(Refusal::HostInUse(host.clone(), process.clone()));
    }
    let processes: Vec<ProcessName> = writer.state.items(host).map(|(key, _)| key.process.clone()).collect();
    for process in &processes {
        place::remove_from(writer, process, host);
    }
    writer.delete_host(host);
    Ok(Outcome::Done)
}

/// Places and removes what selectors say about this host now.
fn place_by_labels(writer: &mut Writer<'_>, host: &HostName) {
    let Some(labels) = writer.state.host(host).map(HostRecord::labels) else { return };
    let named = writer.state.selecting.iter();
    let by_selector: Vec<_> = named.filter_map(|name| writer.state.process(name).cloned()).collect();
    for record in by_selector {
        if record.spec.places_on(host, &labels) {
            place::place_on(writer, &record, host, record.spec.instances_on(host));
        } else {
            place::remove_from(writer, &record.spec.name, host);
        }
    }
}
