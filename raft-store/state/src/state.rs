//! The table in memory, with the indexes that answer questions about it.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::fmt;

use minder_model::{
    Assignment, CommandVersion, Digest, HostName, InstanceKey, InstanceRef, Item, ProcessName, RequestId, Revision,
    RunSpec, Selection, encode,
};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::{
    hash::{RowHash, StateHash},
    record::{ClusterRecord, HostRecord, ProcessRecord},
    reply::Reply,
    requests::Requests,
    row::{Key, RowError, decode},
};

/// The whole replicated table. Cloning costs a few pointers.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) cluster: Option<ClusterRecord>,
    pub(crate) hosts: RedBlackTreeMapSync<HostName, Arc<HostRecord>>,
    pub(crate) processes: RedBlackTreeMapSync<ProcessName, Hashed<ProcessRecord>>,
    pub(crate) run_specs: RedBlackTreeMapSync<Digest, StoredRunSpec>,
    pub(crate) slices: RedBlackTreeMapSync<HostName, Slice>,
    pub(crate) requests: Requests,
    /// Derived: the hosts each process has instances on.
    pub(crate) placements: RedBlackTreeMapSync<ProcessName, RedBlackTreeSetSync<HostName>>,
    pub(crate) hash: StateHash,
}

/// What a row holds, shared, and the row's hash, so that whoever replaces it need not encode it once more.
#[derive(Debug)]
pub(crate) struct Hashed<T: ?Sized> {
    pub(crate) record: Arc<T>,
    pub(crate) hash: RowHash,
}

impl<T: ?Sized> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self { record: self.record.clone(), hash: self.hash }
    }
}

/// What one host should run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    pub(crate) revision: Revision,
    pub(crate) items: RedBlackTreeMapSync<InstanceKey, Item>,
}

/// A run spec and how many items address it. The count is derived, not stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredRunSpec {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) uses: u64,
}

impl State {
    /// The cluster's identity, once it has one.
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_ref()
    }

    /// The version of commands that the cluster takes.
    pub fn version(&self) -> CommandVersion {
        self.cluster.as_ref().map_or(CommandVersion::FIRST, |cluster| cluster.version)
    }

    /// A host that announced itself.
    pub fn host(&self, host: &HostName) -> Option<&HostRecord> {
        self.hosts.get(host).map(Arc::as_ref)
    }

    /// Every host, by name.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &HostRecord)> {
        self.hosts.iter().map(|(name, record)| (name, record.as_ref()))
    }

    /// A declared process.
    pub fn process(&self, process: &ProcessName) -> Option<&ProcessRecord> {
        self.processes.get(process).map(|stored| stored.record.as_ref())
    }

    /// Every process, by name.
    pub fn processes(&self) -> impl Iterator<Item = (&ProcessName, &ProcessRecord)> {
        self.processes.iter().map(|(name, stored)| (name, stored.record.as_ref()))
    }

    /// The hosts a process has instances on, by name.
    pub fn hosts_of(&self, process: &ProcessName) -> impl Iterator<Item = &HostName> {
        self.placements.get(process).into_iter().flat_map(|hosts| hosts.iter())
    }

    /// Hosts that have or had something assigned, by name; they need not have announced themselves.
    pub fn assigned_hosts(&self) -> impl Iterator<Item = &HostName> {
        self.slices.keys()
    }

    /// The instances of one host, in order of their keys.
    pub fn items(&self, host: &HostName) -> impl Iterator<Item = (&InstanceKey, &Item)> {
        self.slices.get(host).into_iter().flat_map(|slice| slice.items.iter())
    }

    /// The instances that a selection means, by host and key.
    pub fn selected<'a>(
        &'a self,
        selection: &'a Selection,
    ) -> Box<dyn Iterator<Item = (InstanceRef, &'a Item)> + Send + 'a> {
        match selection.names() {
            Some(names) => Box::new(self.named(&names.collect::<Vec<_>>(), selection).into_iter()),
            None => Box::new(self.walked(selection)),
        }
    }

    /// Those of the processes with these names.
    fn named(&self, names: &[ProcessName], selection: &Selection) -> Vec<(InstanceRef, &Item)> {
        let mut found = Vec::new();
        for name in names {
            let Some(labels) = self.process(name).map(|record| &record.spec.labels) else { continue };
            for host in self.hosts_of(name) {
                let items = self.keys_of(name, host).filter_map(|key| Some((key, self.item(host, key)?)));
                let instances = items.map(|(key, item)| (InstanceRef { host: host.clone(), key: key.clone() }, item));
                found.extend(instances.filter(|(instance, _)| selection.matches(instance, labels)));
            }
        }
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    fn walked<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = (InstanceRef, &'a Item)> + Send + 'a {
        let on_host = |host: &'a HostName| self.items(host).map(move |(key, item)| (host, key, item));
        self.assigned_hosts().flat_map(on_host).filter_map(|(host, key, item)| {
            let labels = &self.process(&key.process)?.spec.labels;
            let instance = InstanceRef { host: host.clone(), key: key.clone() };
            selection.matches(&instance, labels).then_some((instance, item))
        })
    }

    /// One instance.
    pub fn item(&self, host: &HostName, key: &InstanceKey) -> Option<&Item> {
        self.slices.get(host)?.items.get(key)
    }

    /// Log index at which this host's slice last changed; 0 when it never did. A rebuilt cluster assigns everything anew.
    pub fn assignment_revision(&self, host: &HostName) -> Revision {
        let changed = self.slices.get(host).map_or(Revision::ZERO, |slice| slice.revision);
        changed.max(self.rebuilt_at())
    }

    /// Everything this host should run.
    pub fn assignment(&self, host: &HostName) -> Assignment {
        let items: BTreeMap<_, _> = self.items(host).map(|(key, item)| (key.clone(), *item)).collect();
        Assignment { host: host.clone(), revision: self.assignment_revision(host), items }
    }

    /// A run spec in its stored form, as long as an instance refers to it.
    pub fn run_spec_bytes(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.run_specs.get(digest).map(|stored| stored.bytes.clone())
    }

    /// A run spec, as long as an instance refers to it.
    pub fn run_spec(&self, digest: &Digest) -> Option<RunSpec> {
        self.run_specs.get(digest).and_then(|stored| RunSpec::from_bytes(&stored.bytes).ok())
    }

    /// The answer that a request got, if it is still remembered.
    pub fn remembered(&self, request: &RequestId) -> Option<Reply> {
        // What is in there was encoded here, or decoded when it was loaded.
        self.requests.get(request).and_then(|answer| minicbor::decode(answer).ok())
    }

    /// Running hash over all rows.
    pub fn hash(&self) -> StateHash {
        self.hash
    }

    /// The instances of a process on a host.
    pub(crate) fn keys_of(&self, process: &ProcessName, host: &HostName) -> impl Iterator<Item = &InstanceKey> {
        let first = InstanceKey::new(process.clone(), 0);
        let last = InstanceKey::new(process.clone(), u32::MAX);
        // Most processes of a large apply are new, and to find out that a range is empty costs more than to ask first.
        let is_there = self.placements.get(process).is_some_and(|hosts| hosts.contains(host));
        let slice = if is_there { self.slices.get(host) } else { None };
        slice.into_iter().flat_map(move |slice| slice.items.range(first.clone()..=last.clone())).map(|(key, _)| key)
    }

    /// Every row, table by table, lazily.
    pub fn rows(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let cluster = self.cluster.iter().map(|record| (Key::Cluster.to_bytes(), encode(record)));
        let hosts =
            self.hosts.iter().map(|(host, record)| (Key::Host(host.clone()).to_bytes(), encode(record.as_ref())));
        let processes =
            self.processes().map(|(process, record)| (Key::Process(process.clone()).to_bytes(), encode(record)));
        let run_specs =
            self.run_specs.iter().map(|(digest, stored)| (Key::RunSpec(*digest).to_bytes(), stored.bytes.to_vec()));
        let items = self.slices.iter().flat_map(|(host, slice)| {
            let row =
                |(key, item): (&InstanceKey, &Item)| (Key::Item(host.clone(), key.clone()).to_bytes(), encode(item));
            slice.items.iter().map(row)
        });
        let slices =
            self.slices.iter().map(|(host, slice)| (Key::Slice(host.clone()).to_bytes(), encode(&slice.revision)));
        let requests =
            self.requests.iter().map(|(request, answer)| (Key::Request(request.clone()).to_bytes(), answer.to_vec()));
        cluster.chain(hosts).chain(processes).chain(run_specs).chain(items).chain(slices).chain(requests)
    }

    /// Adds one stored row. Rows may come in any order; a row that is there already is an error.
    pub fn load_row(&mut self, key_bytes: &[u8], value: &[u8]) -> Result<(), RowError> {
        let hash = RowHash::of(key_bytes, value);
        match Key::from_bytes(key_bytes)? {
            Key::Cluster => {
                let cluster: ClusterRecord = decode(key_bytes, value)?;
                if cluster.version > CommandVersion::NEWEST {
                    return Err(RowError::new(key_bytes, NewerCluster(cluster.version)));
                }
                self.cluster = Some(cluster);
            }
            Key::Host(host) => self.hosts.insert_mut(host, Arc::new(decode(key_bytes, value)?)),
            Key::Process(process) => {
                self.processes.insert_mut(process, Hashed { record: Arc::new(decode(key_bytes, value)?), hash });
            }
            Key::RunSpec(digest) => {
                if Digest::of(value) != digest {
                    return Err(RowError::new(key_bytes, "a run spec that does not have its digest"));
                }
                let uses = self.run_specs.get(&digest).map_or(0, |stored| stored.uses);
                self.run_specs.insert_mut(digest, StoredRunSpec { bytes: value.into(), uses });
            }
            Key::Item(host, key) => {
                let item: Item = decode(key_bytes, value)?;
                self.count_run_spec(item.spec, 1);
                self.place(&key.process, &host);
                self.edit_slice(&host, |slice| slice.items.insert_mut(key, item));
            }
            Key::Slice(host) => {
                let revision = decode(key_bytes, value)?;
                self.edit_slice(&host, |slice| slice.revision = revision);
            }
            Key::Request(request) => {
                let reply: Reply = decode(key_bytes, value)?;
                self.requests.insert(request, reply.revision, Hashed { record: value.into(), hash });
            }
        }
        self.hash.add(hash);
        Ok(())
    }

    pub(crate) fn edit_slice(&mut self, host: &HostName, edit: impl FnOnce(&mut Slice)) {
        // In its place: a copy would share its items, so that each of a thousand changes would copy the way to it.
        if let Some(slice) = self.slices.get_mut(host) {
            return edit(slice);
        }
        let mut slice = Slice::default();
        edit(&mut slice);
        self.slices.insert_mut(host.clone(), slice);
    }

    /// Notes that `host` has an instance of `process`.
    pub(crate) fn place(&mut self, process: &ProcessName, host: &HostName) {
        match self.placements.get(process).map(|hosts| hosts.contains(host)) {
            Some(true) => {}
            Some(false) => {
                if let Some(hosts) = self.placements.get_mut(process) {
                    hosts.insert_mut(host.clone());
                }
            }
            None => {
                let mut hosts = RedBlackTreeSetSync::new_sync();
                hosts.insert_mut(host.clone());
                self.placements.insert_mut(process.clone(), hosts);
            }
        }
    }

    /// Notes that `host` has no instance of `process` any more.
    pub(crate) fn unplace(&mut self, process: &ProcessName, host: &HostName) {
        let Some(hosts) = self.placements.get_mut(process) else { return };
        hosts.remove_mut(host);
        if hosts.is_empty() {
            self.placements.remove_mut(process);
        }
    }

    /// Counts `change` more items that address this run spec. Before its own row is loaded the bytes are empty.
    pub(crate) fn count_run_spec(&mut self, digest: Digest, change: i64) -> u64 {
        if let Some(stored) = self.run_specs.get_mut(&digest) {
            stored.uses = stored.uses.saturating_add_signed(change);
            return stored.uses;
        }
        let uses = 0_u64.saturating_add_signed(change);
        self.run_specs.insert_mut(digest, StoredRunSpec { bytes: Arc::from([]), uses });
        uses
    }
}

/// The table is one that only a newer program understands.
struct NewerCluster(CommandVersion);

impl fmt::Display for NewerCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, known) = (self.0, CommandVersion::NEWEST);
        write!(
            f,
            "the cluster takes commands of version {version}, this program knows those up to {known}; run a newer one"
        )
    }
}
