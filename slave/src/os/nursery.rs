//! The nursery of this slave: the shim program, loaded and waiting, of which every shim is a fork. It is started with the
//! slave and ends with it; one that dies is started anew when it is needed.
//!
//! One shim is born ahead of need, in a folder that nobody's incarnation has yet: it is as ready as it can be without
//! knowing what to run. The next start gives that folder its name and has its shim.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use minder_model::StartFailure;
use minder_shim::{
    fail_point,
    protocol::{LAUNCH_IS_THERE, NURSERY},
};
use nix::sys::{
    socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair,
        sockopt::SendTimeout,
    },
    time::{TimeVal, TimeValLike},
};

use super::bundle::{Bundle, Folders, remove_folder, write_launch};

/// A nursery takes a hundred requests within this, and its socket holds more than that. One that does not is replaced.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// The next shim is born so long after a start: whoever has just started comes first, and of a thousand starts each need
/// not wait for the one after it.
const SPARE_DELAY: Duration = Duration::from_millis(100);

/// Where shims come from.
pub struct Nursery {
    shim: Arc<Path>,
    /// Bytes of the longest path of a bundle: a shim shows it in the place of its words.
    room: usize,
    working: Mutex<Option<Working>>,
    spares: Mutex<Spares>,
}

struct Working {
    process: Child,
    requests: OwnedFd,
}

/// The shim that is born ahead.
struct Spares {
    folder: PathBuf,
    /// So many were born; each has a folder of its own.
    born: u64,
    coming: bool,
    ready: Option<Spare>,
}

/// A shim that waits for something to run. Dropped, it ends.
struct Spare {
    folder: SpareFolder,
    connection: UnixStream,
}

/// Its folder, which goes unless it has got another name.
struct SpareFolder(PathBuf);

impl Nursery {
    /// A nursery of this program, loading, for bundles below these folders. One that cannot be started now is tried again
    /// when it is needed.
    pub fn begin(shim: Arc<Path>, folders: &Folders) -> Self {
        let room = folders.bundle_bytes_max();
        let working = Working::begin(&shim, room)
            .inspect_err(|error| tracing::error!(shim = %shim.display(), %error, "cannot be started"))
            .ok();
        // Those of the slave before, whose shims have ended with it.
        let folder = folders.spares();
        remove_folder(&folder);
        let spares = Spares { folder, born: 0, coming: false, ready: None };
        Self { shim, room, working: Mutex::new(working), spares: Mutex::new(spares) }
    }

    /// A bundle with this launch file, a shim for it, and the connection to that. The shim gets everything ready and waits
    /// for a greeting before it starts anything; when the connection ends instead, so does the shim.
    pub fn birth_with(&self, bundle: &Bundle, launch: &[u8]) -> Result<UnixStream, StartFailure> {
        let spare = lock(&self.spares).ready.take();
        match spare.map(|spare| spare.become_shim_of(bundle, launch)) {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(error)) => tracing::debug!(%error, "the shim that was born ahead is of no use"),
            None => {}
        }
        bundle.create(launch).map_err(|error| bundle.failure_to_start(&error))?;
        fail_point!("bundle-written");
        self.birth(bundle.path())
    }

    /// A shim for a bundle that has its launch file, and the connection to it, as [`Self::birth_with`].
    pub fn birth(&self, bundle: &Path) -> Result<UnixStream, StartFailure> {
        let born = self.ask(bundle).and_then(|mut connection| {
            connection.write_all(&[LAUNCH_IS_THERE])?;
            Ok(connection)
        });
        born.map_err(|error| StartFailure {
            step: "shim".into(),
            errno: error.raw_os_error().unwrap_or_default(),
            message: format!("cannot start {}: {error}", self.shim.display()),
        })
    }

    /// Has a shim born for the next start, unless there is one. Without it, that start takes longer and nothing else.
    pub fn think_ahead(self: &Arc<Self>) {
        {
            let mut spares = lock(&self.spares);
            if spares.coming || spares.ready.is_some() {
                return;
            }
            spares.coming = true;
        }
        let nursery = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SPARE_DELAY).await;
            let spare = nursery.spare();
            let mut spares = lock(&nursery.spares);
            spares.coming = false;
            spares.ready = spare.inspect_err(|error| tracing::debug!(%error, "no shim is born ahead")).ok();
        });
    }

    fn spare(&self) -> io::Result<Spare> {
        let folder = {
            let mut spares = lock(&self.spares);
            spares.born += 1;
            spares.folder.join(spares.born.to_string())
        };
        fs::create_dir_all(&folder)?;
        let folder = SpareFolder(folder);
        // Making a file takes longer than writing it.
        write_launch(&folder.0, b"")?;
        let connection = self.ask(&folder.0)?;
        Ok(Spare { folder, connection })
    }

    /// Ends one that does not answer; the next birth starts another.
    pub fn replace(&self) {
        lock(&self.spares).ready = None;
        if let Some(working) = lock(&self.working).take() {
            working.end();
        }
    }

    fn ask(&self, bundle: &Path) -> io::Result<UnixStream> {
        let mut working = lock(&self.working);
        if let Some(old) = working.take() {
            match old.ask(bundle) {
                Ok(connection) => {
                    *working = Some(old);
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "the nursery of shims does not work any more; starting another");
                    old.end();
                }
            }
        }
        working.insert(Working::begin(&self.shim, self.room)?).ask(bundle)
    }
}

impl Spare {
    /// Gives its folder the name of a bundle. The launch file comes first and then the word for it: until the greeting its
    /// shim starts nothing, and by then the folder has its name or the connection has ended.
    fn become_shim_of(self, bundle: &Bundle, launch: &[u8]) -> io::Result<UnixStream> {
        let Self { folder, mut connection } = self;
        write_launch(&folder.0, launch)?;
        fail_point!("spare-launch-written");
        connection.write_all(&[LAUNCH_IS_THERE])?;
        bundle.make_of(&folder.0)?;
        fail_point!("spare-named");
        Ok(connection)
    }
}

impl Drop for SpareFolder {
    fn drop(&mut self) {
        remove_folder(&self.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Working {
    fn begin(shim: &Path, room: usize) -> io::Result<Self> {
        // Messages, so that a request is whole and carries its own connection.
        let (requests, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&requests, SendTimeout, &TimeVal::milliseconds(SEND_WAIT.as_millis() as i64))?;
        let process = Command::new(shim)
            .args([NURSERY, &" ".repeat(room)])
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .envs(fail_point::handed_on())
            .spawn()?;
        Ok(Self { process, requests })
    }

    /// A shim for a folder, which may get another name before the shim is there.
    fn ask(&self, folder: &Path) -> io::Result<UnixStream> {
        let (connection, theirs) = UnixStream::pair()?;
        let path = [IoSlice::new(folder.as_os_str().as_bytes())];
        let folder = File::open(folder)?;
        let theirs = [theirs.as_raw_fd(), folder.as_raw_fd()];
        let connected = [ControlMessage::ScmRights(&theirs)];
        sendmsg::<()>(self.requests.as_raw_fd(), &path, &connected, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(connection)
    }

    fn end(mut self) {
        // It has ended already, or does now: nothing holds up a KILL of a process that only waits.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
