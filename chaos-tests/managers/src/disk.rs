//! The disks under the managers: what a sync makes safe, what a kill leaves and what a power cut takes.
//!
//! The two calls of libc that make files safe stand here in the place of libc's own, and those that end a file. While a
//! simulation runs nothing is synced: it is noted how much of which file is safe. A crash then is an image of the folder:
//! all that the kernel has, or, when power is lost, what is safe and by chance some of what is not. The manager goes on
//! from the image.

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    fs::{self, File},
    io,
    os::{
        fd::FromRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
        },
    },
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use libc::{c_char, c_int};
use minder_sim::Chance;

use crate::manager::MANAGERS_MAX;

/// A slot of the file that says what was promised; it is written in place, everything else only grows.
const MARK: &str = "mark";
const SECTOR: usize = 512;
/// What a finished snapshot's name ends with. It gets that name when it is whole and safe.
const SNAPSHOT: &str = "snapshot";

static SIMULATED: AtomicBool = AtomicBool::new(false);
static LIES: [AtomicU8; MANAGERS_MAX] = [const { AtomicU8::new(0) }; MANAGERS_MAX];
static SNAPSHOTS: [AtomicU64; MANAGERS_MAX] = [const { AtomicU64::new(0) }; MANAGERS_MAX];
static SAFE: Mutex<BTreeMap<(u64, u64), Safe>> = Mutex::new(BTreeMap::new());

/// What of a file is safe.
#[derive(Debug, Clone, Default)]
struct Safe {
    bytes: u64,
    /// The content, of a file that is written in place.
    content: Option<Vec<u8>>,
}

/// From now on syncs are noted and not made, in the whole process.
pub fn begin() {
    SIMULATED.store(true, Ordering::Relaxed);
}

/// How a disk keeps its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// What it says is safe is safe.
    Kept,
    /// The journal of the log is not.
    BrokenForTheLog,
    /// Nothing is.
    Broken,
}

/// Lets the disk of this manager keep its word so from now on.
pub fn word(index: usize, word: Word) {
    LIES[index].store(word as u8, Ordering::Relaxed);
}

/// Snapshots that were made in the folders of this manager so far, its own and those that were sent to it.
pub fn snapshots(index: usize) -> u64 {
    SNAPSHOTS[index].load(Ordering::Relaxed)
}

/// Whose file it is. Managers' folders lie in folders of their names.
fn manager_of(path: &Path) -> Option<usize> {
    let number = |name: &OsStr| name.to_str()?.strip_prefix('m')?.parse::<usize>().ok();
    let number = path.iter().filter_map(number).find(|number| (1..=MANAGERS_MAX).contains(number))?;
    Some(number - 1)
}

/// Whether the sync of this file is a lie.
fn is_lie(path: &Path) -> bool {
    let Some(index) = manager_of(path) else { return false };
    match LIES[index].load(Ordering::Relaxed) {
        word if word == Word::Broken as u8 => true,
        word if word == Word::BrokenForTheLog as u8 => path.extension().is_some_and(|extension| extension == "log"),
        _ => false,
    }
}

fn safe() -> MutexGuard<'static, BTreeMap<(u64, u64), Safe>> {
    SAFE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process is gone; the kernel has what it was given.
    Process,
    /// Power is gone; what was not synced may be.
    Power,
}

/// Makes `to` what is left of the folder `from`; gives the bytes that are lost.
pub fn image(from: &Path, to: &Path, loss: Loss, chance: &mut Chance) -> io::Result<u64> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut lost = 0;
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            lost += image(&path, &target, loss, chance)?;
        } else if !name.to_string_lossy().starts_with("LOG") {
            lost += copy(&path, &target, loss, chance)?;
        }
    }
    Ok(lost)
}

/// Changes a byte of the newest snapshot under this folder, as a medium does that forgets; `false` when there is none.
pub fn damage_snapshot(folder: &Path, chance: &mut Chance) -> io::Result<bool> {
    let mut snapshots = Vec::new();
    for entry in fs::read_dir(folder.join("snapshots"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == SNAPSHOT) {
            snapshots.push(path);
        }
    }
    // Names begin with the index.
    let Some(newest) = snapshots.into_iter().max() else { return Ok(false) };
    let mut bytes = fs::read(&newest)?;
    if bytes.is_empty() {
        return Ok(false);
    }
    let at = chance.below(bytes.len());
    bytes[at] ^= chance.of(1..256) as u8;
    fs::write(&newest, &bytes)?;
    Ok(true)
}

/// Removes a folder that nobody uses any more.
pub fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { remove(&path)? } else { fs::remove_file(path)? }
    }
    fs::remove_dir(folder)
}

fn copy(from: &Path, to: &Path, loss: Loss, chance: &mut Chance) -> io::Result<u64> {
    let metadata = fs::metadata(from)?;
    let key = (metadata.dev(), metadata.ino());
    let mut bytes = fs::read(from)?;
    let had = bytes.len() as u64;
    let Safe { bytes: safe_bytes, content: before } = safe().get(&key).cloned().unwrap_or_default();
    if loss == Loss::Power {
        match &before {
            Some(content) => keep_sectors(&mut bytes, content, chance),
            None => bytes.truncate((safe_bytes + chance.of(0..had.saturating_sub(safe_bytes) + 1)) as usize),
        }
    }
    fs::write(to, &bytes)?;
    // What was read back after a crash is safe; what the kernel only has is as safe as it was.
    let kept = match loss {
        Loss::Power => bytes.len() as u64,
        Loss::Process => safe_bytes.min(bytes.len() as u64),
    };
    let is_mark = from.file_name().is_some_and(|name| name == MARK);
    let content = match loss {
        Loss::Power => is_mark.then(|| bytes.clone()),
        Loss::Process => before,
    };
    let metadata = fs::metadata(to)?;
    safe().insert((metadata.dev(), metadata.ino()), Safe { bytes: kept, content });
    Ok(had - bytes.len() as u64)
}

/// Each sector is the new one or the one that was safe.
fn keep_sectors(bytes: &mut [u8], content: &[u8], chance: &mut Chance) {
    for (sector, before) in bytes.chunks_mut(SECTOR).zip(content.chunks(SECTOR)) {
        if sector.len() == before.len() && chance.percent(50) {
            sector.copy_from_slice(before);
        }
    }
}

/// Notes what is safe now.
fn note(fd: c_int) -> io::Result<()> {
    // Safety: the descriptor is the caller's and stays open through the call; it is never closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let path = fs::read_link(format!("/proc/self/fd/{fd}"))?;
    if is_lie(&path) {
        return Ok(());
    }
    let mut content = None;
    if path.file_name().is_some_and(|name| name == MARK) {
        let mut read = vec![0; metadata.len() as usize];
        file.read_exact_at(&mut read, 0)?;
        content = Some(read);
    }
    safe().insert((metadata.dev(), metadata.ino()), Safe { bytes: metadata.len(), content });
    Ok(())
}

fn sync(fd: c_int, call: libc::c_long) -> c_int {
    if !SIMULATED.load(Ordering::Relaxed) {
        // Safety: any number may be given for a descriptor.
        return unsafe { libc::syscall(call, fd) as c_int };
    }
    match note(fd) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}

/// In the place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// In the place of libc's.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

/// # Safety
/// `path` is a string of C, and lives as long as what is given.
unsafe fn path_of<'a>(path: *const c_char) -> &'a Path {
    // Safety: the caller's promise.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// Whatever is made in the place of this file is not safe because it was.
///
/// # Safety
/// `path` is a string of C.
unsafe fn forget(path: *const c_char) {
    if SIMULATED.load(Ordering::Relaxed) {
        // Safety: the caller's promise.
        let path = unsafe { path_of(path) };
        if let Ok(metadata) = fs::symlink_metadata(path) {
            safe().remove(&(metadata.dev(), metadata.ino()));
        }
    }
}

/// In the place of libc's.
///
/// # Safety
/// As libc's: `path` is a string of C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // Safety: the caller's promise.
    unsafe {
        forget(path);
        libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) as c_int
    }
}

/// In the place of libc's.
///
/// # Safety
/// As libc's: both are strings of C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // Safety: the caller's promise.
    unsafe {
        forget(to);
        let to_path = path_of(to);
        if to_path.extension().is_some_and(|extension| extension == SNAPSHOT)
            && let Some(index) = manager_of(to_path)
        {
            SNAPSHOTS[index].fetch_add(1, Ordering::Relaxed);
        }
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) as c_int
    }
}
