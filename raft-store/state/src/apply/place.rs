//! Placement: from specs and labels to the items of hosts. A process has on each of its hosts the instances 1 to n.

use alloc::vec::Vec;

use minder_model::{Digest, HostName, InstanceKey, Item, ProcessName, Revision, RunSpec, Spec, Wanted};

use crate::{record::ProcessRecord, state::State, writer::Writer};

/// The hosts a spec runs on, by name, each once, with the number of its instances there: those it names, announced or
/// not, and those whose labels fit.
pub(super) fn hosts_of(state: &State, spec: &Spec) -> Vec<(HostName, u32)> {
    let mut hosts = spec.hosts.clone();
    if !spec.selector.is_empty() {
        hosts.extend(
            state.hosts().filter(|(_, record)| record.has_labels(&spec.selector)).map(|(host, _)| host.clone()),
        );
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
        .into_iter()
        .map(|host| (spec.instances_on(&host), host))
        .filter(|(n, _)| *n > 0)
        .map(|(n, host)| (host, n))
        .collect()
}

/// A run spec in its stored form, which its digest is taken of: made once for all hosts that run the same.
struct Form {
    digest: Digest,
    bytes: Vec<u8>,
}

impl From<RunSpec> for Form {
    fn from(run_spec: RunSpec) -> Self {
        let bytes = run_spec.to_bytes();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// What each host runs of a spec.
struct Forms<'a> {
    spec: &'a Spec,
    /// Where nothing is said of the host itself.
    plain: Option<Form>,
    /// Of the host that was asked for last.
    own: Option<Form>,
}

impl<'a> Forms<'a> {
    fn new(spec: &'a Spec) -> Self {
        Self { spec, plain: None, own: None }
    }

    fn on(&mut self, host: &HostName) -> &Form {
        match self.spec.overrides.contains_key(host) {
            true => self.own.insert(self.spec.resolve(host).into()),
            false => self.plain.get_or_insert_with(|| self.spec.resolve(host).into()),
        }
    }
}

/// Brings one host's items of a process in line with its record: adds, updates and removes. What an instance was
/// told before (stopped, restarted, signalled) stays.
pub(super) fn place_on(writer: &mut Writer<'_>, record: &ProcessRecord, host: &HostName, count: u32) {
    place_form(writer, record, host, count, Forms::new(&record.spec).on(host));
}

fn place_form(writer: &mut Writer<'_>, record: &ProcessRecord, host: &HostName, count: u32, form: &Form) {
    let digest = form.digest;
    let beyond: Vec<InstanceKey> =
        writer.state.keys_of(&record.spec.name, host).filter(|key| key.index > count).cloned().collect();
    for key in beyond {
        writer.delete_item(host, &key);
    }
    for index in 1..=count {
        let key = InstanceKey::new(record.spec.name.clone(), index);
        let item = match writer.state.item(host, &key) {
            Some(before) if before.spec == digest => *before,
            Some(before) => Item { generation: record.generation, spec: digest, ..*before },
            None => new_item(record, digest),
        };
        writer.put_item(host, &key, item, Some(&form.bytes));
    }
}

/// Removes every item of a process from a host.
pub(super) fn remove_from(writer: &mut Writer<'_>, process: &ProcessName, host: &HostName) {
    let keys: Vec<InstanceKey> = writer.state.keys_of(process, host).cloned().collect();
    for key in keys {
        writer.delete_item(host, &key);
    }
}

/// Brings all hosts of a process in line with its record; `hosts` are those of [`hosts_of`]. Gives the number of its
/// instances.
pub(super) fn place_everywhere(writer: &mut Writer<'_>, record: &ProcessRecord, hosts: &[(HostName, u32)]) -> u64 {
    let is_wanted = |host: &&HostName| hosts.binary_search_by(|(wanted, _)| wanted.cmp(host)).is_ok();
    let gone: Vec<HostName> =
        writer.state.hosts_of(&record.spec.name).filter(|host| !is_wanted(host)).cloned().collect();
    for host in gone {
        remove_from(writer, &record.spec.name, &host);
    }
    let mut forms = Forms::new(&record.spec);
    for (host, count) in hosts {
        place_form(writer, record, host, *count, forms.on(host));
    }
    hosts.iter().map(|(_, count)| u64::from(*count)).sum()
}

fn new_item(record: &ProcessRecord, spec: Digest) -> Item {
    Item {
        generation: record.generation,
        spec,
        wanted: record.wanted,
        restart_at: Revision::ZERO,
        retry_at: Revision::ZERO,
        signal: None,
        start_at: Revision::ZERO,
    }
}

/// What a new process wants.
pub(super) const WANTED_AT_FIRST: Wanted = Wanted::Running;
