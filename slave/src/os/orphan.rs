//! An incarnation whose shim is gone. Its main process, if it is still the very one of the record, is held by a checked
//! descriptor; how it ends can only be said as far as the record goes.

use std::{io, os::fd::OwnedFd, path::Path};

use minder_shim::{identity, protocol::Request, record::Record, tree};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{io::unix::AsyncFd, sync::mpsc};

/// A main process without its shim.
pub struct Orphan {
    pid: u32,
    process: AsyncFd<OwnedFd>,
}

impl Orphan {
    /// Takes hold of the record's main process, if it lives: opened first, checked then, so that it cannot be another.
    pub fn hold(record: &Record) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(record.main_pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        if record.boot_id != identity::boot_id() {
            return Ok(None);
        }
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !identity::is_alive(record.main_pid, record.main_ticks) {
            return Ok(None);
        }
        // SAFETY: the descriptor is owned by the AsyncFd and so stays open and the same for as long as it is registered.
        let process = unsafe { AsyncFd::register(process) }.map_err(io::Error::from)?;
        Ok(Some(Self { pid: record.main_pid, process }))
    }

    /// Does what is asked until the process has ended.
    pub async fn until_ended(self, requests: &mut mpsc::Receiver<Request>, cgroup: &Path) {
        loop {
            // Both may be dropped at their await: readiness and queue keep what they hold.
            tokio::select! {
                ended = self.process.readable() => {
                    drop(ended);
                    return;
                }
                request = requests.recv() => match request {
                    Some(Request::Signal { signal, .. }) => self.signal(signal),
                    Some(Request::KillTree) => {
                        if !tree::kill_cgroup(cgroup) {
                            tree::signal(self.pid, libc::SIGKILL);
                            self.signal(libc::SIGKILL);
                        }
                    }
                    Some(Request::Hello { .. } | Request::Release) => {}
                    // The slave lets go of this instance; the process stays as it is.
                    None => return,
                },
            }
        }
    }

    /// Kills the process, and nobody else.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            // It may have ended just now, which the next look tells.
            let _ = pidfd_send_signal(self.process.get_ref(), signal);
        }
    }
}
