//! One of Minder's programs as a process that can be killed and started again.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::machine::spawn_within;

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

/// What a program is started in, beside the machine itself.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// A namespace of networks, as a file.
    pub network: Option<PathBuf>,
    /// The init of a [`crate::Machine`].
    pub machine: Option<u32>,
    /// More variables of its environment.
    pub variables: Vec<(String, String)>,
}

/// Why a program did not come up.
#[derive(Debug)]
pub struct NotReady {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
}

/// A program and its process, while there is one. Killed when dropped.
pub struct Program {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    surroundings: Surroundings,
}

impl Program {
    /// A program that is not started yet.
    pub fn new(name: impl Into<String>, program: &str, args: Vec<String>, logs: &Path) -> Self {
        let name = name.into();
        let log = logs.join(&name);
        Self { name, program: bin(program), args, log, child: None, surroundings: Surroundings::default() }
    }

    /// What the next start is in.
    pub fn set_surroundings(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
    }

    /// Starts it and gives the rest of the line in which it says that it is ready.
    pub fn start(&mut self) -> String {
        self.try_start().unwrap_or_else(|_| panic!("{} does not start: {}", self.name, self.log()))
    }

    /// The same of a program that may have good reasons not to come up.
    pub fn try_start(&mut self) -> Result<String, NotReady> {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut child = self.spawn();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.strip_prefix("ready ") {
            Some(ready) => {
                self.child = Some(child);
                Ok(ready.trim().to_owned())
            }
            None => Err(NotReady { code: child.wait().unwrap().code() }),
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.surroundings.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut namespaces: Vec<(File, libc::c_int)> = Vec::new();
        if let Some(network) = &self.surroundings.network {
            namespaces.push((File::open(network).unwrap(), libc::CLONE_NEWNET));
        }
        let child = match self.surroundings.machine {
            None => enter_before_exec(command, namespaces).spawn(),
            Some(init) => {
                namespaces.push((File::open(format!("/proc/{init}/ns/mnt")).unwrap(), libc::CLONE_NEWNS));
                spawn_within(init, enter_before_exec(command, namespaces))
            }
        };
        child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
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

    /// The exit code, once it has ended by itself; a signal's number below zero.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or_default()))
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

/// The namespaces are entered by the new process itself, between fork and exec.
fn enter_before_exec(mut command: Command, namespaces: Vec<(File, libc::c_int)>) -> Command {
    let enter = move || {
        for (namespace, kind) in &namespaces {
            // SAFETY: a system call on a descriptor that is open; the process has one thread.
            if unsafe { libc::setns(namespace.as_raw_fd(), *kind) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: nothing but system calls happens in between.
    unsafe { command.pre_exec(enter) };
    command
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
