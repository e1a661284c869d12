//! Where the files of instances lie: a bundle per incarnation, one folder of logs per instance.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use minder_model::{Incarnation, InstanceKey, NAME_BYTES_MAX, StartFailure};
use minder_shim::{
    bundle, fail_point,
    launch::Launch,
    record::{Record, Stage},
};
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixStream;

/// Paths below the data folder.
#[derive(Debug, Clone)]
pub struct Folders {
    data: PathBuf,
}

impl Folders {
    /// Folders of this slave.
    pub fn new(data: &Path) -> Self {
        Self { data: data.into() }
    }

    /// The logs of an instance: stable over its incarnations.
    pub fn logs(&self, key: &InstanceKey) -> PathBuf {
        self.data.join("logs").join(folder_name(key))
    }

    /// Everything of one incarnation.
    pub fn bundle(&self, key: &InstanceKey, incarnation: Incarnation) -> Bundle {
        Bundle { path: self.data.join("run").join(folder_name(key)).join(incarnation.to_string()) }
    }

    /// Where shims wait that have no incarnation yet.
    pub fn spares(&self) -> PathBuf {
        self.data.join("spare")
    }

    /// Bytes of the longest path of a bundle there can be.
    pub fn bundle_bytes_max(&self) -> usize {
        self.data.join("run").as_os_str().len() + "/:/".len() + NAME_BYTES_MAX + 2 * "18446744073709551615".len()
    }

    /// Every bundle there is. What bears no instance's name is not ours.
    pub fn bundles(&self) -> Vec<(InstanceKey, Incarnation)> {
        let named = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let run = self.data.join("run");
        named(&run)
            .filter_map(|folder| Some((InstanceKey::parse(folder.to_str()?).ok()?, folder)))
            .flat_map(|(key, folder)| {
                let numbers = named(&run.join(folder)).filter_map(|name| name.to_str()?.parse().ok());
                numbers.map(|number| (key.clone(), Incarnation(number))).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Removes what is left of an instance. What cannot be removed costs only room.
    pub fn forget(&self, key: &InstanceKey) {
        remove_folder(&self.data.join("run").join(folder_name(key)));
        remove_folder(&self.logs(key));
    }
}

/// Removes a folder with everything in it. What cannot be removed costs only room, and is said.
pub fn remove_folder(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "not removed");
    }
}

/// Writes the launch file. The environment is in it, which is nobody else's business.
pub fn write_launch(folder: &Path, launch: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(folder.join(bundle::LAUNCH))?;
    file.write_all(launch)?;
    // Not cut before: some file systems send a file that was emptied to disk as soon as it is closed.
    if file.metadata()?.len() > launch.len() as u64 {
        file.set_len(launch.len() as u64)?;
    }
    Ok(())
}

/// Instance names hold no blanks or slashes; the number is always there, so that no two names meet.
fn folder_name(key: &InstanceKey) -> String {
    format!("{}:{}", key.process, key.index)
}

/// One incarnation's folder.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
}

impl Bundle {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it with its launch file. Nothing here needs a sync: after a power cut there is no process either.
    pub fn create(&self, launch: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        write_launch(&self.path, launch)
    }

    /// Makes it of a folder that has its launch file already. One that is there, and not empty, is left as it is.
    pub fn make_of(&self, folder: &Path) -> io::Result<()> {
        match (fs::rename(folder, &self.path), self.path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent)?;
                fs::rename(folder, &self.path)
            }
            (renamed, _) => renamed,
        }
    }

    /// What a start says that cannot have its bundle.
    pub fn failure_to_start(&self, error: &io::Error) -> StartFailure {
        StartFailure {
            step: "bundle".into(),
            errno: error.raw_os_error().unwrap_or_default(),
            message: format!("cannot prepare {}: {error}", self.path.display()),
        }
    }

    /// Where its small files lie, if its spec has any.
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// The cgroup that its launch names, while the launch file is there.
    pub fn cgroup(&self) -> Option<PathBuf> {
        let launch = Launch::decode(&fs::read(self.path.join(bundle::LAUNCH)).ok()?).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(&launch.cgroup)))
    }

    /// The newest record, if the shim got to write one.
    pub fn record(&self) -> io::Result<Option<Record>> {
        minder_shim::record::read(&self.path.join(bundle::RECORD))
    }

    /// Which of several a failed step of the start was about; empty where the step says it all.
    pub fn failure(&self) -> String {
        fs::read(self.path.join(bundle::FAILURE))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The last it said, as far as its shim left it.
    pub fn output(&self) -> minder_shim::output::Output {
        minder_shim::output::read(&self.path.join(bundle::OUTPUT))
    }

    /// Connects to the shim. The path goes through a descriptor, for a socket's path may be too long otherwise.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let folder = File::open(&self.path)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), bundle::SOCKET)).await
    }

    /// Makes sure that no shim works here now or ever will. `false` while one does.
    pub fn close(&self) -> io::Result<bool> {
        if !self.path.exists() {
            return Ok(true);
        }
        let lock = File::create(self.path.join(bundle::LOCK))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        // A hook that a slave's end interrupted is being ended.
        let hook = File::create(self.path.join(bundle::HOOK_LOCK))?;
        if flock(&hook, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        fail_point!("late-shim-lock-taken");
        // A shim takes the lock before it reads this, so one that comes late finds nothing to start.
        match fs::rename(self.path.join(bundle::LAUNCH), self.path.join(bundle::CLOSED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(true),
        }
    }

    /// Whether nothing was ever started here and, from now on, nothing will be. A power cut leaves this where the ledger
    /// was about to be synced.
    pub fn never_began(&self) -> bool {
        let began =
            || !matches!(self.record(), Ok(None) | Ok(Some(Record { main_pid: 0, stage: Stage::Preparing, .. })));
        !began() && matches!(self.close(), Ok(true)) && !began()
    }

    /// Removes it when the incarnation is over and taken note of.
    pub fn remove(&self) {
        remove_folder(&self.path);
    }
}
