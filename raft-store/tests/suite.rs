//! openraft's own storage suite on a real folder.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_raft_store::{Hooks, LogStore, Machine, Store, StoreOptions, SyncExecutor, TypeConfig};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

struct Folders(SyncExecutor);

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Folders {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { folder: folder.path().into() };
        let opened = Store::open_with(&options, self.0, |_| Hooks::default()).unwrap();
        Ok((folder, opened.log, opened.machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Folders(SyncExecutor::Thread)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes_without_a_thread() {
    Suite::test_all(Folders(SyncExecutor::Inline)).await.unwrap();
}
