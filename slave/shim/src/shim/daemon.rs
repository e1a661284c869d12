//! Which process a daemon is: the one that its pid file names, or the one that stayed.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Instant};

use minder_shim::{record::Step, tree};

use super::Shim;

impl Shim {
    /// The process that a daemon has written into its pid file in place of itself, as nginx does when it changes to a new
    /// program while it serves. What was its child is one here now that it has ended.
    pub(super) fn heir(&self) -> Option<u32> {
        let daemon = self.launch.daemon.as_ref().filter(|_| self.launcher_ended && !self.killing)?;
        pid_in(&daemon.pid_file).filter(|pid| tree::is_child(self.record.shim_pid, *pid))
    }

    /// After a daemon's launcher has ended well: the pid file's process, or the oldest one that stayed.
    pub(super) fn look_for_daemon(&mut self) {
        let (Some(deadline), Some(daemon)) = (self.daemon_deadline, &self.launch.daemon) else { return };
        let overdue = Instant::now() >= deadline;
        if !self.launcher_ended {
            if overdue {
                self.give_up(Step::Daemon, libc::ETIMEDOUT);
                self.changed = true;
            }
            return;
        }
        let by_file = pid_in(&daemon.pid_file).filter(|pid| tree::is_child(self.record.shim_pid, *pid));
        let found = if daemon.pid_file.is_empty() || overdue {
            by_file.or_else(|| tree::oldest_child(self.record.shim_pid))
        } else {
            by_file
        };
        match found {
            Some(pid) => {
                self.take_main(pid);
                self.daemon_deadline = None;
                // Without a file this may be a process between the launcher and the daemon, which ends in a moment.
                self.likely_until = by_file.is_none().then_some(deadline);
                self.changed = true;
            }
            None if overdue || self.tree_gone => {
                self.give_up(Step::Daemon, libc::ESRCH);
                self.changed = true;
            }
            None => {}
        }
    }
}

fn pid_in(file: &[u8]) -> Option<u32> {
    if file.is_empty() {
        return None;
    }
    std::fs::read_to_string(OsStr::from_bytes(file)).ok()?.trim().parse().ok()
}
