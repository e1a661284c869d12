//! openraft's own storage suite on a real folder.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_raft_store::{Hooks, LogStore, Machine, Store, StoreOptions, TypeConfig};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

struct Folders;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Folders {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { folder: folder.path().into() };
        let opened = Store::open(&options, |_| Hooks::default()).unwrap();
        Ok((folder, opened.log, opened.machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Folders).await.unwrap();
}
