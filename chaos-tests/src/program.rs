//! One of Minder's programs as a process that can be killed and started again.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Whatever ends by itself does so within this.
const EXIT_DEADLINE: Duration = Duration::from_secs(20);

/// The folder of the compiled programs: `MINDER_BIN_DIR`, or where this test was compiled to.
pub fn bin(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().unwrap().parent().unwrap().to_owned();
    let folder = std::env::var_os("MINDER_BIN_DIR").map_or(beside, PathBuf::from);
    let found = [folder.join(name), own.parent().unwrap().join(name)].into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no {name} in {}; say make build first", folder.display()))
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program and its process, while there is one. Killed when dropped.
pub struct Program {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// A program that is not started yet.
    pub fn new(name: impl Into<String>, program: &str, args: Vec<String>, logs: &Path) -> Self {
        let name = name.into();
        let log = logs.join(&name);
        Self { name, program: bin(program), args, log, child: None }
    }

    /// Starts it and gives the rest of the line in which it says that it is ready.
    pub fn start(&mut self) -> String {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        let ready =
            line.strip_prefix("ready ").unwrap_or_else(|| panic!("{} does not start: {}", self.name, self.log()));
        ready.trim().to_owned()
    }

    /// Replaces an argument's value, for addresses that are known only after the first start.
    pub fn set_arg(&mut self, flag: &str, value: &str) {
        let at = self.args.iter().position(|arg| arg == flag).unwrap();
        self.args[at + 1] = value.to_owned();
    }

    /// The next start is of the program of this name in another folder: another version.
    pub fn move_to(&mut self, folder: &Path) {
        self.program = folder.join(self.program.file_name().unwrap());
        assert!(self.program.exists(), "there is no {}", self.program.display());
    }

    /// Adds an argument for the next start.
    pub fn add_arg(&mut self, flag: &str, value: &str) {
        self.args.extend([flag.to_owned(), value.to_owned()]);
    }

    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in order; gives its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.take().unwrap().wait().unwrap().code()
    }

    /// Waits until it has ended by itself; gives its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if begin.elapsed() > EXIT_DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} does not end: {}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
