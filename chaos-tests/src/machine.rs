//! A machine that can be switched off: a namespace of processes with an init of its own and a boot id of its own. When its
//! init is killed the kernel ends everything in it at once, as a power switch would; files stay.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::bin;

/// The namespace and its init. Switched off when dropped, or when whoever made it ends.
#[derive(Debug)]
pub struct Machine {
    init: Child,
}

impl Machine {
    /// Switches one on that has the boot id in this file. The error says what this machine here lacks.
    pub fn boot(boot_id: &Path) -> Result<Self, String> {
        let mut command = Command::new(bin("chaos-machine"));
        command.arg(boot_id).stdin(Stdio::piped()).stdout(Stdio::piped());
        // The namespace is for the children of one thread, which begins with it and ends with it.
        let begun = std::thread::spawn(move || {
            // SAFETY: concerns children of this thread only.
            match unsafe { libc::unshare(libc::CLONE_NEWPID) } {
                0 => command.spawn(),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
        let mut init = begun.join().unwrap().map_err(|error| format!("no namespace of processes: {error}"))?;
        let mut line = String::new();
        let read = BufReader::new(init.stdout.take().unwrap()).read_line(&mut line);
        let machine = Self { init };
        match read {
            Ok(_) if line.trim() == "ready" => Ok(machine),
            Ok(_) | Err(_) => Err(format!("no machine of its own: {}", line.trim())),
        }
    }

    /// The init's pid.
    pub fn init(&self) -> u32 {
        self.init.id()
    }

    /// Switches it off. Programs that were started here and put onto it must be waited for before it is dropped: the kernel
    /// keeps the namespace, and its init, until the last one's end was heard of.
    pub fn switch_off(&mut self) {
        let _ = self.init.kill();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.switch_off();
        let _ = self.init.wait();
    }
}

/// Starts a program whose pid is in the namespace of the machine with this init.
pub(crate) fn spawn_within(init: u32, mut command: Command) -> std::io::Result<Child> {
    let begun = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{init}/ns/pid"))?;
        // SAFETY: setns on an open descriptor; it concerns children of this thread only.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWPID) } {
            0 => command.spawn(),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    begun.join().unwrap()
}
