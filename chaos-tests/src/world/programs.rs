//! Managed programs as the kernel shows them, held so that a signal can meet nobody else.

use std::{
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::sys::signal::Signal;

use super::World;

/// A managed program that lived when it was found.
#[derive(Debug)]
pub struct ManagedProgram {
    /// As its account is named, `process:index@host`.
    pub instance: String,
    /// Its pid here.
    pub pid: u32,
    held: OwnedFd,
}

impl ManagedProgram {
    /// Sends a signal; says whether it was still there.
    pub fn signal(&self, signal: Signal) -> bool {
        // SAFETY: a system call on a descriptor that is open; there is no information to go with the signal.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.held.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        sent == 0
    }
}

impl World {
    /// The managed programs of this world whose instances are wanted here. Their twigs are not among them.
    pub fn programs(&self, wanted: impl Fn(&str) -> bool) -> Vec<ManagedProgram> {
        let accounts = self.accounts();
        let accounts = accounts.to_str().unwrap();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let found = pids.filter_map(|pid| {
            instance_of(pid, accounts)?;
            let held = hold(pid)?;
            // Looked at again, now that nobody else can come under this pid.
            let instance = instance_of(pid, accounts)?;
            Some(ManagedProgram { instance, pid, held })
        });
        found.filter(|program| wanted(&program.instance)).collect()
    }
}

/// Which instance a pid is the main program of.
fn instance_of(pid: u32, accounts: &str) -> Option<String> {
    let line = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).ok()?).ok()?;
    let mut words = line.split('\0');
    let ours = words.next()?.ends_with("/chaos-child") && words.next()? != "twig" && words.next()? == accounts;
    let environment = String::from_utf8(fs::read(format!("/proc/{pid}/environ")).ok()?).ok()?;
    let value = |name: &str| environment.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    ours.then_some(())?;
    Some(format!("{}:{}@{}", value("MINDER_PROCESS")?, value("MINDER_INSTANCE")?, value("MINDER_HOST")?))
}

fn hold(pid: u32) -> Option<OwnedFd> {
    // SAFETY: a new descriptor that nobody else has.
    unsafe {
        let held = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        (held >= 0).then(|| OwnedFd::from_raw_fd(held as i32))
    }
}
