//! The only way to change a [`State`]: every change keeps rows, indexes and hash in step and is noted for the disk.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};

use minder_model::{
    HostName, InstanceKey, Item, ProcessName, REQUESTS_REMEMBERED_MAX, RequestId, Revision, RunSpec, encode,
};

use crate::{
    record::{ClusterRecord, HostRecord, ProcessRecord},
    reply::Reply,
    row::{Key, RowChange},
    state::{State, StoredRunSpec},
};

/// What a proposal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer.
    pub reply: Reply,
    /// Rows to store, in the order of the changes; a key may occur more than once and the last one counts.
    pub rows: Vec<RowChange>,
    /// What watchers are told.
    pub changes: Vec<Change>,
    /// Hosts whose assignment changed.
    pub touched: BTreeSet<HostName>,
}

/// One change that watchers are told of, with the record as it is then, shared with the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This process was written, and these hosts have instances of it.
    ProcessPut(Arc<ProcessRecord>, Vec<HostName>),
    /// This process is gone.
    ProcessDeleted(ProcessName),
    /// This host was written.
    HostPut(HostName, Arc<HostRecord>),
    /// This host is gone.
    HostDeleted(HostName),
}

/// What a change is about, noted while it happens. A process is written at most once by one proposal; the hosts of it,
/// and the record of a host, are taken when everything has happened.
enum Noted {
    Process(Arc<ProcessRecord>),
    ProcessGone(ProcessName),
    Host(HostName),
}

pub(crate) struct Writer<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) index: Revision,
    rows: Vec<RowChange>,
    noted: Vec<Noted>,
    touched: BTreeSet<HostName>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(state: &'a mut State, index: Revision) -> Self {
        Self { state, index, rows: Vec::new(), noted: Vec::new(), touched: BTreeSet::new() }
    }

    /// Stamps the revision of every touched slice and gives everything that was noted.
    pub(crate) fn finish(mut self, reply: Reply) -> Applied {
        for host in self.touched.clone() {
            let before = self.state.slices.get(&host).map(|slice| slice.revision).filter(|revision| revision.0 > 0);
            let index = self.index;
            self.state.edit_slice(&host, |slice| slice.revision = index);
            self.row(Key::Slice(host), before.map(|revision| encode(&revision)), Some(encode(&index)));
        }
        let changes = self.noted.iter().map(|noted| self.change(noted)).collect();
        Applied { reply, rows: self.rows, changes, touched: self.touched }
    }

    fn change(&self, noted: &Noted) -> Change {
        match noted {
            Noted::Process(record) => {
                Change::ProcessPut(record.clone(), self.state.hosts_of(&record.spec.name).cloned().collect())
            }
            Noted::ProcessGone(name) => Change::ProcessDeleted(name.clone()),
            Noted::Host(host) => match self.state.hosts.get(host) {
                Some(record) => Change::HostPut(host.clone(), record.clone()),
                None => Change::HostDeleted(host.clone()),
            },
        }
    }

    pub(crate) fn put_cluster(&mut self, record: ClusterRecord) {
        let before = self.state.cluster.as_ref().map(encode);
        self.row(Key::Cluster, before, Some(encode(&record)));
        self.state.cluster = Some(record);
    }

    pub(crate) fn put_host(&mut self, host: &HostName, record: HostRecord) {
        let before = self.state.host(host).map(encode);
        self.row(Key::Host(host.clone()), before, Some(encode(&record)));
        self.state.hosts.insert_mut(host.clone(), Arc::new(record));
        self.noted.push(Noted::Host(host.clone()));
    }

    pub(crate) fn delete_host(&mut self, host: &HostName) {
        let before = self.state.host(host).map(encode);
        self.row(Key::Host(host.clone()), before, None);
        self.state.hosts.remove_mut(host);
        self.noted.push(Noted::Host(host.clone()));
    }

    /// Writes a process in the place of `before`, which is what the state has under its name.
    pub(crate) fn put_process(&mut self, before: Option<&ProcessRecord>, record: Arc<ProcessRecord>) {
        let name = record.spec.name.clone();
        self.row(Key::Process(name.clone()), before.map(encode), Some(encode(&*record)));
        self.state.processes.insert_mut(name, record.clone());
        self.noted.push(Noted::Process(record));
    }

    pub(crate) fn delete_process(&mut self, name: &ProcessName) {
        let before = self.state.process(name).map(encode);
        self.row(Key::Process(name.clone()), before, None);
        self.state.processes.remove_mut(name);
        self.noted.push(Noted::ProcessGone(name.clone()));
    }

    /// Writes one instance; `run_spec` is what `item.spec` addresses. Writing what is there already changes nothing.
    pub(crate) fn put_item(&mut self, host: &HostName, key: &InstanceKey, item: Item, run_spec: Option<&RunSpec>) {
        let before = self.state.item(host, key).copied();
        if before == Some(item) {
            return;
        }
        if before.map(|before| before.spec) != Some(item.spec) {
            self.use_run_spec(&item, run_spec);
            if let Some(before) = before {
                self.release_run_spec(&before);
            }
        }
        self.row(Key::Item(host.clone(), key.clone()), before.map(|before| encode(&before)), Some(encode(&item)));
        self.state.place(&key.process, host);
        self.state.edit_slice(host, |slice| slice.items.insert_mut(key.clone(), item));
        self.touched.insert(host.clone());
    }

    pub(crate) fn delete_item(&mut self, host: &HostName, key: &InstanceKey) {
        let Some(before) = self.state.item(host, key).copied() else { return };
        self.row(Key::Item(host.clone(), key.clone()), Some(encode(&before)), None);
        self.state.edit_slice(host, |slice| {
            slice.items.remove_mut(key);
        });
        self.release_run_spec(&before);
        let left = self.state.items(host).any(|(other, _)| other.process == key.process);
        if !left {
            self.state.unplace(&key.process, host);
        }
        self.touched.insert(host.clone());
    }

    /// Remembers the answer to a request and forgets the oldest one beyond the bound.
    pub(crate) fn remember(&mut self, request: &RequestId, reply: &Reply) {
        self.row(Key::Request(request.clone()), None, Some(encode(reply)));
        self.state.requests.insert_mut(request.clone(), Arc::new(reply.clone()));
        self.state.request_order.insert_mut(reply.revision, request.clone());
        if self.state.requests.size() <= REQUESTS_REMEMBERED_MAX {
            return;
        }
        let Some((revision, oldest)) = self.state.request_order.first().map(|(at, id)| (*at, id.clone())) else {
            return;
        };
        let before = self.state.remembered(&oldest).map(encode);
        self.row(Key::Request(oldest.clone()), before, None);
        self.state.request_order.remove_mut(&revision);
        self.state.requests.remove_mut(&oldest);
    }

    fn use_run_spec(&mut self, item: &Item, run_spec: Option<&RunSpec>) {
        if self.state.count_run_spec(item.spec, 1) > 1 {
            return;
        }
        let bytes = run_spec.map(RunSpec::to_bytes).unwrap_or_default();
        self.row(Key::RunSpec(item.spec), None, Some(bytes.clone()));
        self.state.run_specs.insert_mut(item.spec, StoredRunSpec { bytes: bytes.into(), uses: 1 });
    }

    fn release_run_spec(&mut self, item: &Item) {
        if self.state.count_run_spec(item.spec, -1) > 0 {
            return;
        }
        let before = self.state.run_spec_bytes(&item.spec).map(|bytes| bytes.to_vec());
        self.row(Key::RunSpec(item.spec), before, None);
        self.state.run_specs.remove_mut(&item.spec);
    }

    fn row(&mut self, key: Key, before: Option<Vec<u8>>, after: Option<Vec<u8>>) {
        let key = key.to_bytes();
        if let Some(before) = before {
            self.state.hash.remove(&key, &before);
        }
        if let Some(after) = &after {
            self.state.hash.add(&key, after);
        }
        self.rows.push(RowChange { key, value: after });
    }
}
