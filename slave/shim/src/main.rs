//! `minder-shim --nursery-2 ROOM`: waits for incarnations, each of which gets a shim that is a fork of it. `minder-shim
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
mod hold;
mod logs;
mod nursery;
mod shim;
mod socket;
mod sys;
mod title;

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    process::exit,
};

use minder_shim::{bundle, exit as code, fail_point, launch::Launch, protocol::NURSERY};

use crate::{hold::Hold, shim::Shim, sys::Wanted, title::Title};

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
        Some(NURSERY) => {
            let Wanted { name, folder, slave } = nursery::wait();
            title.set(&name);
            if sys::enter(&folder).is_err() {
                exit(code::BUNDLE);
            }
            supervise(Some(slave), &title)
        }
        _ => {}
    }
    let (Some(folder), None) = (first, args.next()) else {
        eprintln!("usage: minder-shim BUNDLE (started by minder-slave, not by hand)");
        exit(code::USAGE);
    };
    if std::env::set_current_dir(folder).is_err() {
        exit(code::BUNDLE);
    }
    supervise(None, &title)
}

/// Is the shim of one incarnation, in its folder. Names are relative here: a socket's path has 107 bytes at most, a bundle's
/// may be longer; and a folder that was made before there was an incarnation for it gets its name while this shim is in
/// it.
///
/// With a connection from its birth on, it gets ready as far as it can and waits twice for its slave: until the launch file
/// is there, and until the program may start.
fn supervise(slave: Option<UnixStream>, title: &Title) -> ! {
    let hold = Hold::take(slave);
    if !hold.socket.until_launch_is_there() {
        exit(0);
    }
    // Read under the lock: a slave that finds an incarnation without a shim takes the lock and removes this file, so that
    // a shim which is late by any amount starts nothing.
    let Ok(launch) = std::fs::read(bundle::LAUNCH).map_err(drop).and_then(|bytes| Launch::decode(&bytes).map_err(drop))
    else {
        exit(code::LAUNCH);
    };
    fail_point!("shim-launch-read");
    let mut shim = Shim::new(hold, launch);
    sys::say_ready();
    // The slave has ended before it was sure that there is to be a program.
    if !shim.until_let_go() {
        exit(0);
    }
    if let Ok(named) = std::env::current_dir() {
        title.set(named.as_os_str().as_bytes());
    }
    shim.run()
}
