//! `chaos-machine FILE`: the init of a pretended machine. It is the first process of a namespace of processes; gives it its
//! own `/proc` in which FILE is the boot id, has none of the disks of a run, this one or another, takes in orphans, and ends
//! when its standard input does, and with it, by the kernel, everything on the machine.
#![allow(clippy::unwrap_used)]

use std::{io::Read, process::ExitCode};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{SigHandler, Signal, signal},
};

use minder_chaos_tests::FOLDER;

const NOTHING: Option<&str> = None;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [boot_id] = &args[..] else { panic!("usage: chaos-machine FILE") };
    if let Err(error) = settle(boot_id) {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    println!("ready");
    // Until whoever switched it on is gone or switches it off.
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

fn settle(boot_id: &str) -> nix::Result<()> {
    // SAFETY: no handler runs; the kernel takes the dead away by itself.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    // SAFETY: concerns this process alone.
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    // Held here as well, a disk would outlive its unmounting.
    for disk in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.contains(FOLDER)) {
        match umount2(disk, MntFlags::MNT_DETACH) {
            // Another run has ended meanwhile.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NOTHING)?;
    mount(Some(boot_id), "/proc/sys/kernel/random/boot_id", NOTHING, MsFlags::MS_BIND, NOTHING)
}
