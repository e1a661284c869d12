//! The least that supervising can cost: a loop that waits for any child and starts another. It is this program by
//! another argument, so that it is a process of its own as its peers are.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::wait,
    },
    unistd::Pid,
};

/// Makes this program the loop: `--floor COUNT PROGRAM FILE`.
pub const ARGUMENT: &str = "--floor";

static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

/// Whether this process is to be the loop.
pub fn is_asked_for() -> bool {
    std::env::args().nth(1).as_deref() == Some(ARGUMENT)
}

/// Starts the children, starts another for each that ends, and ends all of them on TERM.
pub fn run() {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let [count, program, file] = &args[..] else { panic!("usage: {ARGUMENT} COUNT PROGRAM FILE") };
    let end = SigAction::new(SigHandler::Handler(told_to_end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores into an atomic.
    unsafe { sigaction(Signal::SIGTERM, &end) }.unwrap();
    let start = || Command::new(program).arg(file).spawn().unwrap().id();
    let mut children: Vec<u32> = (0..count.parse::<usize>().unwrap()).map(|_| start()).collect();
    while !TOLD_TO_END.load(Ordering::Relaxed) {
        match wait() {
            Ok(ended) => {
                let ended = ended.pid().map(Pid::as_raw);
                if let Some(child) = children.iter_mut().find(|child| Some(**child as i32) == ended) {
                    *child = start();
                }
            }
            Err(error) => assert_eq!(error, Errno::EINTR),
        }
    }
    for child in &children {
        kill(Pid::from_raw(*child as i32), Signal::SIGTERM).unwrap();
    }
    while wait().is_ok() {}
}

extern "C" fn told_to_end(_: i32) {
    TOLD_TO_END.store(true, Ordering::Relaxed);
}
