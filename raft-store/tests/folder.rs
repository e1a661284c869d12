//! A data folder over its life: restarts, truncation, purge, snapshots, two users at once, and damage of every kind.
//! Each damage must end in full recovery, refusal or quarantine; opening short is a failure.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;

use std::{fs, os::unix::fs::FileExt, path::Path};

use common::{append, apply, copy, entry, log_id, open, wal};
use minder_model::{ClusterId, ManagerId, ProcessName};
use minder_raft_store::{ExitReason, Identity, OpenError, Opened, Vote, verify};
use openraft::{
    RaftLogReader, RaftSnapshotBuilder, StorageHelper,
    storage::{RaftLogStorage, RaftStateMachine},
};

async fn indexes(opened: &mut Opened) -> Vec<u64> {
    let entries = opened.log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

async fn filled(folder: &Path, upto: u64) -> Opened {
    let mut opened = open(folder).unwrap();
    opened.log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    let entries: Vec<_> = (1..=upto).map(|index| entry(1, index)).collect();
    append(&mut opened, entries.clone()).await.unwrap();
    apply(&mut opened, entries).await;
    opened
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let opened = filled(folder.path(), 20).await;
    let before = opened.store.published();
    drop(opened);
    let mut opened = open(folder.path()).unwrap();
    let after = opened.store.published();
    assert_eq!(after.state.hash(), before.state.hash());
    assert_eq!(after.applied, Some(log_id(1, 20)));
    assert_eq!(indexes(&mut opened).await, (1..=20).collect::<Vec<_>>());
    assert_eq!(opened.log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    assert_eq!(verify_closed(folder.path(), opened).entries, 20);
}

fn verify_closed(folder: &Path, opened: Opened) -> minder_raft_store::Verified {
    drop(opened);
    verify(folder).unwrap()
}

#[tokio::test]
async fn truncation_and_purge_leave_the_chain_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = filled(folder.path(), 10).await;
    opened.log.purge(log_id(1, 4)).await.unwrap();
    opened.log.truncate_after(Some(log_id(1, 7))).await.unwrap();
    append(&mut opened, vec![entry(2, 8), entry(2, 9)]).await.unwrap();
    assert_eq!(indexes(&mut opened).await, [5, 6, 7, 8, 9]);
    // A follower gets what it asks for, or nothing: never what comes behind a gap.
    assert!(opened.log.limited_get_log_entries(3, 10).await.unwrap().is_empty());
    assert_eq!(opened.log.limited_get_log_entries(5, 10).await.unwrap().len(), 5);
    drop(opened);
    let mut opened = open(folder.path()).unwrap();
    assert_eq!(indexes(&mut opened).await, [5, 6, 7, 8, 9]);
    opened.log.truncate_after(None).await.unwrap();
    append(&mut opened, vec![entry(3, 5)]).await.unwrap();
    assert_eq!(indexes(&mut opened).await, [5]);
    assert_eq!(verify_closed(folder.path(), opened).entries, 1);
}

#[tokio::test]
async fn a_truncation_that_was_cut_short_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    // What is applied is committed, and never truncated.
    let mut opened = filled(folder.path(), 5).await;
    append(&mut opened, (6..=10).map(|index| entry(1, index)).collect()).await.unwrap();
    opened.log.truncate_after(Some(log_id(1, 7))).await.unwrap();
    drop(opened);
    assert_eq!(indexes(&mut open(folder.path()).unwrap()).await, (1..=7).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_snapshot_goes_to_another_folder_and_is_the_same_state() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = filled(from.path(), 500).await;
    let built = source.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut target = filled(to.path(), 3).await;
    let mut receiver = target.store.receive_snapshot().unwrap();
    let mut offset = 0;
    let mut piece = [0; 1000];
    loop {
        let read = built.snapshot.read_at(&mut piece, offset).unwrap();
        if read == 0 {
            break;
        }
        receiver.write(&piece[..read]).unwrap();
        offset += read as u64;
    }
    let received = receiver.finish().unwrap();
    target.machine.install_snapshot(&built.meta, received).await.unwrap();
    target.log.purge(log_id(1, 500)).await.unwrap();
    assert_eq!(target.store.published().state.hash(), source.store.published().state.hash());
    append(&mut target, vec![entry(1, 501)]).await.unwrap();
    apply(&mut target, vec![entry(1, 501)]).await;
    drop(target);
    let mut target = open(to.path()).unwrap();
    assert_eq!(target.store.published().applied, Some(log_id(1, 501)));
    assert!(target.store.published().state.process(&ProcessName::new("p500").unwrap()).is_some());
    assert_eq!(indexes(&mut target).await, [501]);
    let current = target.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 500)));
}

#[tokio::test]
async fn damaged_snapshots_are_refused_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = filled(folder.path(), 30).await;
    let built = source.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let whole = fs::read(built.snapshot.path()).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 150) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        for damaged in [flipped, whole[..at].to_vec()] {
            let mut receiver = source.store.receive_snapshot().unwrap();
            receiver.write(&damaged).unwrap();
            assert!(receiver.finish().is_err(), "damage at byte {at} was not noticed");
        }
    }
    let mut longer = whole.clone();
    longer.push(0);
    let mut receiver = source.store.receive_snapshot().unwrap();
    receiver.write(&longer).unwrap();
    assert!(receiver.finish().is_err());
}

#[tokio::test]
async fn a_damaged_snapshot_on_disk_is_set_aside_and_the_one_before_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = filled(folder.path(), 10).await;
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    append(&mut opened, vec![entry(1, 11)]).await.unwrap();
    apply(&mut opened, vec![entry(1, 11)]).await;
    let newest = opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let path = newest.snapshot.path().to_owned();
    drop((opened, newest));
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xaa; 4], 40).unwrap();
    let mut opened = open(folder.path()).unwrap();
    let current = opened.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 10)));
    assert!(path.with_extension("damaged").exists());
}

#[tokio::test]
async fn a_folder_has_one_user_and_one_identity() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path()).unwrap();
    let second = open(folder.path()).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert_eq!(second.exit_reason(), ExitReason::InUse);
    let identity = |id| Identity { cluster: ClusterId::new("c").unwrap(), manager: ManagerId(id) };
    assert_eq!(opened.store.identity().unwrap(), None);
    opened.store.set_identity(&identity(1)).unwrap();
    opened.store.set_identity(&identity(1)).unwrap();
    assert!(opened.store.set_identity(&identity(2)).unwrap_err().to_string().contains("is manager 1 of cluster c"));
    drop(opened);
    assert_eq!(open(folder.path()).unwrap().store.identity().unwrap(), Some(identity(1)));
}

/// A copy of a folder in use, taken as a crash would leave it, changed by `damage`.
async fn damaged(damage: impl Fn(&Path)) -> Result<Opened, OpenError> {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = filled(folder.path(), 50).await;
    copy(folder.path(), crashed.path());
    damage(crashed.path());
    drop(opened);
    open(crashed.path())
}

#[tokio::test]
async fn an_undamaged_crash_recovers_whole() {
    let mut opened = damaged(|_| ()).await.unwrap();
    assert_eq!(indexes(&mut opened).await.len(), 50);
}

#[tokio::test]
async fn a_log_that_opens_shorter_than_promised_is_quarantined() {
    // What has reached the file ends with what was promised last: rows of the state follow with the next sync.
    for (kept_percent, whole) in [(100, true), (99, false), (90, false), (40, false), (5, false), (0, false)] {
        let opened = damaged(|folder| {
            let file = fs::OpenOptions::new().write(true).open(wal(folder)).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length * kept_percent / 100).unwrap();
        })
        .await;
        match opened {
            Ok(mut opened) => {
                assert!(whole, "{kept_percent} % of the log were taken for all of it");
                assert_eq!(indexes(&mut opened).await.len(), 50);
            }
            Err(error) => {
                assert!(!whole, "{error}");
                assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}");
                assert!(error.to_string().contains("must not vote again"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn flipped_bits_in_the_log_never_open_short() {
    for step in 1..60_u64 {
        let opened = damaged(|folder| {
            let file = fs::OpenOptions::new().read(true).write(true).open(wal(folder)).unwrap();
            let at = file.metadata().unwrap().len() * step / 60;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x04], at).unwrap();
        })
        .await;
        match opened {
            Err(error) => assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}"),
            Ok(mut opened) => {
                assert_eq!(indexes(&mut opened).await.len(), 50, "opened short after damage at {step}/60")
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_mark_is_quarantined() {
    for fill in [0x00, 0xa5] {
        let error = damaged(|folder| fs::write(folder.join("mark"), [fill; 4096]).unwrap()).await.err().unwrap();
        assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}");
    }
}

#[tokio::test]
async fn a_purge_that_nothing_covers_is_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path()).unwrap();
    append(&mut opened, (1..=9).map(|index| entry(1, index)).collect()).await.unwrap();
    opened.log.purge(log_id(1, 5)).await.unwrap();
    drop(opened);
    let error = open(folder.path()).err().unwrap();
    assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}");
    assert!(error.to_string().contains("purged up to index 5"), "{error}");
}

/// The log begins behind the older snapshot then, and whoever is further back could never be brought up again.
#[tokio::test]
async fn a_damaged_snapshot_has_another_one_written_in_its_place() {
    for damaged in 1..=2 {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = filled(folder.path(), 10).await;
        let mut paths = Vec::new();
        for upto in [20, 30] {
            let built = opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
            paths.insert(0, built.snapshot.path().to_owned());
            let more: Vec<_> = (upto - 9..=upto).map(|index| entry(1, index)).collect();
            append(&mut opened, more.clone()).await.unwrap();
            apply(&mut opened, more).await;
        }
        opened.log.purge(log_id(1, 15)).await.unwrap();
        drop(opened);
        for path in &paths[..damaged] {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let mut opened = open(folder.path()).unwrap();
        let current = opened.machine.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta.last_log_id, Some(log_id(1, 30)), "{damaged} damaged");
        assert_eq!(indexes(&mut opened).await, (16..=30).collect::<Vec<_>>());
    }
}

/// A crash between the installation of a snapshot and the purge of the log before it, and damage to that snapshot: the log is
/// purged up to the state when consensus starts, and the snapshot from before, which does not lead there, ended the manager.
#[tokio::test]
async fn a_damaged_snapshot_that_was_just_installed_has_another_one_written_in_its_place() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = filled(from.path(), 40).await;
    let built = source.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut target = filled(to.path(), 3).await;
    target.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut receiver = target.store.receive_snapshot().unwrap();
    receiver.write(&fs::read(built.snapshot.path()).unwrap()).unwrap();
    let received = receiver.finish().unwrap();
    let path = received.path().to_owned();
    target.machine.install_snapshot(&built.meta, received).await.unwrap();
    drop(target);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut opened = open(to.path()).unwrap();
    assert_eq!(opened.store.published().applied, Some(log_id(1, 40)));
    let current = opened.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 40)));
}

/// A snapshot came in whose end the log contradicts: with an entry of an older term at the same index, with such entries
/// further on, or by ending before it. Power is lost before it is installed, and before consensus removes those entries.
#[tokio::test]
async fn a_snapshot_that_came_in_is_installed_by_the_next_start_whatever_the_log_says() {
    for log_ends in [30, 40, 50] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut source = open(from.path()).unwrap();
        let entries: Vec<_> = (1..=40).map(|index| entry(if index < 20 { 1 } else { 2 }, index)).collect();
        append(&mut source, entries.clone()).await.unwrap();
        apply(&mut source, entries).await;
        let built = source.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        let mut target = filled(to.path(), 10).await;
        append(&mut target, (11..=log_ends).map(|index| entry(1, index)).collect()).await.unwrap();
        target.log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
        let mut receiver = target.store.receive_snapshot().unwrap();
        receiver.write(&fs::read(built.snapshot.path()).unwrap()).unwrap();
        drop(receiver.finish().unwrap());
        drop(target);

        let mut opened = open(to.path()).unwrap();
        let Opened { log, machine, .. } = &mut opened;
        StorageHelper::new(log, machine).with_id(1).get_initial_state().await.unwrap();
        assert_eq!(opened.store.published().applied, Some(log_id(2, 40)), "a log up to {log_ends}");
        assert_eq!(indexes(&mut opened).await, [0; 0], "a log up to {log_ends}");
        assert_eq!(opened.store.published().state.hash(), source.store.published().state.hash());
        append(&mut opened, vec![entry(2, 41)]).await.unwrap();
        drop(opened);
        assert_eq!(indexes(&mut open(to.path()).unwrap()).await, [41], "a log up to {log_ends}");
        assert_eq!(verify(to.path()).unwrap().entries, 1);
    }
}

/// A manager that took in a snapshot has promised what is in it, though it never held those entries.
#[tokio::test]
async fn a_lost_snapshot_installation_is_quarantined() {
    let (from, to, crashed) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = filled(from.path(), 40).await;
    let built = source.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut target = filled(to.path(), 3).await;
    let before = fs::metadata(wal(to.path())).unwrap().len();
    let mut receiver = target.store.receive_snapshot().unwrap();
    receiver.write(&fs::read(built.snapshot.path()).unwrap()).unwrap();
    target.machine.install_snapshot(&built.meta, receiver.finish().unwrap()).await.unwrap();
    target.log.purge(log_id(1, 40)).await.unwrap();
    copy(to.path(), crashed.path());
    drop(target);
    assert_eq!(open(to.path()).unwrap().store.published().applied, Some(log_id(1, 40)));
    fs::OpenOptions::new().write(true).open(wal(crashed.path())).unwrap().set_len(before).unwrap();
    let error = open(crashed.path()).err().unwrap();
    assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}");
    assert!(error.to_string().contains("entries up to index 40"), "{error}");
}

#[tokio::test]
async fn a_missing_or_foreign_mark_is_quarantined() {
    let error = damaged(|folder| fs::remove_file(folder.join("mark")).unwrap()).await.err().unwrap();
    assert_eq!(error.exit_reason(), ExitReason::Quarantine);
    let error = damaged(|folder| fs::remove_dir_all(folder.join("db")).unwrap()).await.err().unwrap();
    assert_eq!(error.exit_reason(), ExitReason::Quarantine, "{error}");
}
