//! Placement: from specs and labels to the items of hosts. A process has on each of its hosts the instances 1 to n.

use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};

use minder_model::{Digest, HostName, InstanceKey, Item, ProcessName, Revision, RunSpec, Spec, Wanted};

use crate::{record::ProcessRecord, state::State, writer::Writer};

/// The hosts a spec runs on, with the number of its instances on each: those it names, announced or not, and those
/// whose labels fit.
pub(super) fn hosts_of(state: &State, spec: &Spec) -> BTreeMap<HostName, u32> {
    let named = spec.hosts.iter().cloned();
    // Without a selector the hosts need no look, however many there are.
    let hosts = (!spec.selector.is_empty()).then(|| state.hosts());
    let labelled = hosts.into_iter().flatten().filter(|(_, record)| spec.selects(|key| record.label(key)));
    let labelled = labelled.map(|(host, _)| host.clone());
    named.chain(labelled).map(|host| (host.clone(), spec.instances_on(&host))).filter(|(_, count)| *count > 0).collect()
}

/// A process as its hosts are to run it. Hosts without an override of their own run the same, which is resolved once.
pub(super) struct Placing<'a> {
    record: &'a ProcessRecord,
    usual: Option<(RunSpec, Digest)>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(record: &'a ProcessRecord) -> Self {
        Self { record, usual: None }
    }

    fn resolve<T>(&mut self, host: &HostName, then: impl FnOnce(&RunSpec, Digest) -> T) -> T {
        let resolve = || {
            let run_spec = self.record.spec.resolve(host);
            let digest = run_spec.digest();
            (run_spec, digest)
        };
        if self.record.spec.overrides.contains_key(host) {
            let (run_spec, digest) = resolve();
            return then(&run_spec, digest);
        }
        let (run_spec, digest) = self.usual.get_or_insert_with(resolve);
        then(run_spec, *digest)
    }

    /// Brings one host's items of the process in line with its record: adds, updates and removes. What an instance was
    /// told before (stopped, restarted, signalled) stays.
    pub(super) fn on(&mut self, writer: &mut Writer<'_>, host: &HostName, count: u32) {
        let record = self.record;
        self.resolve(host, |run_spec, digest| place_on(writer, record, host, count, (run_spec, digest)));
    }
}

fn place_on(
    writer: &mut Writer<'_>,
    record: &ProcessRecord,
    host: &HostName,
    count: u32,
    (run_spec, digest): (&RunSpec, Digest),
) {
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
        writer.put_item(host, &key, item, Some(run_spec));
    }
}

/// Removes every item of a process from a host.
pub(super) fn remove_from(writer: &mut Writer<'_>, process: &ProcessName, host: &HostName) {
    let keys: Vec<InstanceKey> = writer.state.keys_of(process, host).cloned().collect();
    for key in keys {
        writer.delete_item(host, &key);
    }
}

/// Brings all hosts of a process in line with its record. Gives the number of its instances.
pub(super) fn place_everywhere(writer: &mut Writer<'_>, record: &ProcessRecord) -> u64 {
    let hosts = hosts_of(writer.state, &record.spec);
    let before: BTreeSet<HostName> = writer.state.hosts_of(&record.spec.name).cloned().collect();
    for host in before.iter().filter(|host| !hosts.contains_key(*host)) {
        remove_from(writer, &record.spec.name, host);
    }
    let mut placing = Placing::new(record);
    for (host, count) in &hosts {
        placing.on(writer, host, *count);
    }
    hosts.values().map(|count| u64::from(*count)).sum()
}

fn new_item(record: &ProcessRecord, spec: minder_model::Digest) -> Item {
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
