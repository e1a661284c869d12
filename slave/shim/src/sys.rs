//! The few calls to the kernel that std has no words for.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Leaves the slave's session, and lets nothing but the slave and a KILL end this process.
pub fn detach() {
    // SAFETY: these change flags of this process alone and take no memory.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"minder-shim".as_ptr());
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGXFSZ] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Becomes the reaper of its children and of everything that is orphaned below them.
pub fn become_reaper() {
    // SAFETY: as in `detach`.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Has the kernel reap every child.
pub fn leave_children() {
    // SAFETY: as in `detach`.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
}

/// Lets go of standard output. A slave that waits at the other end of it knows now that the socket is there.
pub fn say_ready() {
    // SAFETY: dup2 on the standard descriptors, which nothing here uses.
    unsafe {
        libc::dup2(0, 1);
    }
}

/// Has standard input, on which a nursery is asked, lead nowhere.
pub fn forget_requests() {
    // SAFETY: dup2 on the standard descriptors; standard error leads nowhere.
    unsafe {
        libc::dup2(2, 0);
    }
}

/// What a nursery is asked: a shim for a folder.
pub struct Wanted {
    /// The folder's name at this moment.
    pub name: Vec<u8>,
    /// The folder itself, which may get another name.
    pub folder: OwnedFd,
    /// To the slave.
    pub slave: UnixStream,
}

/// The next request on standard input, which takes one message at a time. None when there will be no more.
pub fn receive() -> Option<Wanted> {
    let mut name = vec![0_u8; libc::PATH_MAX as usize];
    let mut room = [0_u64; 4];
    let mut part = libc::iovec { iov_base: name.as_mut_ptr().cast(), iov_len: name.len() };
    // SAFETY: the structure is initialised below as far as it is read; its pointers are to live memory of the lengths
    // given. `room` is aligned as a control message and holds one with two descriptors, which are owned from here on.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = room.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&room) as _;
        let bytes = check(libc::recvmsg(0, &raw mut message, libc::MSG_CMSG_CLOEXEC) as i32).ok()?;
        let control = libc::CMSG_FIRSTHDR(&raw const message).as_ref()?;
        let two = libc::CMSG_LEN(2 * size_of::<RawFd>() as u32) as usize;
        let given = (control.cmsg_level, control.cmsg_type, control.cmsg_len as usize);
        if given != (libc::SOL_SOCKET, libc::SCM_RIGHTS, two) {
            return None;
        }
        name.truncate(bytes as usize);
        let descriptors = libc::CMSG_DATA(control).cast::<RawFd>();
        let [slave, folder] = [0, 1].map(|at| descriptors.add(at).read_unaligned());
        Some(Wanted { name, folder: OwnedFd::from_raw_fd(folder), slave: UnixStream::from_raw_fd(slave) })
    }
}

/// Makes a folder the current one.
pub fn enter(folder: &OwnedFd) -> io::Result<()> {
    // SAFETY: fchdir on an open descriptor.
    check(unsafe { libc::fchdir(folder.as_raw_fd()) }).map(drop)
}

/// Closes whatever the slave may have handed down beside the three standard descriptors.
pub fn close_inherited() {
    // SAFETY: called before this program has opened anything of its own.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint);
    }
}

/// The wall clock, milliseconds since 1970.
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The result of a call that answers -1 on failure.
pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A pipe whose ends are not passed on to programs.
pub fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors into the array; both are owned from here on.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

/// Reading and writing never wait.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl with integer arguments on an open descriptor.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// Blocks SIGCHLD and gives a descriptor that is readable when a child has ended.
pub fn child_signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read; the descriptor is owned from here on.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Empties the descriptor of [`child_signal_fd`].
pub fn drain(fd: &OwnedFd) {
    let mut buffer = [0_u8; 1_024];
    // SAFETY: reads at most the buffer's length into it.
    while unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

/// Makes a file's blocks, so that writing into them needs no room on the disk later. Without a sync, where the file system
/// can: a start must not wait for everybody else's writes.
pub fn make_blocks(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: fallocate with integers on an open descriptor.
    match check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) }) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
            io::Write::write_all(&mut &*file, &vec![0; bytes as usize])?;
            file.sync_all()
        }
        Err(error) => Err(error),
    }
}

/// One ended child.
pub struct Reaped {
    /// Who it was.
    pub pid: i32,
    /// As wait(2) says it.
    pub status: i32,
    /// User and system time, in milliseconds.
    pub cpu_ms: u64,
    /// Peak resident memory, in bytes.
    pub memory_peak_bytes: u64,
}

/// What there is to reap.
pub enum Reap {
    /// This one.
    One(Reaped),
    /// Children live, none has ended.
    NoneEnded,
    /// There are no children at all: as sub-reaper this means that the whole tree is gone.
    NoneLeft,
}

/// Reaps one child, without waiting.
pub fn reap() -> Reap {
    // SAFETY: status and usage are written by wait4 before they are read.
    unsafe {
        let mut status = 0;
        let mut usage: libc::rusage = std::mem::zeroed();
        match libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) {
            0 => Reap::NoneEnded,
            pid if pid > 0 => {
                let ms = |time: libc::timeval| time.tv_sec as u64 * 1_000 + time.tv_usec as u64 / 1_000;
                Reap::One(Reaped {
                    pid,
                    status,
                    cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
                    // The kernel counts in kibibytes.
                    memory_peak_bytes: usage.ru_maxrss as u64 * 1_024,
                })
            }
            _ => Reap::NoneLeft,
        }
    }
}

/// Waits until one of the descriptors is ready or the time is over. Fills in what is ready.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) {
    // SAFETY: the pointer and length are of one slice. An interrupted wait is an early look, which is harmless.
    unsafe {
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms);
    }
}
