//! `chaos-child KIND FOLDER SEED`: a managed program that keeps its own account in FOLDER, in a file named after its instance
//! and host: `start INCARNATION NANOSECONDS`, `end INCARNATION NANOSECONDS HOW`, on the clock that only goes forward. It holds
//! a lock that only one process can hold; where it cannot have it, it notes `DOUBLE`, and `ORPHAN` where a twig of an
//! incarnation before it is alive.
//!
//! `steady` stays until TERM; `tree` also has two twigs that do not hear TERM, one of them a daemon in a session of its own;
//! `crashing` ends by itself after up to three seconds, by a code or a signal; `looping` at once; `chatty` puts out lines.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use minder_chaos_tests::{mixed, mono_now};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

/// It looks this often whether it was told to end.
const TICK: Duration = Duration::from_millis(50);
/// Longest life of one that crashes, and the shortest.
const LIFE_MS: std::ops::Range<u64> = 300..3_000;

static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, folder, seed] = &args[..] else { panic!("usage: chaos-child KIND FOLDER SEED") };
    let told = |name: &str| std::env::var(name).unwrap_or_default();
    let instance = format!("{}:{}@{}", told("MINDER_PROCESS"), told("MINDER_INSTANCE"), told("MINDER_HOST"));
    let place = format!("{folder}/{instance}");
    if kind == "twig" {
        return twig(&place);
    }
    on_term(SigHandler::Handler(told_to_end));
    let lock = open(&format!("{place}.lock"));
    let mut child = Child { account: open(&place), incarnation: told("MINDER_INCARNATION") };
    let alone = lock_file(&lock, libc::LOCK_EX);
    child.note(if alone { "start" } else { "DOUBLE" }, "");
    if !lock_file(&open(&format!("{place}.twigs")), libc::LOCK_EX) {
        child.note("ORPHAN", "");
    }
    match kind.as_str() {
        "tree" => grow(folder),
        "crashing" => child.crash(seed.parse().unwrap(), &instance),
        "looping" => child.end("c1"),
        "chatty" => chat(),
        _ => {}
    }
    wait_until_told(Duration::MAX);
    child.end("c0");
}

struct Child {
    account: File,
    incarnation: String,
}

impl Child {
    /// One write of one line: appends of different processes do not mix.
    fn note(&mut self, what: &str, more: &str) {
        let line = format!("{what} {} {}{more}\n", self.incarnation, mono_now().as_nanos());
        self.account.write_all(line.as_bytes()).unwrap();
    }

    fn end(&mut self, how: &str) -> ! {
        self.note("end", &format!(" {how}"));
        if let Some(signal) = how.strip_prefix('s') {
            let _ = raise(Signal::try_from(signal.parse::<i32>().unwrap()).unwrap());
        }
        std::process::exit(how[1..].parse().unwrap())
    }

    fn crash(&mut self, seed: u64, instance: &str) {
        let place = format!("{instance} {}", self.incarnation);
        let drawn = place.bytes().fold(seed, |drawn, byte| mixed(drawn, u64::from(byte)));
        wait_until_told(Duration::from_millis(LIFE_MS.start + drawn % (LIFE_MS.end - LIFE_MS.start)));
        if TOLD_TO_END.load(Ordering::Relaxed) {
            return;
        }
        match (drawn >> 32) % 8 {
            0 => self.end("s11"),
            1 => self.end("s9"),
            code => self.end(&format!("c{code}")),
        }
    }
}

/// Two twigs, which hold their lock before this comes back.
fn grow(folder: &str) {
    for daemon in [false, true] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["twig", folder, "0"]).stdout(Stdio::piped());
        if daemon {
            // SAFETY: a system call and nothing else, between fork and exec.
            unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        }
        // Twigs outlive this on purpose, and whoever ends the tree ends them: nobody waits.
        #[allow(clippy::zombie_processes)]
        let mut twig = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(twig.stdout.take().unwrap()).read_line(&mut line).unwrap();
    }
}

fn twig(place: &str) {
    on_term(SigHandler::SigIgn);
    let lock = open(&format!("{place}.twigs"));
    lock_file(&lock, libc::LOCK_SH);
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn chat() {
    let line = [b'x'; 999];
    while !TOLD_TO_END.load(Ordering::Relaxed) {
        // A full pipe would be somebody's fault, and would show as a process that does not end.
        let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().write_all(b"\n"));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_until_told(limit: Duration) {
    let begin = mono_now();
    while !TOLD_TO_END.load(Ordering::Relaxed) && mono_now() - begin < limit {
        std::thread::sleep(TICK);
    }
}

fn open(path: &str) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

fn lock_file(file: &File, kind: libc::c_int) -> bool {
    // SAFETY: flock on an open descriptor.
    unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) == 0 }
}

fn on_term(handler: SigHandler) {
    // SAFETY: the handler only stores into an atomic.
    unsafe { sigaction(Signal::SIGTERM, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }.unwrap();
}

extern "C" fn told_to_end(_: i32) {
    TOLD_TO_END.store(true, Ordering::Relaxed);
}
