//! `minder-shim --exec BUNDLE TIMEOUT_MS COMMAND ARG...`: runs one command as a bundle's program would run, as its user,
//! in its environment and its cgroup, and says in a line how that went, with the last of its output. `--hook NAME` instead
//! of `--exec` waits for the hook before, and tells the command its name.
//!
//! Nothing of it outlives its time, its end, or the slave that asked for it, whose end closes standard input.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::Path,
    process::exit,
    time::{Duration, Instant},
};

use minder_shim::{
    bundle, exit as code, fail_point,
    launch::Launch,
    outcome::{OUTPUT_BYTES_MAX, Outcome},
    tree,
};

use crate::{
    birth::Place,
    child::{self, Child, Failed, Prepared},
    sys::{self, Reap},
};

/// While what is left is being ended it is looked at this often.
const KILL_INTERVAL: Duration = Duration::from_millis(5);
/// Who is left after this hangs in the kernel; nobody waits for him.
const KILL_TIME: Duration = Duration::from_secs(2);
/// One read of a pipe.
const READ_BYTES: usize = 4 * 1_024;

/// Runs the command that the arguments name, as a hook of this name or as none.
pub fn run(hook: Option<OsString>, mut args: impl Iterator<Item = OsString>) -> ! {
    let (Some(folder), Some(timeout), Some(program)) = (args.next(), args.next(), args.next()) else {
        exit(code::USAGE);
    };
    let Some(timeout) = timeout.to_str().and_then(|ms| ms.parse().ok()).map(Duration::from_millis) else {
        exit(code::USAGE);
    };
    // Held until this process ends, and with it everything the hook began.
    let _lock = hook.as_ref().map(|_| hold(&Path::new(&folder).join(bundle::HOOK_LOCK)));
    fail_point!("shim-hook-lock-held");
    // The slave may have gone while this waited, or before it began.
    if slave_is_gone() {
        exit(0);
    }
    let read = |name: &str| std::fs::read(Path::new(&folder).join(name)).ok();
    let bytes = read(bundle::LAUNCH).or_else(|| read(bundle::CLOSED));
    let Some(mut launch) = bytes.and_then(|bytes| Launch::decode(&bytes).ok()) else {
        exit(code::LAUNCH);
    };
    if let Some(hook) = hook {
        // The cgroup was killed at the end, which may kill what enters it now; or the machine was restarted meanwhile.
        if hook == "post_stop" {
            launch.cgroup.clear();
        }
        launch.env.retain(|(key, _)| key != b"MINDER_HOOK");
        launch.env.push((b"MINDER_HOOK".to_vec(), hook.into_vec()));
    }
    let args = args.map(OsString::into_vec).collect();
    let launch = Launch { command: program.into_vec(), args, log_combine: true, ..launch };
    sys::detach();
    sys::become_reaper();
    let (outcome, output) = Command::begin(&launch).map_or_else(
        |failed| (Outcome::Failed(failed.step, failed.errno), failed.detail),
        |command| command.until_over(timeout),
    );
    fail_point!("shim-hook-run");
    end_all();
    let mut answer = outcome.line().into_bytes();
    answer.extend(output);
    // A slave that is gone needs no answer.
    let _ = io::stdout().write_all(&answer);
    exit(0)
}

/// Waits until no other hook of this bundle is under way. Without the folder there is nothing to run.
fn hold(path: &Path) -> File {
    let Ok(lock) = File::create(path) else { exit(code::BUNDLE) };
    // SAFETY: flock on a descriptor that lives until the process ends.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        exit(code::LOCKED);
    }
    lock
}

fn slave_is_gone() -> bool {
    let mut slave = [libc::pollfd { fd: 0, events: 0, revents: 0 }];
    sys::poll(&mut slave, 0);
    slave[0].revents != 0
}

struct Command {
    child: Child,
    child_ended: OwnedFd,
    output: Vec<u8>,
    /// Its output has ended, or the slave has.
    silent: bool,
    reported: Option<Failed>,
    status: Option<i32>,
}

impl Command {
    fn begin(launch: &Launch) -> Result<Self, Failed> {
        let errno = |error: io::Error| Failed {
            step: minder_shim::record::Step::Fork,
            errno: error.raw_os_error().unwrap_or_default(),
            detail: Vec::new(),
        };
        let child_ended = sys::child_signal_fd().map_err(errno)?;
        // A check may wait for the kernel; one that is ended at its birth would be a failure that was none.
        let mut child = child::fork(&Prepared::new(launch)?, launch, Place::Here)?;
        sys::set_nonblocking(child.stdout.as_raw_fd()).map_err(errno)?;
        // A child that is dead already is reaped in a moment.
        let _ = child.let_go();
        Ok(Self { child, child_ended, output: Vec::new(), silent: false, reported: None, status: None })
    }

    fn until_over(mut self, timeout: Duration) -> (Outcome, Vec<u8>) {
        let deadline = Instant::now() + timeout;
        let outcome = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slave_gone = self.wait(left);
            self.reap();
            if let Some(status) = self.status {
                self.read();
                break match self.look_at_start() {
                    Some(failed) => return (Outcome::Failed(failed.step, failed.errno), failed.detail),
                    None if libc::WIFEXITED(status) => Outcome::Exit(libc::WEXITSTATUS(status) as u8),
                    None => Outcome::Signal(libc::WTERMSIG(status) as u8),
                };
            }
            if slave_gone || Instant::now() >= deadline {
                self.read();
                break Outcome::TimedOut;
            }
        };
        (outcome, self.output)
    }

    /// Waits for its end, its output or the slave's end, which alone is told.
    fn wait(&mut self, left: Duration) -> bool {
        let stdout = if self.silent { -1 } else { self.child.stdout.as_raw_fd() };
        let mut fds = [self.child_ended.as_raw_fd(), stdout, 0].map(|fd| libc::pollfd {
            fd,
            events: if fd == 0 { 0 } else { libc::POLLIN },
            revents: 0,
        });
        // Rounded up, so that the last wait is not a busy one.
        sys::poll(&mut fds, left.as_millis().min(i32::MAX as u128 - 1) as i32 + 1);
        if fds[0].revents != 0 {
            sys::drain(&self.child_ended);
        }
        if fds[1].revents != 0 {
            self.read();
        }
        fds[2].revents != 0
    }

    /// Takes what there is of its output and keeps the last of it. A flood is read in turn with everything else.
    fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        match (&self.child.stdout as &File).read(&mut buffer) {
            Ok(0) => self.silent = true,
            Ok(read) => {
                self.output.extend_from_slice(&buffer[..read]);
                let surplus = self.output.len().saturating_sub(OUTPUT_BYTES_MAX);
                self.output.drain(..surplus);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.silent = true,
        }
    }

    fn look_at_start(&mut self) -> Option<Failed> {
        if self.reported.is_none()
            && let Some(Err(failed)) = child::outcome(&mut self.child.report)
        {
            self.reported = Some(failed);
        }
        self.reported.take()
    }

    fn reap(&mut self) {
        while let Reap::One(reaped) = sys::reap() {
            if reaped.pid == self.child.pid {
                self.status = Some(reaped.status);
            }
        }
    }
}

/// Kills whatever the command left, whichever session it went to.
fn end_all() {
    let deadline = Instant::now() + KILL_TIME;
    loop {
        match sys::reap() {
            Reap::One(_) => {}
            Reap::NoneLeft => return,
            Reap::NoneEnded if Instant::now() >= deadline => return,
            Reap::NoneEnded => {
                tree::kill(std::process::id(), Path::new(""));
                std::thread::sleep(KILL_INTERVAL);
            }
        }
    }
}
