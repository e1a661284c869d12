//! The nursery: its forks are shims like any other, start nothing before they are greeted, and outlive it.

use std::{
    fs,
    io::Write,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use minder_shim::{
    bundle, identity,
    launch::Launch,
    protocol::{LAUNCH_IS_THERE, NURSERY, Request},
    record::{self, Stage},
};
use tempfile::TempDir;

use crate::support::{SHIM, end, is_gone, shell, wait_for};

struct Nursery {
    process: Child,
    requests: OwnedFd,
}

impl Nursery {
    fn begin() -> Self {
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written into the array and owned from there on.
        let [ours, theirs] = unsafe {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()), 0);
            ends.map(|end| OwnedFd::from_raw_fd(end))
        };
        let mut command = Command::new(SHIM);
        command.args([NURSERY, &" ".repeat(200)]).stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().unwrap(), requests: ours }
    }

    /// Asks for a shim of a bundle that has its launch file, and says so; gives the connection to it.
    fn birth(&self, bundle: &Path) -> UnixStream {
        let (mut connection, theirs) = UnixStream::pair().unwrap();
        let folder = fs::File::open(bundle).unwrap();
        let path = bundle.as_os_str().as_encoded_bytes();
        let mut part = libc::iovec { iov_base: path.as_ptr().cast_mut().cast(), iov_len: path.len() };
        let mut room = [0_u64; 4];
        // SAFETY: all pointers are to live memory of the lengths given, and the control message has room for its two
        // descriptors.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = room.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(8) as _;
            let control = libc::CMSG_FIRSTHDR(&raw const message);
            (*control).cmsg_level = libc::SOL_SOCKET;
            (*control).cmsg_type = libc::SCM_RIGHTS;
            (*control).cmsg_len = libc::CMSG_LEN(8) as _;
            libc::CMSG_DATA(control).cast::<[i32; 2]>().write_unaligned([theirs.as_raw_fd(), folder.as_raw_fd()]);
            assert_eq!(libc::sendmsg(self.requests.as_raw_fd(), &raw const message, 0), path.len() as isize);
        }
        connection.write_all(&[LAUNCH_IS_THERE]).unwrap();
        connection
    }
}

/// A bundle whose program leaves a file.
fn bundle_of(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log_directory = folder.path().join("logs").into_os_string().into_encoded_bytes();
    let launch = Launch { log_directory, ..shell(&script.replace("HERE", folder.path().to_str().unwrap())) };
    fs::write(folder.path().join(bundle::LAUNCH), launch.encode()).unwrap();
    folder
}

fn record_of(bundle: &TempDir) -> Option<record::Record> {
    record::read(&bundle.path().join(bundle::RECORD)).unwrap()
}

#[test]
fn a_shim_that_is_not_greeted_starts_nothing() {
    let nursery = Nursery::begin();
    let ungreeted = bundle_of("touch HERE/ran");
    let connection = nursery.birth(ungreeted.path());
    let ready = wait_for("a shim that is ready", || record_of(&ungreeted));
    assert_eq!((ready.stage, ready.main_pid), (Stage::Preparing, 0));
    drop(connection);
    wait_for("its end", || is_gone(ready.shim_pid).then_some(()));
    assert!(!ungreeted.path().join("ran").exists());
    assert_eq!(record_of(&ungreeted).unwrap().main_pid, 0);
}

#[test]
fn shims_outlive_their_nursery_and_show_their_bundle() {
    let mut nursery = Nursery::begin();
    let bundles: Vec<TempDir> = (0..3).map(|_| bundle_of("exec sleep 50")).collect();
    let shims: Vec<(UnixStream, u32, u32)> = bundles
        .iter()
        .map(|bundle| {
            let mut connection = nursery.birth(bundle.path());
            connection.write_all(&Request::Hello { version: 1 }.encode()).unwrap();
            let runs = || record_of(bundle).filter(|record| record.stage == Stage::Running);
            let record = wait_for("a program", runs);
            (connection, record.shim_pid, record.main_pid)
        })
        .collect();
    for (bundle, (_, shim, _)) in bundles.iter().zip(&shims) {
        let words = fs::read(format!("/proc/{shim}/cmdline")).unwrap();
        let shown = words.split(|byte| *byte == 0).nth(1).unwrap();
        assert_eq!(shown, bundle.path().as_os_str().as_encoded_bytes());
        println!("its own and its part of what is shared by four: {} KiB", own_kib(*shim));
        assert!(own_kib(*shim) <= 120, "{}", memory(*shim));
    }
    drop(nursery.requests);
    assert_eq!(wait_for("the nursery's end", || nursery.process.try_wait().unwrap()).code(), Some(0));
    for (bundle, (mut connection, shim, main)) in bundles.iter().zip(shims) {
        assert!(!is_gone(shim) && !is_gone(main));
        connection.write_all(&Request::KillTree.encode()).unwrap();
        wait_for("the end on record", || record_of(bundle).filter(|record| record.stage == Stage::Ended));
        connection.write_all(&Request::Release.encode()).unwrap();
        wait_for("the shim's end", || is_gone(shim).then_some(()));
    }
}

#[test]
fn no_bundle_is_begun_twice() {
    let nursery = Nursery::begin();
    let bundle = bundle_of("echo x >> HERE/ran; exec sleep 50");
    let greeted = || {
        let mut connection = nursery.birth(bundle.path());
        // One that finds the bundle taken may have ended before it hears this.
        let _ = connection.write_all(&Request::Hello { version: 1 }.encode());
        connection
    };
    let _first = greeted();
    let record = wait_for("one", || record_of(&bundle).filter(|record| record.stage == Stage::Running));
    let mut second = greeted();
    // The connection of the other one ends without a word.
    let mut said = Vec::new();
    let other = std::io::Read::read_to_end(&mut second, &mut said);
    assert!(matches!(other, Ok(0) | Err(_)), "{said:?}");
    assert_eq!(fs::read_to_string(bundle.path().join("ran")).unwrap(), "x\n");
    assert!(identity::is_alive(record.main_pid, record.main_ticks));
    end(record.main_pid);
    end(record.shim_pid);
}

fn memory(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap()
}

/// Its own memory and its part of what forks share, without what comes from files.
fn own_kib(pid: u32) -> u64 {
    let memory = memory(pid);
    let line = memory.lines().find(|line| line.starts_with("Pss_Anon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
