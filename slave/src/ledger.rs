//! What a slave keeps on disk: its cluster, its assignment, the run specs that refers to, and the durable part of every
//! supervisor. From this alone it supervises, without any manager, through its own restarts and the machine's.

mod content;

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use minder_model::{
    Assignment, AssignmentDelta, ClusterId, DeltaError, Digest, HostName, InstanceKey, Item, RunSpec, encode,
};
use minder_supervisor::Record;
use rustix::fs::{FlockOperation, flock};

pub use self::content::{Content, Unreadable};
use self::content::{Entry, StoredRunSpec};
use crate::journal::{Journal, JournalError};

/// A folder that is held for longer than this has a slave.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another slave has it.
    #[error("{} is used by another minder-slave; one slave needs one data folder of its own", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use {}", folder.display())]
    Io {
        /// The data folder.
        folder: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A whole frame that means nothing: written by another version, or for another host.
    #[error("the ledger in {} cannot be understood: {what}", folder.display())]
    Malformed {
        /// The data folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The ledger.
pub struct Ledger {
    journal: Journal,
    pending: Vec<Vec<u8>>,
    content: Content,
    /// Held as long as this slave lives.
    _lock: File,
}

impl Ledger {
    /// Opens or makes the ledger of `host` in a folder, and holds it against other slaves.
    pub fn open(folder: &Path, host: &HostName) -> Result<Self, LedgerError> {
        let io = |source: io::Error| LedgerError::Io { folder: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        let lock = File::create(folder.join("lock")).map_err(io)?;
        hold(&lock).map_err(|_| LedgerError::InUse { folder: folder.into() })?;
        let (journal, frames) = Journal::open(&folder.join("ledger"))?;
        let content = Content::read(host, &frames)
            .map_err(|error| LedgerError::Malformed { folder: folder.into(), what: error.to_string() })?;
        Ok(Self { journal, pending: Vec::new(), content, _lock: lock })
    }

    /// The cluster this slave belongs to, once one has spoken to it.
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.content.cluster.as_ref()
    }

    /// What this host should run.
    pub fn assignment(&self) -> &Assignment {
        &self.content.assignment
    }

    /// A run spec, if it is here.
    pub fn run_spec(&self, digest: &Digest) -> Option<&RunSpec> {
        self.content.run_specs.get(digest).map(|stored| &stored.run_spec)
    }

    /// The durable part of every supervisor, as it was last saved.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.content.records.values()
    }

    /// The durable part of one supervisor.
    pub fn record(&self, key: &InstanceKey) -> Option<&Record> {
        self.content.records.get(key)
    }

    /// Assigned items.
    pub fn items(&self) -> impl Iterator<Item = (&InstanceKey, &Item)> {
        self.content.assignment.items.iter()
    }

    /// Run specs that the assignment refers to and that are not here.
    pub fn missing_run_specs(&self) -> BTreeSet<Digest> {
        let wanted = self.content.assignment.items.values().map(|item| item.spec);
        wanted.filter(|digest| !self.content.run_specs.contains_key(digest)).collect()
    }

    /// Notes the cluster, once and for all.
    pub fn join(&mut self, cluster: ClusterId) {
        if self.content.cluster.is_none() {
            self.write(&Entry::Cluster(cluster.clone()));
            self.content.cluster = Some(cluster);
        }
    }

    /// Belongs to this cluster from now on, on an operator's word. What it held it holds still: the other cluster's
    /// revisions lie above.
    pub fn accept(&mut self, cluster: ClusterId) {
        if self.content.cluster.as_ref() != Some(&cluster) {
            self.write(&Entry::Cluster(cluster.clone()));
            self.content.cluster = Some(cluster);
        }
    }

    /// Takes a change of the assignment, fenced by the model's rules, to be made durable by [`Self::save`].
    pub fn change(&mut self, delta: AssignmentDelta) -> Result<(), DeltaError> {
        let next = self.content.assignment.after(&delta)?;
        if next != self.content.assignment {
            self.write(&Entry::Change(delta));
            self.content.assignment = next;
        }
        Ok(())
    }

    /// Takes a run spec in its stored form. `false` when the bytes are none.
    pub fn add_run_spec(&mut self, bytes: &[u8]) -> bool {
        let Ok(run_spec) = RunSpec::from_bytes(bytes) else { return false };
        let digest = Digest::of(bytes);
        if !self.content.run_specs.contains_key(&digest) {
            self.write(&Entry::RunSpec(bytes.to_vec().into()));
            self.content.run_specs.insert(digest, StoredRunSpec { bytes: bytes.into(), run_spec });
        }
        true
    }

    /// Takes a supervisor's durable part.
    pub fn put_record(&mut self, record: &Record) {
        if self.content.records.get(&record.key) != Some(record) {
            self.write(&Entry::Record(Box::new(record.clone())));
            self.content.records.insert(record.key.clone(), record.clone());
        }
    }

    /// Forgets an instance.
    pub fn forget(&mut self, key: &InstanceKey) {
        if self.content.records.remove(key).is_some() {
            self.write(&Entry::Forget(key.clone()));
        }
    }

    /// Hands everything taken so far to the kernel: from here on a slave that comes after this one knows it.
    pub fn hand_over(&mut self) -> io::Result<()> {
        self.journal.append(&std::mem::take(&mut self.pending))
    }

    /// Begins with the sync of what was handed over, beside whatever comes before [`Self::save`].
    pub fn begin_sync(&mut self) {
        self.journal.begin_sync();
    }

    /// Makes everything taken so far durable, in one sync.
    pub fn save(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.journal.sync()?;
        if self.journal.is_long() {
            self.content.drop_unused_run_specs();
            let frames = self.content.frames();
            self.journal.rewrite(&frames)?;
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) {
        self.pending.push(encode(entry));
    }
}

/// A slave that was killed while it started a shim has left a child that holds its lock until it executes, which is a
/// matter of milliseconds.
fn hold(lock: &File) -> rustix::io::Result<()> {
    let begin = Instant::now();
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(_) if begin.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_INTERVAL),
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Generation, ProcessName, Revision, Spec, Wanted};

    use super::*;

    fn host() -> HostName {
        HostName::new("h").unwrap()
    }

    fn assignment(revision: u64, spec: Digest) -> Assignment {
        let mut assignment = Assignment::empty(host());
        assignment.revision = Revision(revision);
        let item = Item {
            generation: Generation(1),
            spec,
            wanted: Wanted::Running,
            restart_at: Revision::ZERO,
            retry_at: Revision::ZERO,
            signal: None,
            start_at: Revision::ZERO,
        };
        assignment.items.insert(InstanceKey::parse("app").unwrap(), item);
        assignment
    }

    #[test]
    fn everything_is_there_again_and_the_past_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run_spec = Spec::new(ProcessName::new("app").unwrap(), "x").resolve(&host());
        let mut ledger = Ledger::open(folder.path(), &host()).unwrap();
        ledger.join(ClusterId::new("c").unwrap());
        ledger.change(assignment(7, run_spec.digest()).delta_from(None)).unwrap();
        assert_eq!(ledger.missing_run_specs(), [run_spec.digest()].into());
        assert!(ledger.add_run_spec(&run_spec.to_bytes()));
        let record = Record::new(InstanceKey::parse("app").unwrap(), 5);
        ledger.put_record(&record);
        ledger.save().unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(folder.path(), &host()).unwrap();
        assert_eq!(ledger.cluster(), Some(&ClusterId::new("c").unwrap()));
        assert_eq!(ledger.assignment(), &assignment(7, run_spec.digest()));
        assert_eq!(ledger.run_spec(&run_spec.digest()), Some(&run_spec));
        assert_eq!(ledger.records().collect::<Vec<_>>(), [&record]);
        let older = assignment(6, Digest::default()).delta_from(None);
        assert!(matches!(ledger.change(older), Err(DeltaError::Older { .. })));
        // A cluster is left on an operator's word alone, and the assignment stays.
        ledger.join(ClusterId::new("other").unwrap());
        assert_eq!(ledger.cluster(), Some(&ClusterId::new("c").unwrap()));
        ledger.accept(ClusterId::new("other").unwrap());
        ledger.save().unwrap();
        drop(ledger);
        let ledger = Ledger::open(folder.path(), &host()).unwrap();
        assert_eq!(ledger.cluster(), Some(&ClusterId::new("other").unwrap()));
        assert_eq!(ledger.assignment(), &assignment(7, run_spec.digest()));
    }

    #[test]
    fn a_long_ledger_is_written_anew_and_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), &host()).unwrap();
        let mut record = Record::new(InstanceKey::parse("app").unwrap(), 0);
        for at in 0..200_u64 {
            record.since_ms = at;
            record.window = vec![at; 10_000];
            ledger.put_record(&record);
            ledger.save().unwrap();
        }
        let bytes = std::fs::metadata(folder.path().join("ledger")).unwrap().len();
        assert!(bytes < 5 << 20, "{bytes}");
        drop(ledger);
        let ledger = Ledger::open(folder.path(), &host()).unwrap();
        assert_eq!(ledger.records().collect::<Vec<_>>(), [&record]);
    }

    #[test]
    fn a_run_spec_keeps_the_bytes_that_its_digest_is_of() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Spec::new(ProcessName::new("app").unwrap(), "x").resolve(&host()).to_bytes();
        // What a newer version may say more: one field more in the map, which is passed over here.
        assert!((0xa0..0xb7).contains(&bytes[0]), "a short map");
        bytes[0] += 1;
        bytes.extend([0x19, 0x03, 0xe8, 0x07]);
        let digest = Digest::of(&bytes);
        let mut ledger = Ledger::open(folder.path(), &host()).unwrap();
        ledger.change(assignment(7, digest).delta_from(None)).unwrap();
        assert!(ledger.add_run_spec(&bytes));
        let mut record = Record::new(InstanceKey::parse("app").unwrap(), 0);
        record.window = vec![7; 10_000];
        for at in 0..200_u64 {
            record.since_ms = at;
            ledger.put_record(&record);
            ledger.save().unwrap();
        }
        assert!(std::fs::metadata(folder.path().join("ledger")).unwrap().len() < 5 << 20, "written anew meanwhile");
        drop(ledger);
        let ledger = Ledger::open(folder.path(), &host()).unwrap();
        assert_eq!(ledger.missing_run_specs(), BTreeSet::new());
    }

    #[test]
    fn two_slaves_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Ledger::open(folder.path(), &host()).unwrap();
        assert!(matches!(Ledger::open(folder.path(), &host()), Err(LedgerError::InUse { .. })));
    }
}
