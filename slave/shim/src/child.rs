//! Starting the program: everything is prepared, then one fork, a list of steps in the child, and exec. A step that
//! fails reports itself and its errno through a pipe that a successful exec closes.
//!
//! The child does nothing before it is let go, and the shim lets it go when its identity is on record. So there is never
//! a program that nobody knows of: where the shim dies first, the child sees its pipe close and ends.

mod account;
mod env_files;

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
};

use minder_shim::{launch::Launch, record::Step};

use self::account::{Account, User, describe, find_group, find_user, groups_of};
use crate::{
    birth::{Place, birth},
    sys::{check, pipe, set_nonblocking},
};

/// A start that came to nothing.
pub struct Failed {
    /// Which step.
    pub step: Step,
    /// The kernel's reason; 0 when it was not the kernel that refused.
    pub errno: i32,
    /// Which of several, where the step alone does not say; empty else.
    pub detail: Vec<u8>,
}

impl Failed {
    fn new(step: Step, errno: i32) -> Self {
        Self { step, errno, detail: Vec::new() }
    }

    /// This step failed as the kernel says.
    pub fn of(step: Step) -> impl Fn(io::Error) -> Self {
        move |error| Self::new(step, error.raw_os_error().unwrap_or_default())
    }
}

/// A child that waits to be let go.
pub struct Child {
    /// Its pid.
    pub pid: i32,
    /// One byte here lets it go.
    pub go: File,
    /// Says what [`outcome`] reads.
    pub report: File,
    /// Reading end of its standard output.
    pub stdout: File,
    /// Reading end of its standard error, unless it goes with standard output.
    pub stderr: Option<File>,
    /// The other end of `go`, for a child that was born in its cgroup: see [`was_unborn`].
    pub unborn: Option<File>,
}

impl Child {
    /// Lets it become the program.
    pub fn let_go(&mut self) -> io::Result<()> {
        self.go.write_all(&[1])
    }
}

/// What has become of a child that was let go: nothing to be said yet, it executes the program (or is dead, which the
/// wait will tell), or a step failed. Never waits: a program on a file system that hangs must not take the shim with it.
pub fn outcome(report: &mut File) -> Option<Result<(), Failed>> {
    let mut message = [0; REPORT_BYTES_MAX];
    match report.read(&mut message) {
        Ok(read @ REPORT_BYTES..) => {
            let [step, a, b, c, d, detail @ ..] = &message;
            let (step, errno) = (Step::from_number(*step), i32::from_le_bytes([*a, *b, *c, *d]));
            Some(Err(Failed { step, errno, detail: detail[..read - REPORT_BYTES].to_vec() }))
        }
        Ok(_) => Some(Ok(())),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        Err(_) => Some(Ok(())),
    }
}

/// Whether a child that is gone without a word never came to life: what let it go is still there. Never waits.
pub fn was_unborn(go: &mut File) -> bool {
    set_nonblocking(go.as_raw_fd()).is_ok() && matches!(go.read(&mut [0]), Ok(1))
}

/// A step's number and an errno, then the detail, if any.
const REPORT_BYTES: usize = 5;
/// A pipe takes so little whole or not at all.
const REPORT_BYTES_MAX: usize = 1_024;

/// Makes the child. It waits to be let go.
pub fn fork(prepared: &Prepared, launch: &Launch, place: Place) -> Result<Child, Failed> {
    let fork_failed = Failed::of(Step::Fork);
    let (stdout, stdout_write) = pipe().map_err(&fork_failed)?;
    let (stderr, stderr_write) = match launch.log_combine {
        true => (None, None),
        false => pipe().map(|(read, write)| (Some(read), Some(write))).map_err(&fork_failed)?,
    };
    let (report, report_write) = pipe().map_err(&fork_failed)?;
    let (go_read, go) = pipe().map_err(&fork_failed)?;
    set_nonblocking(report.as_raw_fd()).map_err(&fork_failed)?;
    // SAFETY: this process has one thread, so the child may do anything until it executes or exits.
    let (pid, place) = unsafe { birth(&launch.cgroup, place) }.map_err(fork_failed)?;
    match pid {
        0 => {
            // This copy of the other end would keep the shim's death from being seen.
            drop(go);
            if !matches!((&go_read).read(&mut [0]), Ok(1)) {
                // SAFETY: ends this process without running anything else.
                unsafe { libc::_exit(126) };
            }
            let stderr_fd = stderr_write.as_ref().unwrap_or(&stdout_write).as_raw_fd();
            let failed = prepared.become_program(launch, place, stdout_write.as_raw_fd(), stderr_fd);
            let mut message = vec![failed.step.number()];
            message.extend_from_slice(&failed.errno.to_le_bytes());
            message.extend_from_slice(&failed.detail);
            message.truncate(REPORT_BYTES_MAX);
            // SAFETY: writes a few bytes from a live buffer, then ends this process without running anything else.
            unsafe {
                libc::write(report_write.as_raw_fd(), message.as_ptr().cast(), message.len());
                libc::_exit(127);
            }
        }
        pid => {
            let unborn = (place == Place::Cgroup).then_some(go_read);
            Ok(Child { pid, go, report, stdout, stderr, unborn })
        }
    }
}

/// Everything that needs look-ups, done before the fork.
pub struct Prepared {
    argv: Vec<CString>,
    /// The environment without what files of variables add to it.
    env: Env,
    working_directory: CString,
    cgroup_procs: Option<CString>,
    account: Option<Account>,
    /// Who the program runs as, if anybody knows him.
    user: Option<User>,
}

/// Variables and their values.
type Env = Vec<(Vec<u8>, Vec<u8>)>;

/// What exec takes, made before limits may leave no memory for it.
struct Ready {
    /// Paths to try, in order.
    paths: Vec<CString>,
    envp: Vec<CString>,
}

/// Where programs are looked for when no `PATH` says it.
const PATH_DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn text(bytes: &[u8], step: Step) -> Result<CString, Failed> {
    CString::new(bytes).map_err(|_| Failed::new(step, libc::EINVAL))
}

/// Has this process know how users are found, as all that are forked from it then do.
pub fn know_own_user() {
    // SAFETY: geteuid only reads.
    describe(unsafe { libc::geteuid() });
}

impl Prepared {
    /// Looks up what a launch needs.
    pub fn new(launch: &Launch) -> Result<Self, Failed> {
        let user = if launch.user.is_empty() { None } else { Some(find_user(&launch.user)?) };
        let group = if launch.group.is_empty() { None } else { Some(find_group(&launch.group)?) };
        // SAFETY: getegid and geteuid only read.
        let (own_uid, own_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let uid = user.as_ref().map_or(own_uid, |user| user.uid);
        let gid = group.or(user.as_ref().map(|user| user.gid)).unwrap_or(own_gid);
        // Who is no superuser can still ask to be himself.
        let already = own_uid != 0 && (uid, gid) == (own_uid, own_gid);
        let account = match (&user, group) {
            (None, None) => None,
            _ if already => None,
            (Some(user), _) => {
                let blame = if group.is_some() { Step::Group } else { Step::User };
                Some(Account { uid, gid, groups: groups_of(&text(&user.name, Step::User)?, gid), blame })
            }
            (None, Some(_)) => Some(Account { uid, gid, groups: vec![gid], blame: Step::Group }),
        };
        let argv: Result<Vec<_>, _> =
            std::iter::once(&launch.command).chain(&launch.args).map(|arg| text(arg, Step::Exec)).collect();
        let directory: &[u8] = if launch.working_directory.is_empty() { b"/" } else { &launch.working_directory };
        let cgroup_procs = match launch.cgroup.is_empty() {
            true => None,
            false => Some(text(&[&launch.cgroup, b"/cgroup.procs".as_slice()].concat(), Step::Cgroup)?),
        };
        Ok(Self {
            argv: argv?,
            env: launch.env.clone(),
            working_directory: text(directory, Step::WorkingDirectory)?,
            cgroup_procs,
            account,
            user: user.or_else(|| describe(own_uid)),
        })
    }

    /// Completes the environment. In the child, so that a file that hangs holds up nothing but this start.
    fn ready(&self, launch: &Launch) -> Result<Ready, Failed> {
        let mut env = self.env.clone();
        if !launch.env_files.is_empty() {
            add_missing(&mut env, env_files::read(&launch.env_files, self.account.as_ref())?);
            add_missing(&mut env, [(b"PATH".to_vec(), PATH_DEFAULT.to_vec())]);
        }
        if let Some(user) = &self.user {
            let known: [(&[u8], &[u8]); 4] =
                [(b"HOME", &user.home), (b"USER", &user.name), (b"LOGNAME", &user.name), (b"SHELL", &user.shell)];
            let known = known.into_iter().filter(|(_, value)| !value.is_empty());
            add_missing(&mut env, known.map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        let envp: Result<Vec<_>, _> =
            env.iter().map(|(key, value)| text(&[key, b"=".as_slice(), value].concat(), Step::Exec)).collect();
        Ok(Ready { paths: candidates(launch, &env)?, envp: envp? })
    }

    /// Runs in the child and returns only when a step failed.
    fn become_program(&self, launch: &Launch, place: Place, stdout: i32, stderr: i32) -> Failed {
        match self.steps(launch, place, stdout, stderr) {
            Ok(never) => match never {},
            Err(failed) => failed,
        }
    }

    fn steps(
        &self,
        launch: &Launch,
        place: Place,
        stdout: i32,
        stderr: i32,
    ) -> Result<std::convert::Infallible, Failed> {
        let at = Failed::of;
        // The limits below may leave no memory and no descriptors, so whatever needs those comes first.
        let ready = self.ready(launch)?;
        let (argv, envp) = (pointers(&self.argv), pointers(&ready.envp));
        // SAFETY: every pointer below is to memory of this process that outlives the call; nothing else runs here.
        unsafe {
            // A session of its own: a program that signals its session reaches nobody else.
            check(libc::setsid()).map_err(at(Step::Fork))?;
            if let Some(procs) = self.cgroup_procs.as_ref().filter(|_| place == Place::Here) {
                let fd =
                    check(libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)).map_err(at(Step::Cgroup))?;
                check(libc::write(fd, c"0".as_ptr().cast(), 1) as i32).map_err(at(Step::Cgroup))?;
            }
            let null =
                check(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)).map_err(at(Step::Fork))?;
            for (from, to) in [(null, 0), (stdout, 1), (stderr, 2)] {
                check(libc::dup2(from, to)).map_err(at(Step::Fork))?;
            }
            // Nothing that a library may have opened goes along. A kernel before 5.11 knows no such flag; then each
            // descriptor's own flag has to do.
            libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            set_oom_score(launch.oom_score_adjust).map_err(at(Step::OomScore))?;
            if let Some(nice) = launch.nice {
                check(libc::setpriority(libc::PRIO_PROCESS, 0, nice)).map_err(at(Step::Nice))?;
            }
            if let Some(umask) = launch.umask {
                libc::umask(umask);
            }
            for (resource, soft, hard) in &launch.limits {
                let limit = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
                let failed = |error| Failed { detail: resource.to_string().into(), ..at(Step::Limit)(error) };
                check(libc::setrlimit(*resource as _, &raw const limit)).map_err(failed)?;
            }
            if let Some(account) = &self.account {
                account.give_output();
                account.take()?;
            }
            if launch.no_new_privileges {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).map_err(at(Step::NoNewPrivileges))?;
            }
            check(libc::chdir(self.working_directory.as_ptr())).map_err(at(Step::WorkingDirectory))?;
            reset_signals();
            execute(&ready.paths, &argv, &envp).map_err(at(Step::Exec))
        }
    }
}

/// Tries the paths as execvp(3) does: a file that may not be executed is remembered while the search goes on.
fn execute(
    paths: &[CString],
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> io::Result<std::convert::Infallible> {
    let mut refused = None;
    for path in paths {
        // SAFETY: both arrays come from `pointers`: they end with a null pointer and point to live C strings.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => refused = Some(error),
            _ => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
}

/// Adds the variables whose names are not there yet.
fn add_missing(env: &mut Env, more: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
    for (key, value) in more {
        if !env.iter().any(|(there, _)| *there == key) {
            env.push((key, value));
        }
    }
}

/// The form that exec takes.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Shims are protected from the out-of-memory killer as their slave is; programs are not, unless they are to be.
fn set_oom_score(wanted: Option<i32>) -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let inherited = || std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    match wanted.or_else(|| inherited().filter(|score| *score < 0).map(|_| 0)) {
        Some(score) => std::fs::write(FILE, score.to_string()),
        None => Ok(()),
    }
}

/// Where the program may be.
fn candidates(launch: &Launch, env: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<CString>, Failed> {
    if launch.command.contains(&b'/') {
        return Ok(vec![text(&launch.command, Step::Exec)?]);
    }
    let path = env.iter().find(|(key, _)| key == b"PATH").map_or(PATH_DEFAULT, |(_, value)| value.as_slice());
    let directories = path.split(|byte| *byte == b':').filter(|directory| !directory.is_empty());
    directories.map(|directory| text(&[directory, b"/", &launch.command].concat(), Step::Exec)).collect()
}

/// Programs expect the defaults, not what a supervisor ignores or blocks.
fn reset_signals() {
    // SAFETY: integer arguments and a set that sigemptyset initialises.
    unsafe {
        // By the kernel's own call, for the C library keeps two signals to itself. All zero is the default.
        let default = [0_u64; 4];
        for signal in 1_i64..65 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8 as libc::c_ulong,
            );
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
