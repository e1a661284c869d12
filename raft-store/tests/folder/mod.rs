//! What the tests of a data folder share: making entries and driving the store as openraft would.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use minder_model::{ProcessName, RequestId, Spec};
use minder_raft_store::{CommittedLeaderId, Entry, Hooks, LogId, OpenError, Opened, Store, StoreOptions, TypeConfig};
use minder_state::{Command, Expect, Proposal};
use openraft::{
    EntryPayload,
    storage::{IOFlushed, RaftLogStorage, RaftStateMachine},
    type_config::TypeConfigExt,
};

pub fn open(folder: &Path) -> Result<Opened, OpenError> {
    Store::open(&StoreOptions { folder: folder.into() }, |_| Hooks::default())
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId { term, node_id: 1 }, index)
}

/// An entry that writes the process `p<index>`.
pub fn entry(term: u64, index: u64) -> Entry {
    let mut spec = Spec::new(ProcessName::new(format!("p{index}")).unwrap(), "/bin/true");
    spec.env = BTreeMap::from([("PADDING".to_owned(), "x".repeat(200))]);
    let proposal = Proposal {
        request: RequestId::new(format!("r{index}")).unwrap(),
        time_ms: index,
        actor: "test".into(),
        expect: Expect::Anything,
        command: Command::apply([spec]),
    };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(proposal.into()) }
}

/// Appends and waits until the entries are durable.
pub async fn append(opened: &mut Opened, entries: Vec<Entry>) -> std::io::Result<()> {
    let (done, flushed) = TypeConfig::oneshot();
    opened.log.append(entries, IOFlushed::signal(done)).await?;
    flushed.await.map_err(std::io::Error::other)?
}

/// Applies entries without anybody who waits for an answer.
pub async fn apply(opened: &mut Opened, entries: Vec<Entry>) {
    let stream = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
    opened.machine.apply(stream).await.unwrap();
}

/// The WAL that holds the latest writes.
pub fn wal(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("db")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

/// Copies a folder as it is at this moment.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
