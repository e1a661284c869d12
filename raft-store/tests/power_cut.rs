//! Power cuts: what was acknowledged is there afterwards, whatever the page cache held.
//!
//! `kill -9` cannot show a missing fsync, so the writer runs on a loop-mounted ext4 that is shut down under it: SIGSTOP,
//! the file system's shutdown ioctl without log flush, SIGKILL, unmount, mount, open, compare with what the writer said
//! over a pipe. Where there is no root or loop device the test says so and cuts a copy of the folder's WAL after the
//! last completed sync instead.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{append, apply, copy, entry, open, wal};
use minder_raft_store::{LogId, OpenError, Opened, Vote};
use openraft::{
    RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftStateMachine},
};

/// Set in the process that writes: the folder to write to.
const WRITER_FOLDER: &str = "MINDER_TEST_WRITER_FOLDER";
/// `EXT4_IOC_SHUTDOWN`, _IOR('X', 125, u32), and its modes "flush the journal" and "do not" (linux/fs/ext4/ext4.h). The one
/// leaves names without content behind, the other not even the names.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
const MODES: [u32; 2] = [2, 1];
/// After so many cuts a folder begins anew, so that the last ones are as quick as the first.
const CUTS_PER_FOLDER: u64 = 40;
/// Entries that a purge leaves.
const KEPT: u64 = 25;

/// Not a test of its own: the process that the others start. Writes and says each acknowledged index until it is ended.
#[test]
fn writer_process() {
    let Ok(folder) = std::env::var(WRITER_FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(write_for_ever(Path::new(&folder)));
}

async fn write_for_ever(folder: &Path) {
    let mut opened = open(folder).unwrap();
    let state = opened.log.get_log_state().await.unwrap();
    let mut index = state.last_log_id.map_or(0, |last| last.index);
    let mut term = opened.log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
    // What openraft does at its start: apply what the log has and the state has not.
    let applied = opened.store.published().revision().0;
    let behind = opened.log.try_get_log_entries(applied + 1..).await.unwrap();
    apply(&mut opened, behind).await;
    let mut out = std::io::stdout();
    loop {
        term += 1;
        opened.log.save_vote(&Vote::new_committed(term, 1)).await.unwrap();
        writeln!(out, "\nvote {term}").unwrap();
        for _ in 0..20 {
            let batch: Vec<_> = (1..=3).map(|more| entry(term, index + more)).collect();
            append(&mut opened, batch.clone()).await.unwrap();
            index += 3;
            writeln!(out, "entry {index}").unwrap();
            out.flush().unwrap();
            apply(&mut opened, batch).await;
        }
        opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
        let upto = log_id_at(&mut opened, index - KEPT).await;
        opened.log.purge(upto).await.unwrap();
    }
}

async fn log_id_at(opened: &mut Opened, index: u64) -> LogId {
    opened.log.try_get_log_entries(index..=index).await.unwrap()[0].log_id
}

/// What the writer said last.
#[derive(Default, Debug)]
struct Said {
    vote: u64,
    entry: u64,
}

struct Writer {
    child: Child,
    said: std::thread::JoinHandle<Said>,
}

fn start_writer(folder: &Path) -> Writer {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--nocapture", "--test-threads=1"])
        .env(WRITER_FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = std::thread::spawn(move || {
        let mut said = Said::default();
        for line in lines.map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("vote", number)) => said.vote = number.parse().unwrap_or(said.vote),
                Some(("entry", number)) => said.entry = number.parse().unwrap_or(said.entry),
                Some(_) | None => {}
            }
        }
        said
    });
    Writer { child, said }
}

/// A file with an ext4 in it, mounted; gone when dropped.
struct LoopDisk {
    folder: tempfile::TempDir,
}

impl LoopDisk {
    fn mount_point(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// `None`, with the reason on standard error, where this cannot be had.
    fn new() -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        let image = disk.folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(192 << 20).unwrap();
        fs::create_dir(disk.mount_point()).unwrap();
        if !see_mounts_alone() {
            eprintln!("power cut: no right to a mount namespace; falling back to a cut copy");
            return None;
        }
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("power cut: mkfs.ext4 is not here or fails; falling back to a cut copy");
            return None;
        }
        if !disk.mount() {
            eprintln!("power cut: no loop device or no right to mount; falling back to a cut copy");
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> bool {
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .arg(self.folder.path().join("image"))
            .arg(self.mount_point())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success())
    }

    fn shut_down(&self, mode: u32) {
        let root = fs::File::open(self.mount_point()).unwrap();
        // SAFETY: the ioctl reads one u32 behind the pointer, which lives until it returns.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const mode) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    fn unmount(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let unmounted = Command::new("umount").arg(self.mount_point()).stderr(Stdio::null()).status().unwrap();
            if unmounted.success() {
                return;
            }
            assert!(Instant::now() < deadline, "cannot unmount {}", self.mount_point().display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount_point()).stderr(Stdio::null()).status();
    }
}

/// Gives this thread, and all that it starts from now on, mounts of its own. Whoever makes a namespace elsewhere on this
/// machine meanwhile would otherwise get a copy of the mounted disk, and with that keep alive what has lost its power.
fn see_mounts_alone() -> bool {
    // SAFETY: no memory but strings that live for ever.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill takes no memory; the child has not been waited for, so its pid is its own.
    let sent = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    assert_eq!(sent, 0);
}

/// Waits until no thread of the process runs: only then has it certainly said nothing after the cut.
fn stop(child: &Child) {
    signal(child, libc::SIGSTOP);
    let deadline = Instant::now() + Duration::from_secs(10);
    let stopped = |task: &Path| {
        let Ok(stat) = fs::read_to_string(task.join("stat")) else { return true };
        // After the name in brackets, which may hold anything, comes the state.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = format!("/proc/{}/task", child.id());
    while !fs::read_dir(&tasks).unwrap().all(|task| stopped(&task.unwrap().path())) {
        assert!(Instant::now() < deadline, "the writer does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn random_pause(seed: u64) -> Duration {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    Duration::from_millis(30 + mixed % 200)
}

/// Everything that was said is there, and the state is no further than the log.
fn check(folder: &Path, said: &Said, cut: u64) {
    let opened = match open(folder) {
        Ok(opened) => opened,
        Err(error @ OpenError::Quarantine { .. }) => panic!("cut {cut}: a power cut alone is no damage: {error}"),
        Err(error) => panic!("cut {cut}: {error}: {:?}", std::error::Error::source(&error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut opened = opened;
        let last = opened.log.get_log_state().await.unwrap().last_log_id.map_or(0, |last| last.index);
        let vote = opened.log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
        assert!(last >= said.entry, "cut {cut}: entries up to {} were acknowledged, {last} are there", said.entry);
        assert!(vote >= said.vote, "cut {cut}: vote {} was acknowledged, {vote} is there", said.vote);
        let applied = opened.store.published().revision().0;
        assert!(applied <= last, "cut {cut}: the state is at {applied}, the log ends at {last}");
        assert_eq!(opened.store.published().state.processes().count() as u64, applied);
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let cuts: u64 = std::env::var("MINDER_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let Some(disk) = LoopDisk::new() else {
        return cut_copies(cuts);
    };
    // Kept from rotting where the real thing works.
    cut_copies(2);
    let seed: u64 = std::env::var("MINDER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut said = Said::default();
    let (mut entries, mut votes) = (0, 0);
    for cut in 0..cuts {
        let folder = disk.mount_point().join("data");
        if cut % CUTS_PER_FOLDER == 0 {
            (entries, votes) = (entries + said.entry, votes + said.vote);
            said = Said::default();
            let _ = fs::remove_dir_all(&folder);
        }
        let writer = start_writer(&folder);
        std::thread::sleep(random_pause(seed.wrapping_mul(1_000_003).wrapping_add(cut)));
        let mut child = writer.child;
        stop(&child);
        disk.shut_down(MODES[cut as usize % 2]);
        signal(&child, libc::SIGKILL);
        child.wait().unwrap();
        let heard = writer.said.join().unwrap();
        said = Said { vote: said.vote.max(heard.vote), entry: said.entry.max(heard.entry) };
        disk.unmount();
        assert!(disk.mount());
        check(&folder, &said, cut);
    }
    (entries, votes) = (entries + said.entry, votes + said.vote);
    assert!(entries > 0, "the writer never got to write");
    println!(
        "power cuts: {cuts} of an ext4 (seed {seed}), {entries} entries and {votes} votes acknowledged; {cuts} recovered, \
         0 refused, 0 quarantined, 0 opened short"
    );
}

/// Without a disk to cut: copies of a folder whose WAL ends where the last sync left it, or anywhere after.
fn cut_copies(cuts: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for cut in 0..cuts {
        let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (said, synced) = runtime.block_on(write_and_measure(folder.path(), cut));
        copy(folder.path(), copied.path());
        let wal = wal(copied.path());
        let file = fs::OpenOptions::new().write(true).open(&wal).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(synced + random_pause(cut).as_millis() as u64 % (length - synced + 1)).unwrap();
        check(copied.path(), &said, cut);
    }
    eprintln!("power cut: {cuts} cut copies, nothing acknowledged was lost");
}

async fn write_and_measure(folder: &Path, seed: u64) -> (Said, u64) {
    let mut opened = open(folder).unwrap();
    opened.log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    let acknowledged = 5 + seed % 20;
    for index in 1..=acknowledged {
        append(&mut opened, vec![entry(1, index)]).await.unwrap();
    }
    let synced = fs::metadata(wal(folder)).unwrap().len();
    apply(&mut opened, (1..=acknowledged).map(|index| entry(1, index)).collect()).await;
    (Said { vote: 1, entry: acknowledged }, synced)
}
