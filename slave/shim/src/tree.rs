//! Every process below one, and how to end them all. With a cgroup the kernel does it in one write; without, the
//! descendants are read and killed until none is left.

use std::{fs, os::fd::FromRawFd, os::fd::OwnedFd, path::Path};

use crate::identity;

/// Kills everything there is now, below `root` and in the cgroup: whoever left the one is still in the other. Called
/// again until nothing is left.
pub fn kill(root: u32, cgroup: &Path) {
    kill_cgroup(cgroup);
    signal(root, libc::SIGKILL);
}

/// Kills everything in a cgroup. `false` when there is none, or a kernel before 5.14.
pub fn kill_cgroup(cgroup: &Path) -> bool {
    !cgroup.as_os_str().is_empty() && fs::write(cgroup.join("cgroup.kill"), "1").is_ok()
}

/// Whether anybody is in a cgroup.
pub fn is_populated(cgroup: &Path) -> bool {
    let events = || fs::read_to_string(cgroup.join("cgroup.events"));
    !cgroup.as_os_str().is_empty() && events().is_ok_and(|events| events.contains("populated 1"))
}

/// Sends every descendant of `root` this signal, each through a descriptor of the very process that was found.
pub fn signal(root: u32, signal: i32) {
    for (pid, parent) in descendants(root) {
        let Some(process) = open(pid) else { continue };
        // Between the look and the opening the pid may have passed to somebody else: look again at what is held now.
        if identity::stat(pid).is_some_and(|stat| stat.parent == parent || stat.parent == root) {
            send(&process, signal);
        }
    }
}

/// Descendants with their parents, parents first.
fn descendants(of: u32) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = children(of).into_iter().map(|child| (child, of)).collect();
    let mut next = 0;
    while next < found.len() {
        let (pid, _) = found[next];
        found.extend(children(pid).into_iter().map(|child| (child, pid)));
        next += 1;
    }
    found
}

/// Children of all threads of a process.
fn children(of: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // A kernel without this file: look at everybody's parent.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && identity::stat(of).is_some() => {
                return children_by_scan(of);
            }
            Err(_) => {}
        }
    }
    found
}

fn children_by_scan(of: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| identity::stat(*pid).is_some_and(|stat| stat.parent == of)).collect()
}

/// The oldest direct child of `root` that is alive.
pub fn oldest_child(root: u32) -> Option<u32> {
    let alive = children(root).into_iter().filter_map(|pid| {
        let stat = identity::stat(pid).filter(|stat| stat.state != b'Z')?;
        Some((stat.start_ticks, pid))
    });
    alive.min().map(|(_, pid)| pid)
}

/// Whether this process is a direct, living child of `root`.
pub fn is_child(root: u32, pid: u32) -> bool {
    identity::stat(pid).is_some_and(|stat| stat.parent == root && stat.state != b'Z')
}

fn open(pid: u32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and gives a new descriptor, owned from here on.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::c_long, 0 as libc::c_long);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn send(process: &OwnedFd, signal: i32) {
    use std::os::fd::AsRawFd;
    // SAFETY: pidfd_send_signal with an open descriptor, an integer and no further memory.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            libc::c_long::from(process.as_raw_fd()),
            libc::c_long::from(signal),
            std::ptr::null::<libc::siginfo_t>(),
            0 as libc::c_long,
        );
    }
}
