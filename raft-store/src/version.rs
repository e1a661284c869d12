//! The version that a program must know to open a folder: the highest that anything in it needs. It is written with the
//! first entry, or the snapshot, that needs more than the one before, in the same batch, so that no older program ever
//! finds there what it would take for damage.

use std::io;

use minder_model::CommandVersion;
use rocksdb::{DB, WriteBatch};

use crate::{error::rocks, options::META, store::column, types::Entry};

const KEY: &[u8] = b"format";

/// What the folder says. `None` in a new one.
pub(crate) fn read(db: &DB) -> io::Result<Option<CommandVersion>> {
    let stored = db.get_cf(column(db, META)?, KEY).map_err(rocks)?;
    // A version that nobody can know stands for bytes that nobody wrote.
    Ok(stored.map(|bytes| CommandVersion(bytes.first().copied().unwrap_or(u8::MAX))))
}

/// Lets the folder say at least this much.
pub(crate) fn raise(db: &DB, batch: &mut WriteBatch, needed: CommandVersion) -> io::Result<()> {
    if read(db)?.is_none_or(|version| version < needed) {
        batch.put_cf(column(db, META)?, KEY, [needed.0]);
    }
    Ok(())
}

/// What an entry needs.
pub(crate) fn needed(entry: &Entry) -> CommandVersion {
    match &entry.payload {
        openraft::EntryPayload::Normal(proposal) => proposal.proposal().command.needs(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => CommandVersion::FIRST,
    }
}

#[cfg(test)]
mod tests {
    use minder_model::RequestId;
    use minder_state::{Command, Expect, Proposal};
    use openraft::{
        EntryPayload,
        storage::{IOFlushed, RaftLogStorage},
        type_config::TypeConfigExt,
    };

    use super::*;
    use crate::{
        Hooks, OpenError, Opened, Store, StoreOptions, TypeConfig, codec::LogIdForm, error::ExitReason, options,
    };

    fn open(folder: &std::path::Path) -> Result<Opened, OpenError> {
        Store::open(&StoreOptions { folder: folder.into() }, |_| Hooks::default())
    }

    async fn append(opened: &mut Opened, index: u64, command: Command) {
        let request = RequestId::new(format!("r{index}")).unwrap();
        let proposal = Proposal { request, time_ms: 0, actor: String::new(), expect: Expect::Anything, command };
        let log_id = LogIdForm { term: 1, node: 1, index }.into();
        let entry = Entry { log_id, payload: EntryPayload::Normal(proposal.into()) };
        let (done, flushed) = TypeConfig::oneshot();
        opened.log.append([entry], IOFlushed::signal(done)).await.unwrap();
        flushed.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_folder_says_what_its_newest_entry_needs() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open(folder.path()).unwrap();
        append(&mut opened, 0, Command::Delete(Vec::new())).await;
        assert_eq!(read(opened.store.database()).unwrap(), Some(CommandVersion::FIRST));
        append(&mut opened, 1, Command::RaiseVersion(CommandVersion::NEWEST)).await;
        append(&mut opened, 2, Command::Delete(Vec::new())).await;
        assert_eq!(read(opened.store.database()).unwrap(), Some(CommandVersion::NEWEST));
        drop(opened);
        let opened = open(folder.path()).unwrap();
        assert_eq!(read(opened.store.database()).unwrap(), Some(CommandVersion::NEWEST));
    }

    #[tokio::test]
    async fn a_folder_that_needs_a_newer_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path()).unwrap();
        let mut batch = WriteBatch::default();
        let newer = CommandVersion(CommandVersion::NEWEST.0 + 1);
        raise(opened.store.database(), &mut batch, newer).unwrap();
        opened.store.database().write_opt(batch, &options::synced()).unwrap();
        drop(opened);
        let Err(error) = open(folder.path()) else { panic!("it opens") };
        assert_eq!(error.exit_reason(), ExitReason::NewerFormat);
        assert!(error.to_string().contains("holds commands of version 3, this program knows those up to 2"), "{error}");
    }
}
