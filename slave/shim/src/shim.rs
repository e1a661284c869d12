//! The loop: wait for the program, its output, the slave or a deadline; act; write the record when something changed.

mod daemon;

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    process::exit,
    time::{Duration, Instant},
};

use minder_shim::{
    bundle, fail_point, identity,
    launch::Launch,
    output::{Output, Tail},
    protocol::{Request, Scope},
    record::{End, Record, Stage, Step},
    tree,
};

use crate::{
    birth::Place,
    child::{self, Failed, Prepared},
    hold::Hold,
    logs::LogFile,
    socket::Socket,
    sys::{self, Reap, Reaped},
};

/// While the tree is being ended it is looked at this often.
const KILL_INTERVAL: Duration = Duration::from_millis(10);
/// After this many looks whoever is left hangs in the kernel, which may take hours: look less often.
const KILL_QUICK_LOOKS: u32 = 200;
const KILL_SLOW_INTERVAL: Duration = Duration::from_millis(500);
/// A daemon's pid file is looked for this often.
const DAEMON_INTERVAL: Duration = Duration::from_millis(20);
/// Output that the disk does not take is tried again this often where the program waits for it.
const BLOCKED_INTERVAL: Duration = Duration::from_millis(200);
/// An ended incarnation whose slave never comes leaves its record on disk and goes.
const UNCLAIMED: Duration = Duration::from_secs(24 * 60 * 60);
/// And looks this often whether that record is still there, besides when a slave goes.
const CLAIMED_INTERVAL: Duration = Duration::from_secs(60);
/// One read of a pipe takes what a default pipe holds, and more of a larger one. Memory of this size comes in pages that
/// cost nothing until a program really writes that much at once; half of it would still be cut from the heap, and touched.
const READ_BYTES: usize = 256 * 1024;
/// Read of a pipe after the tree is gone: what the largest pipe holds. More comes only from somebody else's process.
const LAST_READS_MAX: usize = 16;

/// One output stream on its way.
struct Stream {
    pipe: Option<File>,
    /// Index of its file in `Shim::logs`.
    log: usize,
    /// Output that the disk did not take yet, where the program waits for it.
    pending: Vec<u8>,
    /// The last it said.
    tail: Tail,
}

/// One incarnation.
pub struct Shim {
    launch: Launch,
    record: Record,
    record_file: File,
    socket: Socket,
    child_ended: OwnedFd,
    /// What the child needs, or why there cannot be one; gone when the program runs.
    prepared: Option<Result<Prepared, Failed>>,
    /// Where the child says whether it could execute the program; gone when it has said so.
    starting: Option<File>,
    /// Tells whether a child that was born in its cgroup came to life, until that is known.
    unborn: Option<File>,
    streams: Vec<Stream>,
    logs: Vec<LogFile>,
    buffer: Vec<u8>,
    /// Held as long as this shim lives.
    _lock: File,
    /// Set while a daemon's launcher runs or its daemon is looked for.
    daemon_deadline: Option<Instant>,
    launcher_ended: bool,
    /// Set when the main process is only the likely one: until then its clean end makes the next one likely.
    likely_until: Option<Instant>,
    killing: bool,
    kill_looks: u32,
    /// There are no children at all any more.
    tree_gone: bool,
    ended_at: Option<Instant>,
    /// The record says something that was not written or told yet.
    changed: bool,
}

impl Shim {
    /// Gets everything ready that the start needs; nothing has been started yet.
    pub fn new(hold: Hold, launch: Launch) -> Self {
        let Hold { record, record_file, socket, child_ended, lock } = hold;
        let mut shim = Self {
            launch,
            record,
            record_file,
            socket,
            child_ended,
            prepared: None,
            starting: None,
            unborn: None,
            streams: Vec::new(),
            logs: Vec::new(),
            buffer: vec![0; READ_BYTES],
            _lock: lock,
            daemon_deadline: None,
            launcher_ended: false,
            likely_until: None,
            killing: false,
            kill_looks: 0,
            tree_gone: false,
            ended_at: None,
            changed: false,
        };
        shim.prepared = Some(shim.open_logs().and_then(|()| Prepared::new(&shim.launch)));
        fail_point!("shim-logs-opened");
        shim
    }

    /// Waits until the slave lets the program start. `false` when it ends instead.
    pub fn until_let_go(&self) -> bool {
        self.socket.until_let_go()
    }

    /// Starts the program, and stays until its end was taken note of.
    pub fn run(&mut self) -> ! {
        self.record.started_at_ms = sys::wall_ms();
        self.start(Place::Cgroup);
        loop {
            self.tell();
            self.wait();
            self.look_at_start();
            self.reap();
            self.look_for_daemon();
            self.keep_killing();
            self.finish();
            if self.ended_at.is_some_and(|at| at.elapsed() >= UNCLAIMED || self.is_claimed()) {
                exit(0);
            }
        }
    }

    /// The slave took note of the end and removed the bundle, but died before it could say so.
    fn is_claimed(&self) -> bool {
        self.record_file.metadata().is_ok_and(|record| record.nlink() == 0)
    }

    fn start(&mut self, place: Place) {
        let child = match self.prepared.take() {
            Some(Ok(prepared)) => {
                let child = child::fork(&prepared, &self.launch, place);
                self.prepared = Some(Ok(prepared));
                child
            }
            Some(Err(failed)) => Err(failed),
            None => return,
        };
        match child {
            Err(failed) => {
                note_failure(&failed.detail);
                self.start_failed(failed.step, failed.errno);
            }
            Ok(mut child) => {
                fail_point!("shim-child-made");
                // On record first: whatever happens to this process now, nothing runs that nobody knows of.
                self.take_main(child.pid as u32);
                self.note();
                fail_point!("shim-identity-recorded");
                // A child that is dead already is reaped in a moment.
                let _ = child.let_go();
                fail_point!("shim-program-let-go");
                let last = self.logs.len() - 1;
                for (pipe, log) in [(Some(child.stdout), 0), (child.stderr, last)] {
                    if let Some(pipe) = pipe
                        && sys::set_nonblocking(pipe.as_raw_fd()).is_ok()
                    {
                        self.streams.push(Stream { pipe: Some(pipe), log, pending: Vec::new(), tail: Tail::default() });
                    }
                }
                self.starting = Some(child.report);
                self.unborn = child.unborn;
            }
        }
    }

    /// Whether the child has become the program by now.
    fn look_at_start(&mut self) {
        let Some(outcome) = self.starting.as_mut().and_then(child::outcome) else { return };
        self.starting = None;
        // What is being ended is not begun again.
        if outcome.is_ok() && !self.killing && self.unborn.take().is_some_and(|mut go| child::was_unborn(&mut go)) {
            self.streams.clear();
            return self.start(Place::Here);
        }
        self.prepared = None;
        match outcome {
            Ok(()) => {
                fail_point!("shim-program-executed");
                self.record.stage = Stage::Running;
                let timeout = self.launch.daemon.as_ref().map(|daemon| Duration::from_millis(daemon.launch_timeout_ms));
                self.daemon_deadline = timeout.map(|timeout| Instant::now() + timeout);
            }
            // The child ends at once; its step is the reason, not its exit code.
            Err(Failed { step, errno, detail }) => {
                note_failure(&detail);
                self.give_up(step, errno);
            }
        }
        self.changed = true;
    }

    fn open_logs(&mut self) -> Result<(), Failed> {
        let directory = PathBuf::from(OsStr::from_bytes(&self.launch.log_directory));
        let names: &[&str] = if self.launch.log_combine { &["stdout.log"] } else { &["stdout.log", "stderr.log"] };
        let opened: io::Result<Vec<LogFile>> = std::fs::create_dir_all(&directory).and_then(|()| {
            names
                .iter()
                .map(|name| LogFile::open(directory.join(name), self.launch.log_bytes_max, self.launch.log_files_max))
                .collect()
        });
        self.logs = opened.map_err(Failed::of(Step::Logs))?;
        Ok(())
    }

    fn start_failed(&mut self, step: Step, errno: i32) {
        self.record.failed_step = step;
        self.record.failed_errno = errno;
        self.record.ended_at_ms = sys::wall_ms();
        self.record.stage = Stage::StartFailed;
        self.ended_at = Some(Instant::now());
        self.changed = true;
    }

    fn take_main(&mut self, pid: u32) {
        self.record.main_pid = pid;
        self.record.main_ticks = identity::stat(pid).map_or(0, |stat| stat.start_ticks);
    }

    /// Waits for whatever comes first and deals with descriptors.
    fn wait(&mut self) {
        let (listener, connection) = self.socket.descriptors();
        let starting = self.starting.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut fds = vec![self.child_ended.as_raw_fd(), listener, connection, starting];
        fds.extend(self.streams.iter().map(|stream| match &stream.pipe {
            Some(pipe) if stream.pending.is_empty() => pipe.as_raw_fd(),
            Some(_) | None => -1,
        }));
        let mut fds: Vec<libc::pollfd> =
            fds.into_iter().map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        sys::poll(&mut fds, self.timeout_ms());
        let ready: Vec<bool> = fds.iter().map(|fd| fd.revents != 0).collect();
        if ready[0] {
            sys::drain(&self.child_ended);
        }
        for stream in 0..self.streams.len() {
            if ready[4 + stream] || !self.streams[stream].pending.is_empty() {
                self.pump(stream);
            }
        }
        // The old connection before the new one: what a slave said before it was replaced still counts.
        if ready[2] {
            self.answer();
        }
        if ready[1] {
            self.socket.accept();
            self.answer();
        }
    }

    fn timeout_ms(&self) -> i32 {
        let mut timeout = match self.ended_at {
            Some(_) => CLAIMED_INTERVAL,
            None => Duration::from_secs(3_600),
        };
        if self.killing {
            let quick = self.kill_looks < KILL_QUICK_LOOKS;
            timeout = timeout.min(if quick { KILL_INTERVAL } else { KILL_SLOW_INTERVAL });
        }
        if let Some(deadline) = self.daemon_deadline {
            let look = if self.launcher_ended { DAEMON_INTERVAL } else { Duration::MAX };
            timeout =
                timeout.min(look).min(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        }
        if self.streams.iter().any(|stream| !stream.pending.is_empty()) {
            timeout = timeout.min(BLOCKED_INTERVAL);
        }
        timeout.as_millis().min(i32::MAX as u128) as i32
    }

    /// Moves output from a pipe to its file: one read, so that nobody else waits long.
    fn pump(&mut self, at: usize) {
        let Self { streams, logs, buffer, launch, .. } = self;
        let stream = &mut streams[at];
        let log = &mut logs[stream.log];
        if !stream.pending.is_empty() {
            let written = log.write(&stream.pending);
            stream.pending.drain(..written);
            return;
        }
        let Some(pipe) = &mut stream.pipe else { return };
        match pipe.read(buffer) {
            Ok(0) => stream.pipe = None,
            Ok(read) if launch.log_block => {
                stream.tail.push(&buffer[..read]);
                let written = log.write(&buffer[..read]);
                stream.pending.extend_from_slice(&buffer[written..read]);
            }
            Ok(read) => {
                stream.tail.push(&buffer[..read]);
                log.write_or_drop(&buffer[..read]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => stream.pipe = None,
        }
    }

    fn answer(&mut self) {
        for request in self.socket.requests() {
            match request {
                Request::Hello { .. } => self.socket.tell(&self.record),
                Request::Signal { signal, scope } => {
                    fail_point!("shim-told-to-signal");
                    self.signal(signal, scope);
                    fail_point!("shim-signalled");
                }
                Request::KillTree => {
                    fail_point!("shim-told-to-kill");
                    self.killing = self.ended_at.is_none();
                }
                Request::Release if self.ended_at.is_some() => {
                    fail_point!("shim-released");
                    exit(0)
                }
                // The end has not come yet, so it cannot have been taken note of.
                Request::Release => {}
            }
        }
    }

    /// Signals only processes that are children here and not reaped yet, so that no pid can have passed on.
    fn signal(&mut self, signal: i32, scope: Scope) {
        let main = self.record.main_pid as libc::pid_t;
        if self.record.stage != Stage::Running || main <= 0 {
            return;
        }
        // Between a launcher and its daemon there is no main process, and the launcher's pid may be somebody else's.
        let scope = if self.launcher_ended && self.daemon_deadline.is_some() { Scope::All } else { scope };
        // SAFETY: kill and getpgid take integers; the main process is an unreaped child of this process.
        unsafe {
            match scope {
                Scope::Main => {
                    libc::kill(main, signal);
                }
                Scope::Group => {
                    let group = libc::getpgid(main);
                    // Never this shim's own group.
                    if group > 1 && group != libc::getpgrp() {
                        libc::killpg(group, signal);
                    }
                }
                Scope::All => tree::signal(self.record.shim_pid, signal),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match sys::reap() {
                Reap::One(reaped) => self.reaped(&reaped),
                Reap::NoneEnded => return,
                Reap::NoneLeft => {
                    self.tree_gone = true;
                    return;
                }
            }
        }
    }

    fn reaped(&mut self, reaped: &Reaped) {
        self.record.cpu_ms += reaped.cpu_ms;
        if reaped.pid as u32 == self.record.main_pid {
            // What it had to say of its start it has said.
            self.look_at_start();
        }
        if reaped.pid as u32 != self.record.main_pid || self.record.stage != Stage::Running {
            return;
        }
        let end = end_of(reaped.status);
        fail_point!("shim-main-reaped");
        if self.daemon_deadline.is_some() && !self.launcher_ended && end == End::Code(0) {
            self.launcher_ended = true;
            return;
        }
        if let Some(until) = self.likely_until
            && end == End::Code(0)
            && Instant::now() < until
            && tree::oldest_child(self.record.shim_pid).is_some()
        {
            self.daemon_deadline = Some(until);
            return;
        }
        if let Some(pid) = self.heir() {
            self.take_main(pid);
            return self.changed = true;
        }
        self.record.end = end;
        self.record.memory_peak_bytes = reaped.memory_peak_bytes;
        self.record.ended_at_ms = sys::wall_ms();
        self.record.stage = Stage::Draining;
        self.daemon_deadline = None;
        // What the main process leaves behind must not meet the next incarnation.
        self.killing = true;
        // Ending the rest may take its time, and its slave hears of that when it does.
        self.note();
        self.changed = true;
        fail_point!("shim-exit-recorded");
    }

    /// The start came to nothing while there are processes of it: they go first.
    fn give_up(&mut self, step: Step, errno: i32) {
        self.daemon_deadline = None;
        self.record.failed_step = step;
        self.record.failed_errno = errno;
        self.record.ended_at_ms = sys::wall_ms();
        self.record.stage = Stage::Draining;
        self.killing = true;
    }

    fn keep_killing(&mut self) {
        if !self.killing {
            return;
        }
        self.kill_looks = self.kill_looks.saturating_add(1);
        let cgroup = Path::new(OsStr::from_bytes(&self.launch.cgroup));
        if !self.tree_gone {
            tree::kill(self.record.shim_pid, cgroup);
            fail_point!("shim-tree-killed");
        } else if tree::is_populated(cgroup) {
            // Somebody else has put them there.
            tree::kill_cgroup(cgroup);
        }
    }

    /// The end: the tree is gone and its output is written.
    fn finish(&mut self) {
        if self.record.stage != Stage::Draining || !self.tree_gone {
            return;
        }
        fail_point!("shim-tree-empty");
        for at in 0..self.streams.len() {
            self.drain(at);
        }
        self.leave_output();
        fail_point!("shim-output-left");
        self.killing = false;
        self.record.dropped_bytes = self.logs.iter().map(|log| log.dropped).sum();
        self.record.stage = if self.record.failed_step == Step::None { Stage::Ended } else { Stage::StartFailed };
        self.ended_at = Some(Instant::now());
        self.changed = true;
    }

    /// Before the record says that all is over: whoever reads that finds this. A disk that does not take it costs this.
    /// No file says that there was no output.
    fn leave_output(&self) {
        if self.streams.iter().all(|stream| stream.tail.bytes().is_empty()) {
            return;
        }
        let none = Tail::default();
        let tail = |at: usize| self.streams.get(at).map_or(&none, |stream| &stream.tail);
        let content = Output::encode(tail(0), tail(1));
        let _ = std::fs::write(bundle::OUTPUT, content);
    }

    /// The last of a stream. Whoever may still hold its other end is none of ours, so it is not waited for; what a full
    /// disk does not take now is dropped.
    fn drain(&mut self, at: usize) {
        let Self { streams, logs, buffer, .. } = self;
        let stream = &mut streams[at];
        let log = &mut logs[stream.log];
        log.write_or_drop(&std::mem::take(&mut stream.pending));
        if let Some(mut pipe) = stream.pipe.take() {
            for _ in 0..LAST_READS_MAX {
                match pipe.read(buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        stream.tail.push(&buffer[..read]);
                        log.write_or_drop(&buffer[..read]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Writes the record. One that cannot be written is still told.
    fn note(&mut self) {
        self.record.sequence += 1;
        let _ = self.record.write(&self.record_file);
    }

    /// Writes the record and tells the slave, once for all that has changed in this turn of the loop.
    fn tell(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.note();
        if self.record.stage == Stage::Running {
            fail_point!("shim-running-recorded");
        } else if self.ended_at.is_some() {
            fail_point!("shim-end-recorded");
        }
        self.socket.tell(&self.record);
    }
}

/// Beside the record, whose form is fixed. Without room for it the record alone has to do.
fn note_failure(detail: &[u8]) {
    if !detail.is_empty() {
        let _ = std::fs::write(bundle::FAILURE, detail);
    }
}

fn end_of(status: i32) -> End {
    if libc::WIFEXITED(status) {
        End::Code(libc::WEXITSTATUS(status) as u8)
    } else {
        End::Signal(libc::WTERMSIG(status) as u8, libc::WCOREDUMP(status))
    }
}
