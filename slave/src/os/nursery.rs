//! The nursery of this slave: the shim program, loaded and waiting, of which every shim is a fork. It is started with the
//! slave and ends with it; one that dies is started anew when it is needed.

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use minder_model::StartFailure;
use minder_shim::fail_point;
use nix::sys::{
    socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair,
        sockopt::SendTimeout,
    },
    time::{TimeVal, TimeValLike},
};

/// A nursery takes a hundred requests within this, and its socket holds more than that. One that does not is replaced.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// Where shims come from.
pub struct Nursery {
    shim: Arc<Path>,
    /// Bytes of the longest path of a bundle: a shim shows it in the place of its words.
    room: usize,
    working: Mutex<Option<Working>>,
}

struct Working {
    process: Child,
    requests: OwnedFd,
}

impl Nursery {
    /// A nursery of this program, loading. One that cannot be started now is tried again when it is needed.
    pub fn begin(shim: Arc<Path>, room: usize) -> Self {
        let working = Working::begin(&shim, room)
            .inspect_err(|error| tracing::error!(shim = %shim.display(), %error, "cannot be started"))
            .ok();
        Self { shim, room, working: Mutex::new(working) }
    }

    /// A shim for a bundle, and the connection to it. It gets everything ready and waits for a greeting before it starts
    /// anything; when the connection ends instead, so does the shim.
    pub fn birth(&self, bundle: &Path) -> Result<UnixStream, StartFailure> {
        self.ask(bundle).map_err(|error| StartFailure {
            step: "shim".into(),
            errno: error.raw_os_error().unwrap_or_default(),
            message: format!("cannot start {}: {error}", self.shim.display()),
        })
    }

    /// Ends one that does not answer; the next birth starts another.
    pub fn replace(&self) {
        if let Some(working) = self.working.lock().unwrap_or_else(PoisonError::into_inner).take() {
            working.end();
        }
    }

    fn ask(&self, bundle: &Path) -> io::Result<UnixStream> {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
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

impl Working {
    fn begin(shim: &Path, room: usize) -> io::Result<Self> {
        // Messages, so that a request is whole and carries its own connection.
        let (requests, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&requests, SendTimeout, &TimeVal::milliseconds(SEND_WAIT.as_millis() as i64))?;
        let process = Command::new(shim)
            .args(["--nursery", &" ".repeat(room)])
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .envs(fail_point::handed_on())
            .spawn()?;
        Ok(Self { process, requests })
    }

    fn ask(&self, bundle: &Path) -> io::Result<UnixStream> {
        let (connection, theirs) = UnixStream::pair()?;
        let path = [IoSlice::new(bundle.as_os_str().as_bytes())];
        let theirs = [theirs.as_raw_fd()];
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
