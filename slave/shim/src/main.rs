//! `minder-shim BUNDLE`: parents one incarnation of one program, owns its output and its exit record. With `--exec` or
//! `--hook` it runs one command beside it.
//!
//! It must outlive its slave and be small, so it is one thread around one poll(2), on libc alone. It never stops for
//! a slave, a disk or a reader. Its own death costs the exit code and nothing else: the program is found again by the
//! identity in the record.

mod birth;
mod child;
mod command;
mod logs;
mod shim;
mod socket;
mod sys;

use std::{fs::File, os::fd::AsRawFd, path::Path, process::exit};

use minder_shim::{bundle, exit as code, fail_point, launch::Launch};

fn main() {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "--exec").is_some() {
        sys::close_inherited();
        command::run(None, args);
    }
    if args.next_if(|arg| arg == "--hook").is_some() {
        sys::close_inherited();
        command::run(args.next(), args);
    }
    let (Some(folder), None) = (args.next(), args.next()) else {
        eprintln!("usage: minder-shim BUNDLE (started by minder-slave, not by hand)");
        exit(code::USAGE);
    };
    sys::close_inherited();
    // Relative names from here on: a socket's path has 107 bytes at most, a bundle's may be longer.
    if std::env::set_current_dir(Path::new(&folder)).is_err() {
        exit(code::BUNDLE);
    }
    let Ok(lock) = File::create(bundle::LOCK) else { exit(code::BUNDLE) };
    // SAFETY: flock on a descriptor that lives until the process ends.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        exit(code::LOCKED);
    }
    fail_point!("shim-lock-taken");
    // Read under the lock: a slave that finds an incarnation without a shim takes the lock and removes this file, so that
    // a shim which is late by any amount starts nothing.
    let Ok(launch) = std::fs::read(bundle::LAUNCH).map_err(drop).and_then(|bytes| Launch::decode(&bytes).map_err(drop))
    else {
        exit(code::LAUNCH);
    };
    fail_point!("shim-launch-read");
    sys::detach();
    match shim::Shim::prepare(launch) {
        Ok(mut shim) => {
            sys::say_ready();
            shim.run()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => exit(code::USED),
        Err(_) => exit(code::BUNDLE),
    }
}
