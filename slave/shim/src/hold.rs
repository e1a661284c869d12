//! A shim's hold on the folder it works in: lock, record, socket. None of it depends on what is to run, so it can be there
//! before anybody knows that.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::exit,
};

use minder_shim::{
    bundle, exit as code, fail_point, identity,
    record::{FILE_BYTES, Record},
};

use crate::{socket::Socket, sys};

/// The hold on the current folder.
pub struct Hold {
    /// What is known so far: who this shim is.
    pub record: Record,
    /// Where it is written.
    pub record_file: File,
    /// Where the slave speaks to this shim.
    pub socket: Socket,
    /// Readable when a child has ended.
    pub child_ended: OwnedFd,
    /// The hold ends with it.
    pub lock: File,
}

impl Hold {
    /// Takes hold, or ends this process with the code that says why it cannot.
    pub fn take(slave: Option<UnixStream>) -> Self {
        let Ok(lock) = File::create(bundle::LOCK) else { exit(code::BUNDLE) };
        // SAFETY: flock on an open descriptor.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            exit(code::LOCKED);
        }
        fail_point!("shim-lock-taken");
        sys::detach();
        sys::become_reaper();
        match Self::with(lock, slave) {
            Ok(hold) => hold,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => exit(code::USED),
            Err(_) => exit(code::BUNDLE),
        }
    }

    fn with(lock: File, slave: Option<UnixStream>) -> io::Result<Self> {
        // A bundle that has a record was used before. What that says must not be lost, and nothing starts twice.
        let record_file = OpenOptions::new().read(true).write(true).create_new(true).open(bundle::RECORD)?;
        fail_point!("shim-record-made");
        sys::make_blocks(&record_file, FILE_BYTES)?;
        let own = std::process::id();
        let record = Record {
            sequence: 1,
            boot_id: identity::boot_id(),
            shim_pid: own,
            shim_ticks: identity::stat(own).map_or(0, |stat| stat.start_ticks),
            ..Record::default()
        };
        let socket = Socket::listen(slave)?;
        // One that cannot be written is still told.
        let _ = record.write(&record_file);
        fail_point!("shim-listening");
        Ok(Self { record, record_file, socket, child_ended: sys::child_signal_fd()?, lock })
    }
}
