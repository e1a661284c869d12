//! `minder-shim --nursery ROOM`: waits for incarnations, each of which gets a shim that is a fork of it. `minder-shim
//! BUNDLE` is the shim of one incarnation at once. With `--exec` or `--hook` it runs one command beside it.
//!
//! A shim parents one incarnation of one program, owns its output and its exit record. It must outlive its slave and be
//! small, so it is one thread around one poll(2), on libc alone. It never stops for a slave, a disk or a reader. Its own
//! death costs the exit code and nothing else: the program is found again by the identity in the record.
#![cfg_attr(not(test), no_main)]
// Tests have a way in of their own, from which nothing of this is reached.
#![cfg_attr(test, allow(dead_code))]

mod birth;
mod child;
mod command;
mod logs;
mod nursery;
mod shim;
mod socket;
mod sys;
mod title;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
    process::exit,
};

use minder_shim::{bundle, exit as code, fail_point, launch::Launch};

use crate::title::Title;

/// The C library's way in. std's own costs a tenth of a millisecond and some memory for what is not needed here, and does
/// not tell where the arguments lie.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, words: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: the C library gives `count` strings, which stay as they are until the title is set.
    let words: Vec<&std::ffi::CStr> =
        (0..count as usize).map(|at| unsafe { std::ffi::CStr::from_ptr(*words.add(at)) }).collect();
    let title = Title::of(&words);
    run(words.iter().map(|word| OsStr::from_bytes(word.to_bytes()).to_owned()).collect(), title)
}

fn run(words: Vec<OsString>, title: Title) -> ! {
    sys::close_inherited();
    let mut args = words.into_iter().skip(1);
    let first = args.next();
    match first.as_deref().and_then(OsStr::to_str) {
        Some("--exec") => command::run(None, args),
        Some("--hook") => command::run(args.next(), args),
        Some("--nursery") => {
            let (folder, slave) = nursery::wait();
            title.set(folder.as_os_str().as_bytes());
            supervise(&folder, Some(slave))
        }
        _ => {}
    }
    let (Some(folder), None) = (first, args.next()) else {
        eprintln!("usage: minder-shim BUNDLE (started by minder-slave, not by hand)");
        exit(code::USAGE);
    };
    supervise(Path::new(&folder), None)
}

/// Is the shim of one incarnation. With a connection from its birth on, it starts nothing before its slave has spoken.
fn supervise(folder: &Path, slave: Option<UnixStream>) -> ! {
    // Relative names from here on: a socket's path has 107 bytes at most, a bundle's may be longer.
    if std::env::set_current_dir(folder).is_err() {
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
    sys::become_reaper();
    match shim::Shim::prepare(launch, slave) {
        Ok(mut shim) => {
            sys::say_ready();
            shim.run()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => exit(code::USED),
        Err(_) => exit(code::BUNDLE),
    }
}
