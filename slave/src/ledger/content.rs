//! What a ledger's frames say. No file exists here: frames go in, and the shortest frames that say the same come out.

use std::collections::{BTreeMap, BTreeSet};

use minder_model::{
    Assignment, AssignmentDelta, ClusterId, DeltaError, Digest, HostName, InstanceKey, Revision, RunSpec, encode,
};
use minder_supervisor::Record;
use minicbor::{CborLen, Decode, Encode, bytes::ByteVec};

/// One line of the ledger.
#[derive(Debug, Encode, Decode, CborLen)]
pub(super) enum Entry {
    #[n(0)]
    Cluster(#[n(0)] ClusterId),
    #[n(1)]
    RunSpec(#[n(0)] ByteVec),
    #[n(2)]
    Change(#[n(0)] AssignmentDelta),
    #[n(3)]
    Record(#[n(0)] Box<Record>),
    #[n(4)]
    Forget(#[n(0)] InstanceKey),
}

/// A whole frame that means nothing: written by another version, or for another host.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No line of a ledger.
    #[error(transparent)]
    Malformed(#[from] minicbor::decode::Error),
    /// A change that does not follow what was before it.
    #[error("{0}")]
    OutOfOrder(DeltaError),
}

/// A run spec and the bytes that its digest is taken of: another version may have said more in them than is read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRunSpec {
    pub(super) bytes: Box<[u8]>,
    pub(super) run_spec: RunSpec,
}

/// Everything a slave keeps, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub(super) cluster: Option<ClusterId>,
    pub(super) assignment: Assignment,
    pub(super) run_specs: BTreeMap<Digest, StoredRunSpec>,
    pub(super) records: BTreeMap<InstanceKey, Record>,
}

impl Content {
    /// What these frames of `host`'s journal say, oldest first. Any bytes give a content or a named error.
    pub fn read(host: &HostName, frames: &[Vec<u8>]) -> Result<Self, Unreadable> {
        let mut content = Self {
            cluster: None,
            assignment: Assignment::empty(host.clone()),
            run_specs: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        for frame in frames {
            content.replay(minicbor::decode(frame)?).map_err(Unreadable::OutOfOrder)?;
        }
        Ok(content)
    }

    /// The whole of it, as short as it can be said.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let cluster = self.cluster.iter().cloned().map(Entry::Cluster);
        let run_specs = self.run_specs.values().map(|stored| Entry::RunSpec(stored.bytes.to_vec().into()));
        let assigned = self.assignment.revision > Revision::ZERO || !self.assignment.items.is_empty();
        let assignment = assigned.then(|| Entry::Change(self.assignment.delta_from(None)));
        let records = self.records.values().cloned().map(Box::new).map(Entry::Record);
        cluster.chain(run_specs).chain(assignment).chain(records).map(|entry| encode(&entry)).collect()
    }

    /// Specs stay while an item or a live incarnation refers to them.
    pub(super) fn drop_unused_run_specs(&mut self) {
        let assigned = self.assignment.items.values().map(|item| item.spec);
        let live = self.records.values().filter_map(|record| record.live).map(|live| live.spec);
        let used: BTreeSet<Digest> = assigned.chain(live).collect();
        self.run_specs.retain(|digest, _| used.contains(digest));
    }

    fn replay(&mut self, entry: Entry) -> Result<(), DeltaError> {
        match entry {
            Entry::Cluster(cluster) => self.cluster = Some(cluster),
            Entry::RunSpec(bytes) => {
                if let Ok(run_spec) = RunSpec::from_bytes(&bytes) {
                    let digest = Digest::of(&bytes);
                    let bytes = Vec::from(bytes).into();
                    self.run_specs.insert(digest, StoredRunSpec { bytes, run_spec });
                }
            }
            Entry::Change(delta) => self.assignment = self.assignment.after(&delta)?,
            Entry::Record(record) => {
                self.records.insert(record.key.clone(), *record);
            }
            Entry::Forget(key) => {
                self.records.remove(&key);
            }
        }
        Ok(())
    }
}
