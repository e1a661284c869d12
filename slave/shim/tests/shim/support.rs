//! One shim under test: its bundle, its process and the connection a slave would have.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::chown, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use minder_shim::{
    bundle, identity,
    launch::Launch,
    protocol::{Request, decode_record, next_frame},
    record::{self, Record, Stage},
};
use tempfile::TempDir;

/// Nothing here takes longer, not even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A shim and whoever speaks to it. Dropping it ends the whole tree.
pub struct Shim {
    pub folder: TempDir,
    pub process: Child,
    stream: Option<UnixStream>,
    buffer: Vec<u8>,
    pub latest: Record,
}

/// A launch of `sh -c script` with the least around it.
pub fn shell(script: &str) -> Launch {
    Launch { command: b"/bin/sh".to_vec(), args: vec![b"-c".to_vec(), script.into()], ..program("/bin/sh") }
}

/// A launch of a program without arguments.
pub fn program(command: &str) -> Launch {
    Launch {
        command: command.into(),
        env: vec![(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())],
        log_bytes_max: 1 << 20,
        log_files_max: 3,
        ..Launch::default()
    }
}

pub fn spawn(folder: &Path) -> Child {
    command(Path::new(SHIM), folder).spawn().unwrap()
}

pub const SHIM: &str = env!("CARGO_BIN_EXE_minder-shim");

fn command(shim: &Path, folder: &Path) -> Command {
    let mut command = Command::new(shim);
    command.arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A user without any rights of its own.
pub const NOBODY: u32 = 65_534;

impl Shim {
    /// Starts one with its logs in the bundle and connects.
    pub fn start(launch: Launch) -> Self {
        Self::start_by(launch, spawn)
    }

    /// Starts one that is not root: as the user of this test, or as nobody where that is root.
    pub fn start_without_rights(launch: Launch) -> Self {
        Self::start_by(launch, |folder| match is_root() {
            false => spawn(folder),
            true => {
                chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
                // The program itself may lie where nobody may look. Copied by another process: a file that this one had
                // open for writing could be held so by what another test forks, and then not be executed.
                let shim = folder.join("shim");
                assert!(Command::new("cp").arg(SHIM).arg(&shim).status().unwrap().success());
                command(&shim, folder).uid(NOBODY).gid(NOBODY).spawn().unwrap()
            }
        })
    }

    /// The same, by a process that has entered a cgroup.
    pub fn start_in(launch: Launch, cgroup: &Path) -> Self {
        Self::start_by(launch, |folder| {
            let script = "echo $$ > \"$1\"/cgroup.procs && exec \"$0\" \"$2\"";
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", script, env!("CARGO_BIN_EXE_minder-shim")]).arg(cgroup).arg(folder);
            shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        })
    }

    fn start_by(mut launch: Launch, spawn: impl FnOnce(&Path) -> Child) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if launch.log_directory.is_empty() {
            launch.log_directory = folder.path().join("logs").into_os_string().into_encoded_bytes();
        }
        fs::write(folder.path().join(bundle::LAUNCH), launch.encode()).unwrap();
        let process = spawn(folder.path());
        let mut shim = Self { folder, process, stream: None, buffer: Vec::new(), latest: Record::default() };
        shim.connect();
        shim
    }

    /// Connects anew, as a restarted slave does.
    pub fn connect(&mut self) {
        let path = self.folder.path().join(bundle::SOCKET);
        let stream = wait_for("the socket", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        self.buffer.clear();
        self.stream = Some(stream);
        self.send(Request::Hello { version: 1 });
    }

    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    pub fn send(&mut self, request: Request) {
        self.stream.as_mut().unwrap().write_all(&request.encode()).unwrap();
    }

    /// Waits for a notice that is as wanted.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) -> Record {
        let begin = Instant::now();
        let mut bytes = [0; 1_024];
        loop {
            while let Some(content) = next_frame(&mut self.buffer).unwrap() {
                self.latest = decode_record(&content).unwrap();
                if wanted(&self.latest) {
                    return self.latest.clone();
                }
            }
            assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}: {:?}", self.latest);
            match self.stream.as_mut().unwrap().read(&mut bytes) {
                Ok(0) => panic!("the shim hung up while waiting for {what}: {:?}", self.latest),
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn until_running(&mut self) -> Record {
        self.until("a running program", |record| record.stage == Stage::Running)
    }

    pub fn until_over(&mut self) -> Record {
        self.until("the end", |record| matches!(record.stage, Stage::Ended | Stage::StartFailed))
    }

    /// Lets the shim go and waits for it.
    pub fn release(&mut self) {
        self.send(Request::Release);
        let code = wait_for("the shim's own end", || self.process.try_wait().unwrap()).code();
        assert_eq!(code, Some(0));
    }

    pub fn on_disk(&self) -> Record {
        record::read(&self.folder.path().join(bundle::RECORD)).unwrap().unwrap()
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // By killing the tree first: a shim that dies leaves its program alive, as it should.
        if matches!(self.process.try_wait(), Ok(None)) {
            if let Ok(mut stream) = UnixStream::connect(self.folder.path().join(bundle::SOCKET)) {
                let _ = stream.write_all(&Request::KillTree.encode());
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(3)
                    && !matches!(
                        record::read(&self.folder.path().join(bundle::RECORD)),
                        Ok(Some(Record { stage: Stage::Ended | Stage::StartFailed, .. }))
                    )
                {
                    sleep(Duration::from_millis(5));
                }
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if let Ok(Some(last)) = record::read(&self.folder.path().join(bundle::RECORD))
            && identity::is_alive(last.main_pid, last.main_ticks)
        {
            end(last.main_pid);
        }
    }
}

/// Kills one process that a test has started.
pub fn end(pid: u32) {
    // SAFETY: kill with two integers; the caller has checked whose pid it is.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

pub fn is_root() -> bool {
    // SAFETY: geteuid only reads.
    unsafe { libc::geteuid() == 0 }
}

/// Tries until there is an answer.
pub fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// The number a program has written into a file.
pub fn number_in(path: &Path) -> u32 {
    wait_for("a number in a file", || {
        let text = fs::read_to_string(path).ok()?;
        text.ends_with('\n').then(|| text.trim().parse().ok()).flatten()
    })
}

pub fn is_gone(pid: u32) -> bool {
    identity::stat(pid).is_none_or(|stat| stat.state == b'Z')
}
