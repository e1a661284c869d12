//! How a child comes into its cgroup.
//!
//! Entering one makes the kernel wait until every processor has let go of the old state: ten milliseconds and more, one
//! child after the other for the whole machine. Being born there costs nothing. But some kernels compare the kill counter
//! of the parent's group with that of the child's, and end the child at its birth when they differ. Such a child has
//! taken nothing from the pipe that lets it go; by that it is told from a program that was killed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
};

use crate::sys::check;

/// clone(2): the cgroup is named by a descriptor. Kernels before 5.7 refuse it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a child is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In its cgroup, where there is one and the kernel can.
    Cgroup,
    /// Beside its parent. It enters its cgroup by itself.
    Here,
}

/// Makes a child. Gives its pid, 0 in the child itself, and where it was born.
///
/// # Safety
/// This process has one thread.
pub unsafe fn birth(cgroup: &[u8], wanted: Place) -> io::Result<(i32, Place)> {
    if wanted == Place::Cgroup
        && !cgroup.is_empty()
        // SAFETY: by contract.
        && let Ok(pid) = unsafe { clone_into(cgroup) }
    {
        return Ok((pid, Place::Cgroup));
    }
    // SAFETY: by contract.
    Ok((check(unsafe { libc::fork() })?, Place::Here))
}

/// fork(2), into a cgroup.
///
/// # Safety
/// This process has one thread.
unsafe fn clone_into(cgroup: &[u8]) -> io::Result<i32> {
    let mut options = OpenOptions::new();
    let cgroup: File = options
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(std::ffi::OsStr::from_bytes(cgroup))?;
    // The first eleven fields of struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    // tls, set_tid, set_tid_size, cgroup.
    let mut args = [0_u64; 11];
    args[0] = CLONE_INTO_CGROUP;
    args[4] = libc::SIGCHLD as u64;
    args[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: the structure is live and of the size given; without a stack of its own the child gets a copy of this
    // one, as with fork.
    check(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } as i32)
}
