//! `drill-child KIND FOLDER SEED`: a managed program that keeps its own account in FOLDER, in a file named after its
//! instance: `start INCARNATION`, then `end INCARNATION HOW LINES`, with HOW `c7` or `s10` and LINES the number of lines it
//! has put out. Meanwhile it holds a lock that only one process can hold; where it cannot have it, it notes `DOUBLE`.
//!
//! `steady` puts out numbered lines until TERM; `crashing` ends by itself after up to a second and a half, by a code or a
//! signal that SEED fixes; `deaf` does not hear TERM; `full` puts out a kilobyte a line without pause; `flood` as much as it
//! can; `files` opens SEED files and keeps them.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use minder_chaos_tests::mixed;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

/// Between two numbered lines.
const TICK: Duration = Duration::from_millis(200);
/// Longest life of one that crashes, and the shortest.
const LIFE_MS: std::ops::Range<u64> = 100..1_500;

static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

struct Child {
    account: File,
    incarnation: String,
    lines: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, folder, seed] = &args[..] else { panic!("usage: drill-child KIND FOLDER SEED") };
    let seed: u64 = seed.parse().unwrap();
    let told = |name: &str| std::env::var(name).unwrap_or_default();
    let instance = format!("{}:{}", told("MINDER_PROCESS"), told("MINDER_INSTANCE"));
    let handler = match kind.as_str() {
        "deaf" => SigHandler::SigIgn,
        _ => SigHandler::Handler(told_to_end),
    };
    // SAFETY: the handler only stores into an atomic.
    unsafe { sigaction(Signal::SIGTERM, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }.unwrap();
    let open = |name: String| File::options().create(true).append(true).open(format!("{folder}/{name}")).unwrap();
    let lock = open(format!("{instance}.lock"));
    let mut child = Child { account: open(instance.clone()), incarnation: told("MINDER_INCARNATION"), lines: 0 };
    // SAFETY: flock on an open descriptor.
    let alone = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    child.note(if alone { "start" } else { "DOUBLE" }, "");
    match kind.as_str() {
        "crashing" => child.crash(seed, &instance),
        "full" => child.put_out_for_ever(&[b'x'; 1_000], true),
        "flood" => child.put_out_for_ever(&[b'x'; 1 << 20], false),
        "files" => child.open_files(seed),
        _ => child.tick_until(None),
    }
}

impl Child {
    /// One write of one line.
    fn note(&mut self, what: &str, more: &str) {
        self.account.write_all(format!("{what} {}{more}\n", self.incarnation).as_bytes()).unwrap();
    }

    fn line(&mut self) {
        self.lines += 1;
        let line = format!("{} {}\n", self.incarnation, self.lines);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }

    fn tick_until(&mut self, until: Option<Instant>) {
        while !TOLD_TO_END.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            self.line();
            let left = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()).min(TICK));
            // A signal does not end the wait, which is short.
            std::thread::sleep(left);
        }
        if TOLD_TO_END.load(Ordering::Relaxed) {
            self.end("c0");
        }
    }

    fn end(&mut self, how: &str) -> ! {
        self.line();
        let more = format!(" {how} {}", self.lines);
        self.note("end", &more);
        if let Some(signal) = how.strip_prefix('s') {
            let _ = raise(Signal::try_from(signal.parse::<i32>().unwrap()).unwrap());
        }
        std::process::exit(how[1..].parse().unwrap())
    }

    fn crash(&mut self, seed: u64, instance: &str) {
        let place = format!("{instance} {}", self.incarnation);
        let drawn = place.bytes().fold(seed, |drawn, byte| mixed(drawn, u64::from(byte)));
        let life = LIFE_MS.start + drawn % (LIFE_MS.end - LIFE_MS.start);
        self.tick_until(Some(Instant::now() + Duration::from_millis(life)));
        let how = match (drawn >> 32) % 8 {
            0 => String::from("s10"),
            1 => String::from("s9"),
            code => format!("c{}", code + (drawn >> 40) % 100),
        };
        self.end(&how)
    }

    /// Notes now and then how many bytes its standard output has taken.
    fn put_out_for_ever(&mut self, piece: &[u8], with_lines: bool) {
        let (mut bytes, mut noted) = (0_u64, Instant::now());
        let mut piece = piece.to_vec();
        if with_lines {
            piece.push(b'\n');
        }
        while !TOLD_TO_END.load(Ordering::Relaxed) {
            if let Ok(written) = std::io::stdout().write(&piece) {
                bytes += written as u64;
            }
            if noted.elapsed() >= TICK {
                noted = Instant::now();
                self.note("bytes", &format!(" {bytes}"));
            }
        }
        self.end("c0")
    }

    fn open_files(&mut self, count: u64) {
        let opened: Result<Vec<File>, _> = (0..count).map(|_| File::open("/dev/null")).collect();
        match &opened {
            Ok(files) => self.note("open", &format!(" {}", files.len())),
            Err(error) => self.note("refused", &format!(" {error}")),
        }
        self.tick_until(None);
    }
}

extern "C" fn told_to_end(_: i32) {
    TOLD_TO_END.store(true, Ordering::Relaxed);
}
