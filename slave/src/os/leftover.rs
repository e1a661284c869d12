//! Children of the slave that was this process before a drill: its nursery of shims, checks and hooks. They end by
//! themselves, for their standard input has; but they are children of this process still, and somebody must take their
//! ends in. Shims are not among them: a shim is a child of the nursery, and nobody's when that has ended.

use std::{fs, process, thread};

use nix::{sys::wait::waitpid, unistd::Pid};

/// Takes in the ends of all children there are, each when it comes. To be called before any child is made. Where the
/// kernel does not list children, their entries stay until this process ends.
pub fn reap() {
    let own = process::id();
    let listed = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    for child in listed.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // Without a thread its entry stays, which harms nobody.
        let _ = thread::Builder::new().stack_size(64 * 1024).spawn(move || waitpid(Pid::from_raw(child), None));
    }
}
