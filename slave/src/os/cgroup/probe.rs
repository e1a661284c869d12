//! What this kernel's cgroups really do, tried out once at the start on children that do nothing.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};

/// Ending one idle process takes the kernel well below a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(1);
/// The group that is tried out. Leaves bear names with a colon, so this is none of them.
const NAME: &str = "probe";

/// Tries a group below `base`: a process put into it must be ended by `cgroup.kill`. Gives whether this kernel also
/// kills at birth what is cloned into a group that was killed before, as some do. An error says what does not work.
pub fn probe(base: &Path) -> Result<bool, String> {
    let leaf = base.join(NAME);
    // One that a killed slave left.
    let _ = fs::remove_dir(&leaf);
    fs::create_dir(&leaf).map_err(|error| format!("no group can be made in {}: {error}", base.display()))?;
    let outcome = try_out(&leaf);
    let _ = fs::remove_dir(&leaf);
    outcome
}

fn try_out(leaf: &Path) -> Result<bool, String> {
    let failed = |what: &str, error: io::Error| format!("{what} in {}: {error}", leaf.display());
    let mut idle = Child::idle().map_err(|error| failed("no process can be made to be tried out", error))?;
    fs::write(leaf.join("cgroup.procs"), idle.pid.to_string())
        .map_err(|error| failed("no process can be put into a group", error))?;
    fs::write(leaf.join("cgroup.kill"), "1").map_err(|error| failed("cgroup.kill does not work", error))?;
    let status = idle.wait();
    if !status.is_some_and(is_killed) {
        return Err(format!("cgroup.kill in {} does not end a process", leaf.display()));
    }
    // A kernel that cannot clone into a group cannot do it wrongly either.
    let born = File::open(leaf).and_then(|group| Child::into(&group));
    Ok(born.ok().and_then(|mut child| child.wait()).is_some_and(is_killed))
}

fn is_killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// A child of this very program that executes nothing.
struct Child {
    pid: i32,
    ended: bool,
}

impl Child {
    /// One that waits to be killed.
    fn idle() -> io::Result<Self> {
        Self::clone(0, 0, || {
            // SAFETY: only calls that are safe after a fork, with integer arguments. It holds copies of this slave's
            // descriptors, the lock of its folder among them, so it must not outlive it.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(PATIENCE.as_secs() as u32);
                loop {
                    libc::pause();
                }
            }
        })
    }

    /// One that is born in a group and ends at once.
    fn into(group: &File) -> io::Result<Self> {
        const CLONE_INTO_CGROUP: u64 = 1 << 33;
        Self::clone(CLONE_INTO_CGROUP, group.as_raw_fd() as u64, || ())
    }

    fn clone(flags: u64, cgroup: u64, child: impl FnOnce()) -> io::Result<Self> {
        // SAFETY: all zero is a valid value of this plain structure.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        (arguments.flags, arguments.cgroup) = (flags, cgroup);
        // SAFETY: the structure is live and of the size told. Without CLONE_VM this is a fork: the child has a copy of
        // the memory and one thread, makes only calls that are safe then, and ends by _exit.
        unsafe {
            match libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) {
                -1 => Err(io::Error::last_os_error()),
                0 => {
                    child();
                    libc::_exit(0)
                }
                pid => Ok(Self { pid: pid as i32, ended: false }),
            }
        }
    }

    /// Its status as wait(2) says it; `None` when it does not end in time.
    fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        let mut status = 0;
        while begin.elapsed() < PATIENCE {
            // SAFETY: the status is live; the pid is an unreaped child of this process.
            match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::__WALL) } {
                0 => std::thread::sleep(LOOK),
                -1 => return None,
                _ => {
                    self.ended = true;
                    return Some(status);
                }
            }
        }
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: integers; the pid is an unreaped child of this process.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cgroup_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = probe(&folder.path().join("none")).unwrap_err();
        assert!(error.starts_with("no group can be made in"), "{error}");
        // A plain folder takes the pid as text and kills nobody.
        let begin = Instant::now();
        let error = probe(folder.path()).unwrap_err();
        assert!(error.contains("does not end a process"), "{error}");
        assert!(begin.elapsed() < PATIENCE * 3);
    }
}
