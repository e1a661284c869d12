//! The table in memory, with the indexes that answer questions about it.

use alloc::{boxed::Box, collections::BTreeSet, sync::Arc, vec::Vec};
use core::{fmt, ops::Bound};

use minder_model::{
    Assignment, CommandVersion, Digest, HostName, InstanceKey, InstanceRef, Item, Items, Place, ProcessName, RequestId,
    Revision, RunSpec, Selection, encode,
};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::{
    by_hash::ByHash,
    hash::{RowHash, StateHash},
    record::{ClusterRecord, HostRecord, ProcessRecord},
    reply::Reply,
    requests::Requests,
    row::{Key, RowError, decode},
    run_specs::RunSpecs,
};

/// The whole replicated table. Cloning costs a few pointers.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) cluster: Option<ClusterRecord>,
    pub(crate) hosts: RedBlackTreeMapSync<HostName, Arc<HostRecord>>,
    pub(crate) processes: RedBlackTreeMapSync<ProcessName, Hashed<ProcessRecord>>,
    pub(crate) run_specs: RunSpecs,
    pub(crate) slices: RedBlackTreeMapSync<HostName, Slice>,
    pub(crate) requests: Requests,
    /// Derived: the hosts each process has instances on.
    pub(crate) placements: ByHash<ProcessName, RedBlackTreeSetSync<HostName>>,
    /// Derived: how many instances all hosts have.
    pub(crate) instances: u64,
    /// Derived: the processes that are placed by labels.
    pub(crate) selecting: RedBlackTreeSetSync<ProcessName>,
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
    pub(crate) items: Items,
}

type KeyRange = (Bound<InstanceKey>, Bound<InstanceKey>);

/// All instances of a process on a host.
fn keys_of(process: &ProcessName) -> KeyRange {
    let key = |index| Bound::Included(InstanceKey::new(process.clone(), index));
    (key(0), key(u32::MAX))
}

fn process_named(name: &str) -> Option<ProcessName> {
    ProcessName::new(name).ok()
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
    pub fn selected<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = (InstanceRef, &'a Item)> + 'a {
        self.candidates(selection).filter_map(|(host, key, item)| {
            let labels = &self.process(&key.process)?.spec.labels;
            let instance = InstanceRef { host: host.clone(), key: key.clone() };
            selection.matches(&instance, labels).then_some((instance, item))
        })
    }

    /// The instances that are looked at to find those which a selection means: of the named processes and on the named
    /// hosts where it has names, by host and key.
    pub fn candidates<'a>(
        &'a self,
        selection: &Selection,
    ) -> impl Iterator<Item = (&'a HostName, &'a InstanceKey, &'a Item)> + 'a {
        let ranges: Arc<[KeyRange]> = match selection.named_processes() {
            Some(names) => names.into_iter().filter_map(|name| Some(keys_of(&process_named(name)?))).collect(),
            None => Arc::new([(Bound::Unbounded, Bound::Unbounded)]),
        };
        self.hosts_meant(selection).flat_map(move |host| {
            let slice = self.slices.get(host);
            let ranges = ranges.clone();
            let keys = slice.into_iter().flat_map(move |slice| {
                let ranges = ranges.clone();
                (0..ranges.len()).flat_map(move |at| slice.items.range(ranges[at].clone()))
            });
            keys.map(move |(key, item)| (host, key, item))
        })
    }

    /// The hosts that can have what a selection means, by name.
    fn hosts_meant<'a>(&'a self, selection: &Selection) -> Box<dyn Iterator<Item = &'a HostName> + 'a> {
        let Some(places) = selection.places() else { return Box::new(self.assigned_hosts()) };
        let mut hosts = BTreeSet::new();
        for place in places {
            match place {
                Place::Host(name) => hosts.extend(
                    HostName::new(name).ok().and_then(|name| self.slices.get_key_value(&name)).map(|(host, _)| host),
                ),
                Place::Process(name) => {
                    let placed = process_named(name).and_then(|name| self.placements.get(&name));
                    hosts.extend(placed.into_iter().flat_map(|hosts| hosts.iter()));
                }
            }
        }
        Box::new(hosts.into_iter())
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
        let items = self.slices.get(host).map(|slice| slice.items.clone()).unwrap_or_default();
        Assignment { host: host.clone(), revision: self.assignment_revision(host), items }
    }

    /// A run spec in its stored form, as long as an instance refers to it.
    pub fn run_spec_bytes(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.run_specs.get(digest).cloned()
    }

    /// A run spec, as long as an instance refers to it.
    pub fn run_spec(&self, digest: &Digest) -> Option<RunSpec> {
        self.run_specs.get(digest).and_then(|bytes| RunSpec::from_bytes(bytes).ok())
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
        // Most processes of a large apply are new, and to find out that a range is empty costs more than to ask first.
        let is_there = self.placements.get(process).is_some_and(|hosts| hosts.contains(host));
        let slice = if is_there { self.slices.get(host) } else { None };
        let range = keys_of(process);
        slice.into_iter().flat_map(move |slice| slice.items.range(range.clone())).map(|(key, _)| key)
    }

    /// Every row, table by table, lazily.
    pub fn rows(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let cluster = self.cluster.iter().map(|record| (Key::Cluster.to_bytes(), encode(record)));
        let hosts =
            self.hosts.iter().map(|(host, record)| (Key::Host(host.clone()).to_bytes(), encode(record.as_ref())));
        let processes =
            self.processes().map(|(process, record)| (Key::Process(process.clone()).to_bytes(), encode(record)));
        let run_specs = core::iter::once_with(|| self.run_specs.in_order()).flatten();
        let run_specs = run_specs.map(|(digest, bytes)| (Key::RunSpec(*digest).to_bytes(), bytes.to_vec()));
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

    /// Adds one stored row. Rows may come in any order; a row that is there already is an error. A row that is refused
    /// leaves the state as it was.
    pub fn load_row(&mut self, key_bytes: &[u8], value: &[u8]) -> Result<(), RowError> {
        let hash = RowHash::of(key_bytes, value);
        let key = Key::from_bytes(key_bytes)?;
        if self.has(&key) {
            return Err(RowError::new(key_bytes, "is there twice"));
        }
        match key {
            Key::Cluster => {
                let cluster: ClusterRecord = decode(key_bytes, value)?;
                if cluster.version > CommandVersion::NEWEST {
                    return Err(RowError::new(key_bytes, NewerCluster(cluster.version)));
                }
                self.cluster = Some(cluster);
            }
            Key::Host(host) => self.hosts.insert_mut(host, Arc::new(decode(key_bytes, value)?)),
            Key::Process(process) => {
                let record: ProcessRecord = decode(key_bytes, value)?;
                if record.spec.name != process {
                    return Err(RowError::new(key_bytes, "the spec of another process"));
                }
                self.note_selector(&record);
                self.processes.insert_mut(process, Hashed { record: Arc::new(record), hash });
            }
            Key::RunSpec(digest) => {
                if Digest::of(value) != digest {
                    return Err(RowError::new(key_bytes, "a run spec that does not have its digest"));
                }
                self.run_specs.load(digest, value);
            }
            Key::Item(host, key) => {
                let item: Item = decode(key_bytes, value)?;
                self.instances += 1;
                self.run_specs.count_loaded(item.spec);
                self.place(&key.process, &host);
                self.edit_slice(&host, |slice| {
                    slice.items.insert(key, item);
                });
            }
            Key::Slice(host) => {
                let revision = decode(key_bytes, value)?;
                self.edit_slice(&host, |slice| slice.revision = revision);
            }
            Key::Request(request) => {
                let reply: Reply = decode(key_bytes, value)?;
                if self.requests.has_at(reply.revision) {
                    return Err(RowError::new(key_bytes, "a second answer at one revision"));
                }
                self.requests.insert(request, reply.revision, Hashed { record: value.into(), hash });
            }
        }
        self.hash.add(hash);
        Ok(())
    }

    /// Says what is missing when all rows have been loaded: every instance needs the run spec that it addresses.
    pub fn complete(&self) -> Result<(), RowError> {
        match self.run_specs.missing() {
            Some(digest) => Err(RowError::new(&Key::RunSpec(*digest).to_bytes(), "is missing, instances need it")),
            None => Ok(()),
        }
    }

    fn has(&self, key: &Key) -> bool {
        match key {
            Key::Cluster => self.cluster.is_some(),
            Key::Host(host) => self.hosts.contains_key(host),
            Key::Process(process) => self.processes.contains_key(process),
            Key::RunSpec(digest) => self.run_specs.get(digest).is_some(),
            Key::Item(host, key) => self.item(host, key).is_some(),
            Key::Slice(host) => self.slices.get(host).is_some_and(|slice| slice.revision > Revision::ZERO),
            Key::Request(request) => self.requests.get(request).is_some(),
        }
    }

    /// Lays out anew what was loaded row by row, without the room that this leaves between.
    pub fn compact(&mut self) {
        let hosts: Vec<HostName> = self.slices.keys().cloned().collect();
        for host in &hosts {
            if let Some(slice) = self.slices.get_mut(host) {
                slice.items.compact();
            }
        }
    }

    pub(crate) fn edit_slice(&mut self, host: &HostName, edit: impl FnOnce(&mut Slice)) {
        if let Some(slice) = self.slices.get_mut(host) {
            return edit(slice);
        }
        let mut slice = Slice::default();
        edit(&mut slice);
        self.slices.insert_mut(host.clone(), slice);
    }

    /// Notes whether a process is placed by labels.
    pub(crate) fn note_selector(&mut self, record: &ProcessRecord) {
        let name = &record.spec.name;
        match (record.spec.selector.is_empty(), self.selecting.contains(name)) {
            (false, false) => self.selecting.insert_mut(name.clone()),
            (true, true) => {
                self.selecting.remove_mut(name);
            }
            (false, true) | (true, false) => {}
        }
    }

    /// Notes that `host` has an instance of `process`.
    pub(crate) fn place(&mut self, process: &ProcessName, host: &HostName) {
        if self.placements.get(process).is_some_and(|hosts| hosts.contains(host)) {
            return;
        }
        match self.placements.get_mut(process) {
            Some(hosts) => hosts.insert_mut(host.clone()),
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
