//! What a shim is for its slave: there, whoever comes and goes, and gone when it is let go.

use std::{io::Write, os::unix::net::UnixStream};

use crate::support::{Shim, shell, wait_for};
use minder_shim::{
    bundle,
    protocol::{Request, Scope},
    record::{End, Stage},
};

#[test]
fn a_slave_that_comes_back_is_told_what_happened_meanwhile() {
    let mut shim = Shim::start(shell("read line < /dev/null; sleep 0.2; echo done; exit 37"));
    let before = shim.until_running();
    shim.disconnect();
    wait_for("the end on disk", || (shim.on_disk().stage == Stage::Ended).then_some(()));
    shim.connect();
    let record = shim.until_over();
    assert_eq!((record.end, record.main_pid), (End::Code(37), before.main_pid));
    assert_eq!(shim.log("stdout.log"), "done\n");
    shim.release();
}

#[test]
fn a_newer_connection_takes_over_and_a_stuck_one_holds_nothing_up() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    shim.until_running();
    let path = shim.folder.path().join(bundle::SOCKET);
    // Asks for ever and never reads.
    let mut stuck = UnixStream::connect(&path).unwrap();
    stuck.set_nonblocking(true).unwrap();
    let hello = Request::Hello { version: 1 }.encode();
    while stuck.write_all(&hello).is_ok() {}
    // Says half a request and stays.
    let mut half = UnixStream::connect(&path).unwrap();
    half.write_all(&[5, 0]).unwrap();
    // Says nonsense.
    let mut nonsense = UnixStream::connect(&path).unwrap();
    nonsense.write_all(&[0xff; 64]).unwrap();
    shim.connect();
    shim.until_running();
    shim.send(Request::Signal { signal: libc::SIGTERM, scope: Scope::Main });
    assert_eq!(shim.until_over().end, End::Signal(15, false));
}

#[test]
fn a_release_before_the_end_means_nothing() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    shim.until_running();
    shim.send(Request::Release);
    shim.send(Request::Hello { version: 1 });
    shim.until_running();
    assert_eq!(shim.process.try_wait().unwrap(), None);
}

#[test]
fn polite_signals_to_the_shim_itself_change_nothing() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    shim.until_running();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: kill with integers; the shim is this process's own unreaped child.
        unsafe { libc::kill(shim.process.id() as i32, signal) };
    }
    shim.send(Request::Hello { version: 1 });
    shim.until_running();
}

#[test]
fn it_is_small() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    shim.until_running();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.process.id())).unwrap();
    let kib = |field: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    println!("shim: resident {} KiB, proportional {} KiB, its own {} KiB", kib("Rss:"), kib("Pss:"), kib("Anonymous:"));
    // What further shims cost is what is their own; the rest is shared between them.
    assert!(kib("Anonymous:") <= 200, "{rollup}");
}
