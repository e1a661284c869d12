//! New folders from old state: from a backup, from the only survivor, or emptied. Nothing that was there is lost, and
//! whatever moment a crash picks, the folder opens as one thing or the other or says what to do.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;

use std::{fs, path::Path};

use common::{append, apply, copy, entry, log_id, open};
use minder_model::{ClusterId, CommandVersion, ManagerId, ProcessName, RequestId, Revision};
use minder_raft_store::{
    Entry, Identity, ManagerNode, OpenError, Opened, RebuildError, Survivor, Vote, finish_interrupted, restore,
    set_aside, verify,
};
use minder_state::{BackupHeader, Command, Expect, Proposal, backup_pieces};
use openraft::{
    EntryPayload, RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftStateMachine},
};

const TERM: u64 = 4;

fn cluster(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

fn named() -> Entry {
    let proposal = Proposal {
        request: RequestId::new("create").unwrap(),
        time_ms: 1,
        actor: "test".into(),
        expect: Expect::Anything,
        command: Command::CreateCluster(cluster("first"), CommandVersion::FIRST),
    };
    Entry { log_id: log_id(TERM, 1), payload: EntryPayload::Normal(proposal.into()) }
}

/// A manager of cluster `first` that has applied up to 10 and holds entries up to `last`.
async fn manager(folder: &Path, last: u64) -> Opened {
    let mut opened = open(folder).unwrap();
    opened.store.set_identity(&Identity { cluster: cluster("first"), manager: ManagerId(3) }).unwrap();
    opened.log.save_vote(&Vote::new_committed(TERM, 1)).await.unwrap();
    let entries: Vec<_> = std::iter::once(named()).chain((2..=last).map(|index| entry(TERM, index))).collect();
    append(&mut opened, entries.clone()).await.unwrap();
    apply(&mut opened, entries[..10].to_vec()).await;
    opened
}

fn has(opened: &Opened, process: &str) -> bool {
    opened.store.published().state.process(&ProcessName::new(process).unwrap()).is_some()
}

/// A rebuilt folder is whole, begins above everything before, and is nobody's.
async fn check_beginning(folder: &Path, id: &str) -> Opened {
    assert_eq!(verify(folder).unwrap().entries, 0);
    let mut opened = open(folder).unwrap();
    let published = opened.store.published();
    let record = published.state.cluster().unwrap().clone();
    let from = record.rebuilt.unwrap();
    assert_eq!((record.id, from.predecessor), (cluster(id), cluster("first")));
    assert_eq!(published.revision(), from.since);
    assert_eq!(opened.store.identity().unwrap(), None);
    let vote = opened.log.read_vote().await.unwrap().unwrap();
    assert!(vote.leader_id.term > TERM && !vote.committed);
    assert_eq!(opened.log.get_log_state().await.unwrap().last_log_id.unwrap().index, from.since.0);
    opened
}

fn save_backup(opened: &Opened, file: &Path) {
    let published = opened.store.published();
    let header = BackupHeader::of(&published.state, published.revision(), TERM, "0.0.0", 1).unwrap();
    fs::write(file, backup_pieces(&header, &published.state).flatten().collect::<Vec<u8>>()).unwrap();
}

#[tokio::test]
async fn a_backup_becomes_another_cluster_in_an_empty_folder() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = manager(from.path(), 10).await;
    let file = from.path().join("backup");
    save_backup(&opened, &file);
    let folder = to.path().join("new");
    let (header, rebuilt) = restore(&file, &folder, cluster("second")).await.unwrap();
    assert_eq!((header.revision, rebuilt.revision), (Revision(10), Revision(10)));
    assert_eq!(rebuilt.set_aside, None);
    let mut restored = check_beginning(&folder, "second").await;
    assert!(has(&restored, "p10"));
    // It takes managers and goes on from there.
    let managers = [(1, ManagerNode { peer_address: "a:1".into(), client_address: "a:2".into() })].into();
    restored.machine.set_managers(&managers).await.unwrap();
    let index = restored.store.published().applied.unwrap().index;
    let next = entry(TERM + 2_000_000, index + 1);
    append(&mut restored, vec![next.clone()]).await.unwrap();
    apply(&mut restored, vec![next]).await;
    drop(restored);
    let again = open(&folder).unwrap();
    assert_eq!(again.store.published().revision(), Revision(index + 1));
    assert_eq!(again.store.published().membership.membership().nodes().count(), 1);
    drop(again);
    let refused = restore(&file, &folder, cluster("third")).await.unwrap_err();
    assert!(matches!(refused, RebuildError::NotEmpty { .. }), "{refused}");
}

#[tokio::test]
async fn a_damaged_backup_leaves_the_folder_as_it_was() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = manager(from.path(), 10).await;
    let file = from.path().join("backup");
    save_backup(&opened, &file);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let refused = restore(&file, to.path(), cluster("second")).await.unwrap_err();
    assert!(matches!(refused, RebuildError::Backup { .. }), "{refused}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_only_survivor_keeps_every_entry_it_has() {
    let folder = tempfile::tempdir().unwrap();
    drop(manager(folder.path(), 15).await);
    let survivor = Survivor::read(folder.path()).await.unwrap();
    assert_eq!((survivor.applied, survivor.last), (Revision(10), Revision(15)));
    assert_eq!(survivor.identity.manager, ManagerId(3));
    let rebuilt = survivor.recover(folder.path(), cluster("second")).await.unwrap();
    assert!(has(&check_beginning(folder.path(), "second").await, "p15"));
    // What was there is there as it was: uncommitted entries are not applied in it.
    let before = open(&rebuilt.set_aside.unwrap()).unwrap();
    assert_eq!(before.store.published().revision(), Revision(10));
}

/// A snapshot that came in and was not installed goes further than everything else that is left.
#[tokio::test]
async fn the_only_survivor_keeps_the_snapshot_that_came_in_last() {
    let (from, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut further = manager(from.path(), 10).await;
    let more: Vec<_> = (11..=20).map(|index| entry(TERM, index)).collect();
    append(&mut further, more.clone()).await.unwrap();
    apply(&mut further, more).await;
    let built = further.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let survivor = manager(folder.path(), 12).await;
    let mut receiver = survivor.store.receive_snapshot().unwrap();
    receiver.write(&fs::read(built.snapshot.path()).unwrap()).unwrap();
    drop((receiver.finish().unwrap(), survivor));
    let survivor = Survivor::read(folder.path()).await.unwrap();
    assert_eq!((survivor.applied, survivor.last), (Revision(20), Revision(20)));
    survivor.recover(folder.path(), cluster("second")).await.unwrap();
    assert!(has(&check_beginning(folder.path(), "second").await, "p20"));
}

#[tokio::test]
async fn a_recovery_that_was_cut_short_is_finished() {
    let content = ["db", "mark", "snapshots"];
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(manager(old.path(), 12).await);
    copy(old.path(), new.path());
    let survivor = Survivor::read(new.path()).await.unwrap();
    survivor.recover(new.path(), cluster("second")).await.unwrap();
    // Renames happen one after the other: so many of the old ones are done, then so many of the new ones.
    for (old_gone, new_come) in [(0, 0), (1, 0), (3, 0), (3, 1), (3, 2), (3, 3)] {
        let crashed = tempfile::tempdir().unwrap();
        let (aside, building) = (crashed.path().join("before-recovery-1"), crashed.path().join("rebuilding"));
        fs::create_dir(&building).unwrap();
        fs::create_dir(&aside).unwrap();
        fs::write(building.join("whole"), "").unwrap();
        let place = |from: &Path, name: &str, to: &Path| {
            let (from, to) = (from.join(name), to.join(name));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(from, to).unwrap();
            }
        };
        for (at, name) in content.into_iter().enumerate() {
            place(old.path(), name, if at < old_gone { &aside } else { crashed.path() });
            place(new.path(), name, if at < new_come { crashed.path() } else { &building });
        }
        let refused = open(crashed.path()).err().unwrap();
        assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
        let finished = finish_interrupted(crashed.path()).unwrap().unwrap();
        assert_eq!(finished.cluster, cluster("second"), "after {old_gone} and {new_come} renames");
        assert!(has(&check_beginning(crashed.path(), "second").await, "p12"));
        assert!(finish_interrupted(crashed.path()).unwrap().is_none());
    }
}

#[tokio::test]
async fn a_folder_that_is_set_aside_is_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    drop(manager(folder.path(), 10).await);
    let aside = set_aside(folder.path()).unwrap();
    assert!(open(folder.path()).unwrap().store.identity().unwrap().is_none());
    assert_eq!(verify(&aside).unwrap().entries, 10);
    set_aside(folder.path()).unwrap();
    assert!(matches!(set_aside(folder.path()), Err(RebuildError::Empty { .. })));
}
