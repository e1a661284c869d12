//! The only way to change a [`State`]: every change keeps rows, indexes and hash in step and is noted for the disk.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};

use minder_model::{HostName, InstanceKey, Item, ProcessName, REQUESTS_REMEMBERED_MAX, RequestId, Revision, encode};
use minicbor::{CborLen, Encode};

use crate::{
    hash::RowHash,
    record::{ClusterRecord, HostRecord, ProcessRecord},
    reply::Reply,
    row::{Key, RowChange},
    state::{Hashed, State},
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
        let touched = core::mem::take(&mut self.touched);
        for host in &touched {
            let before = self.state.slices.get(host).map(|slice| slice.revision).filter(|revision| revision.0 > 0);
            let index = self.index;
            self.state.edit_slice(host, |slice| slice.revision = index);
            let key = Key::Slice(host.clone());
            self.put_row(&key, before.map(|revision| hash_of(&key, &revision)), encode(&index));
        }
        let changes = self.noted.iter().map(|noted| self.change(noted)).collect();
        Applied { reply, rows: self.rows, changes, touched }
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
        let before = self.state.cluster.as_ref().map(|before| hash_of(&Key::Cluster, before));
        self.put_row(&Key::Cluster, before, encode(&record));
        self.state.cluster = Some(record);
    }

    pub(crate) fn put_host(&mut self, host: &HostName, record: HostRecord) {
        let key = Key::Host(host.clone());
        let before = self.state.host(host).map(|before| hash_of(&key, before));
        self.put_row(&key, before, encode(&record));
        self.state.hosts.insert_mut(host.clone(), Arc::new(record));
        self.noted.push(Noted::Host(host.clone()));
    }

    pub(crate) fn delete_host(&mut self, host: &HostName) {
        let Some(before) = self.state.host(host) else { return };
        let key = Key::Host(host.clone());
        let before = hash_of(&key, before);
        self.delete_row(&key, before);
        self.state.hosts.remove_mut(host);
        self.noted.push(Noted::Host(host.clone()));
    }

    pub(crate) fn put_process(&mut self, record: Arc<ProcessRecord>) {
        let name = &record.spec.name;
        let before = self.state.processes.get(name).map(|before| before.hash);
        let hash = self.put_row(&Key::Process(name.clone()), before, encode(&*record));
        self.state.note_selector(&record);
        self.state.processes.insert_mut(name.clone(), Hashed { record: record.clone(), hash });
        self.noted.push(Noted::Process(record));
    }

    pub(crate) fn delete_process(&mut self, name: &ProcessName) {
        let Some(before) = self.state.processes.get(name).map(|before| before.hash) else { return };
        self.delete_row(&Key::Process(name.clone()), before);
        self.state.processes.remove_mut(name);
        self.state.selecting.remove_mut(name);
        self.noted.push(Noted::ProcessGone(name.clone()));
    }

    /// Writes one instance; `run_spec` is the stored form of what `item.spec` addresses. Writing what is there already changes nothing.
    pub(crate) fn put_item(&mut self, host: &HostName, key: &InstanceKey, item: Item, run_spec: Option<&[u8]>) {
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
        if before.is_none() {
            self.state.instances += 1;
        }
        let row = Key::Item(host.clone(), key.clone());
        self.put_row(&row, before.map(|before| hash_of(&row, &before)), encode(&item));
        self.state.place(&key.process, host);
        self.state.edit_slice(host, |slice| {
            slice.items.insert(key.clone(), item);
        });
        self.touched.insert(host.clone());
    }

    pub(crate) fn delete_item(&mut self, host: &HostName, key: &InstanceKey) {
        let Some(before) = self.state.item(host, key).copied() else { return };
        let row = Key::Item(host.clone(), key.clone());
        self.delete_row(&row, hash_of(&row, &before));
        self.state.instances -= 1;
        self.state.edit_slice(host, |slice| {
            slice.items.remove(key);
        });
        self.release_run_spec(&before);
        if self.state.keys_of(&key.process, host).next().is_none() {
            self.state.unplace(&key.process, host);
        }
        self.touched.insert(host.clone());
    }

    /// Remembers the answer to a request and forgets the oldest one beyond the bound.
    pub(crate) fn remember(&mut self, request: &RequestId, reply: &Reply) {
        let stored = encode(reply);
        let record: Arc<[u8]> = stored.as_slice().into();
        let hash = self.put_row(&Key::Request(request.clone()), None, stored);
        self.state.requests.insert(request.clone(), reply.revision, Hashed { record, hash });
        if self.state.requests.len() > REQUESTS_REMEMBERED_MAX
            && let Some((oldest, hash)) = self.state.requests.forget_oldest()
        {
            self.delete_row(&Key::Request(oldest), hash);
        }
    }

    fn use_run_spec(&mut self, item: &Item, run_spec: Option<&[u8]>) {
        if self.state.run_specs.count_one_more(&item.spec) {
            return;
        }
        let bytes = run_spec.unwrap_or_default();
        self.put_row(&Key::RunSpec(item.spec), None, bytes.to_vec());
        self.state.run_specs.insert(item.spec, bytes);
    }

    fn release_run_spec(&mut self, item: &Item) {
        if let Some(bytes) = self.state.run_specs.release(&item.spec) {
            let key = Key::RunSpec(item.spec);
            self.delete_row(&key, RowHash::of(&key.to_bytes(), &bytes));
        }
    }

    /// Writes a row in the place of the one with the hash `before`; gives its own.
    fn put_row(&mut self, key: &Key, before: Option<RowHash>, value: Vec<u8>) -> RowHash {
        let key = key.to_bytes();
        let hash = RowHash::of(&key, &value);
        if let Some(before) = before {
            self.state.hash.remove(before);
        }
        self.state.hash.add(hash);
        self.rows.push(RowChange { key, value: Some(value) });
        hash
    }

    fn delete_row(&mut self, key: &Key, before: RowHash) {
        self.state.hash.remove(before);
        self.rows.push(RowChange { key: key.to_bytes(), value: None });
    }
}

/// The hash of a row that is small enough to be made again instead of kept.
fn hash_of<T: Encode<()> + CborLen<()>>(key: &Key, record: &T) -> RowHash {
    RowHash::of(&key.to_bytes(), &encode(record))
}
