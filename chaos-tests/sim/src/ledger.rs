//! The slave's ledger, after slave/src/ledger.rs: entries that are written first and synced then. What was written
//! survives the slave, what was synced survives the machine.

use std::collections::{BTreeMap, BTreeSet};

use minder_model::{
    Assignment, AssignmentDelta, ClusterId, DeltaError, Digest, HostName, InstanceKey, Revision, RunSpec, encode,
};
use minder_supervisor::Record;

use crate::chance::Chance;

/// One line of it.
#[derive(Debug, Clone)]
pub enum Entry {
    /// The slave belongs to a cluster.
    Cluster(ClusterId),
    /// A run spec, in stored form.
    RunSpec(Vec<u8>),
    /// A change of the assignment.
    Change(AssignmentDelta),
    /// A supervisor's durable part, in stored form.
    Record(Vec<u8>),
    /// An instance is forgotten.
    Forget(InstanceKey),
}

/// The file.
#[derive(Debug, Default)]
pub struct File {
    written: Vec<Entry>,
    synced: usize,
}

/// A longer file is written anew.
const ENTRIES_MAX: usize = 300;

impl File {
    /// How much was written.
    pub fn written(&self) -> usize {
        self.written.len()
    }

    /// Everything written until then is durable.
    pub fn sync(&mut self, upto: usize) {
        self.synced = self.synced.max(upto.min(self.written.len()));
    }

    /// The power goes: what was not synced may be there or not, but nothing of it after what is not.
    pub fn lose_power(&mut self, chance: &mut Chance) {
        let unsynced = self.written.len() - self.synced;
        let kept = if unsynced == 0 { 0 } else { chance.below(unsynced + 1) };
        self.written.truncate(self.synced + kept);
        self.synced = self.written.len();
    }
}

/// What the slave has in memory of it.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// What it should run.
    pub assignment: Assignment,
    /// How, by digest.
    pub run_specs: BTreeMap<Digest, RunSpec>,
    /// The durable part of every supervisor.
    pub records: BTreeMap<InstanceKey, Record>,
    pending: Vec<Entry>,
}

impl Ledger {
    /// What a file says.
    pub fn open(host: HostName, file: &mut File) -> Self {
        let mut ledger = Self {
            cluster: None,
            assignment: Assignment::empty(host),
            run_specs: BTreeMap::new(),
            records: BTreeMap::new(),
            pending: Vec::new(),
        };
        for entry in &file.written {
            ledger.replay(entry);
        }
        file.synced = file.written.len();
        ledger
    }

    fn replay(&mut self, entry: &Entry) {
        match entry {
            Entry::Cluster(cluster) => self.cluster = Some(cluster.clone()),
            Entry::RunSpec(bytes) => drop(self.keep_run_spec(bytes)),
            Entry::Change(delta) => {
                self.assignment = self.assignment.after(delta).expect("a change that was taken before");
            }
            Entry::Record(bytes) => {
                let record: Record = minicbor::decode(bytes).expect("a record that was written before");
                self.records.insert(record.key.clone(), record);
            }
            Entry::Forget(key) => drop(self.records.remove(key)),
        }
    }

    fn keep_run_spec(&mut self, bytes: &[u8]) -> bool {
        let run_spec = RunSpec::from_bytes(bytes).expect("a run spec that a manager stored");
        self.run_specs.insert(Digest::of(bytes), run_spec).is_none()
    }

    /// Notes the cluster, once and for all.
    pub fn join(&mut self, cluster: ClusterId) {
        if self.cluster.is_none() {
            self.pending.push(Entry::Cluster(cluster.clone()));
            self.cluster = Some(cluster);
        }
    }

    /// Takes a change of the assignment, fenced by the model's rules.
    pub fn change(&mut self, delta: AssignmentDelta) -> Result<(), DeltaError> {
        let next = self.assignment.after(&delta)?;
        if next != self.assignment {
            self.pending.push(Entry::Change(delta));
            self.assignment = next;
        }
        Ok(())
    }

    /// A planted bug's way: takes any change, without a look at its revision, its base or its digest.
    pub fn change_unchecked(&mut self, delta: AssignmentDelta) {
        let next = &mut self.assignment;
        if delta.base.is_none() {
            next.items = Default::default();
        }
        next.items.extend(delta.upserts);
        delta.removes.iter().for_each(|key| {
            next.items.remove(key);
        });
        next.revision = delta.revision;
    }

    /// Takes a run spec in its stored form.
    pub fn add_run_spec(&mut self, bytes: &[u8]) {
        if self.keep_run_spec(bytes) {
            self.pending.push(Entry::RunSpec(bytes.to_vec()));
        }
    }

    /// Takes a supervisor's durable part.
    pub fn put_record(&mut self, record: &Record) {
        if self.records.get(&record.key) != Some(record) {
            self.pending.push(Entry::Record(encode(record)));
            self.records.insert(record.key.clone(), record.clone());
        }
    }

    /// Forgets an instance.
    pub fn forget(&mut self, key: &InstanceKey) {
        if self.records.remove(key).is_some() {
            self.pending.push(Entry::Forget(key.clone()));
        }
    }

    /// Run specs that the assignment refers to and that are not here.
    pub fn missing_run_specs(&self) -> BTreeSet<Digest> {
        let wanted = self.assignment.items.values().map(|item| item.spec);
        wanted.filter(|digest| !self.run_specs.contains_key(digest)).collect()
    }

    /// Hands everything to the kernel. `true` when there was something.
    pub fn hand_over(&mut self, file: &mut File) -> bool {
        let some = !self.pending.is_empty();
        file.written.append(&mut self.pending);
        some
    }

    /// After a sync: a long file is written anew, in one step.
    pub fn shorten(&mut self, file: &mut File) {
        if file.written.len() <= ENTRIES_MAX || file.synced < file.written.len() || !self.pending.is_empty() {
            return;
        }
        let assigned = self.assignment.items.values().map(|item| item.spec);
        let live = self.records.values().filter_map(|record| record.live).map(|live| live.spec);
        let used: BTreeSet<Digest> = assigned.chain(live).collect();
        self.run_specs.retain(|digest, _| used.contains(digest));
        let cluster = self.cluster.iter().cloned().map(Entry::Cluster);
        let run_specs = self.run_specs.values().map(|run_spec| Entry::RunSpec(run_spec.to_bytes()));
        let assignment =
            (self.assignment.revision > Revision::ZERO).then(|| Entry::Change(self.assignment.delta_from(None)));
        let records = self.records.values().map(|record| Entry::Record(encode(record)));
        file.written = cluster.chain(run_specs).chain(assignment).chain(records).collect();
        file.synced = file.written.len();
    }
}
