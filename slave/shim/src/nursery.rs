//! The nursery: this program, loaded and waiting. For each incarnation its slave names a bundle and hands over one end of
//! a connection, and a fork of the nursery becomes the shim. That saves each start the time of executing a program, and
//! each shim the memory that a program of its own would have made: what was loaded here is shared.
//!
//! It ends with its slave, whose end closes standard input. Its forks do not.

use std::{io::Write, os::unix::net::UnixStream, process::exit};

use minder_shim::{
    identity,
    protocol::encode_record,
    record::{Record, Stage, Step},
};

use crate::{
    child,
    sys::{self, Wanted},
};

/// Waits; returns in a fork, with what is wanted of it.
pub fn wait() -> Wanted {
    sys::detach();
    sys::leave_children();
    // What every fork would have to find out.
    identity::boot_id();
    child::know_own_user();
    loop {
        let Some(wanted) = sys::receive() else { exit(0) };
        // SAFETY: this process has one thread, so a fork of it may do anything.
        match unsafe { libc::fork() } {
            0 => {
                sys::forget_requests();
                return wanted;
            }
            -1 => refuse(wanted.slave, std::io::Error::last_os_error().raw_os_error().unwrap_or_default()),
            _ => {}
        }
    }
}

/// Says what a shim would have to say. A slave that is gone need not know.
fn refuse(mut slave: UnixStream, errno: i32) {
    let now = sys::wall_ms();
    let record = Record {
        stage: Stage::StartFailed,
        boot_id: identity::boot_id(),
        started_at_ms: now,
        ended_at_ms: now,
        failed_step: Step::Fork,
        failed_errno: errno,
        ..Record::default()
    };
    let _ = slave.write_all(&encode_record(&record));
}
