//! Who is measured, and how each is made to supervise the same program. Peers run in folders of their own, never as
//! services of the machine, and end by their pid.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_chaos_tests::{
    Cluster, ClusterShape, all, bin, descendants_of, eventually_within, is_alive, mono_now, pids_with,
};
use minder_client::{Write, v1};
use minder_model::{HostName, Millis, ProcessName, RestartPolicy, Spec};
use nix::{sys::signal::Signal, unistd::Pid};

use crate::{PATIENCE, floor};

/// A peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This project: one manager, one slave, a shim each.
    Minder,
    /// runsvdir and a runsv each.
    Runit,
    /// One process.
    Supervisord,
    /// The bare loop.
    Floor,
}

/// A peer at work.
pub struct Running {
    /// Which one.
    pub kind: Kind,
    /// Where the children write.
    pub account: PathBuf,
    /// When it was told to start them, where that is later than its own start.
    pub began: Option<Duration>,
    folder: PathBuf,
    keeper: Keeper,
}

enum Keeper {
    Cluster(Box<Cluster>),
    Process(Child),
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Minder, Kind::Runit, Kind::Supervisord, Kind::Floor];

    /// Those that can be measured here.
    pub fn installed() -> Vec<Kind> {
        let is_there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(program).exists())
        };
        let installed = |kind: &Kind| match kind {
            Kind::Minder | Kind::Floor => true,
            Kind::Runit => is_there("runsvdir") && is_there("runsv"),
            Kind::Supervisord => is_there("supervisord"),
        };
        Self::ALL.into_iter().filter(installed).collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minder => "minder",
            Self::Runit => "runit",
            Self::Supervisord => "supervisord",
            Self::Floor => "bare loop",
        }
    }

    /// Starts it with this many children.
    pub async fn start(self, count: usize, folder: &Path) -> Running {
        fs::create_dir_all(folder).unwrap();
        let account = folder.join("account");
        let (keeper, began) = match self {
            Self::Minder => {
                let cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
                let began = mono_now();
                cluster.client().apply(&[spec(count, &account)], &Write::default()).await.unwrap();
                (Keeper::Cluster(Box::new(cluster)), Some(began))
            }
            Self::Runit => {
                let services = runit_services(count, folder, &account);
                let began = mono_now();
                (Keeper::Process(spawn(Command::new("runsvdir").arg(services))), Some(began))
            }
            Self::Supervisord => {
                let settings = supervisord_settings(count, folder, &account);
                let began = mono_now();
                let mut command = Command::new("supervisord");
                (Keeper::Process(spawn(command.args(["--nodaemon", "--configuration"]).arg(settings))), Some(began))
            }
            Self::Floor => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args([floor::ARGUMENT, &count.to_string()]).arg(bin("bench-child")).arg(&account);
                let began = mono_now();
                (Keeper::Process(spawn(&mut command)), Some(began))
            }
        };
        Running { kind: self, account, began, folder: folder.into(), keeper }
    }
}

impl Running {
    /// Every start so far: when, and which pid.
    pub fn starts(&self) -> Vec<(Duration, u32)> {
        starts(&self.account)
    }

    /// The process that decides.
    pub fn main_pid(&self) -> u32 {
        match &self.keeper {
            Keeper::Cluster(cluster) => cluster.slaves[0].pid(),
            Keeper::Process(child) => child.id(),
        }
    }

    /// The processes beside it that supervise.
    pub fn other_pids(&self) -> Vec<u32> {
        match &self.keeper {
            Keeper::Cluster(cluster) => pids_with(&format!("minder-shim {}", cluster.path().display())),
            Keeper::Process(child) if self.kind == Kind::Runit => descendants_of(child.id())
                .into_iter()
                .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "runsv"))
                .collect(),
            Keeper::Process(_) => Vec::new(),
        }
    }

    /// Stops every child in the peer's own way, and waits until all are gone.
    pub async fn stop(&mut self) {
        let mut left: Vec<u32> = self.starts().into_iter().map(|(_, pid)| pid).filter(|pid| is_alive(*pid)).collect();
        match &mut self.keeper {
            Keeper::Cluster(cluster) => {
                let order = v1::OrderKind::Stop;
                cluster.client().order(order, 0, all(), &Write::default()).await.unwrap();
            }
            // runsvdir passes only HUP on to its runsv.
            Keeper::Process(child) => {
                let signal = if self.kind == Kind::Runit { Signal::SIGHUP } else { Signal::SIGTERM };
                nix::sys::signal::kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            }
        }
        let name = format!("everything of {} in {} is stopped", self.kind.name(), self.folder.display());
        eventually_within(PATIENCE, &name, || {
            left.retain(|pid| is_alive(*pid));
            let done = left.is_empty();
            async move { done.then_some(()) }
        })
        .await;
        if let Keeper::Process(child) = &mut self.keeper {
            child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A cluster ends what it started itself.
        let Keeper::Process(child) = &mut self.keeper else { return };
        if matches!(child.try_wait(), Ok(None)) {
            let kill = |pid: u32| {
                // Whoever has gone meanwhile needs none.
                let _ = nix::sys::signal::kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            };
            let below = descendants_of(child.id());
            kill(child.id());
            // From the top down, so that nobody is started again.
            below.into_iter().for_each(kill);
            let _ = child.wait();
        }
    }
}

/// Every start written down so far.
pub fn starts(account: &Path) -> Vec<(Duration, u32)> {
    let text = fs::read_to_string(account).unwrap_or_default();
    let start = |line: &str| {
        let (nanoseconds, pid) = line.split_once(' ')?;
        Some((Duration::from_nanos(nanoseconds.parse().ok()?), pid.parse().ok()?))
    };
    // A line that is being written has no end yet.
    text.split_inclusive('\n').filter_map(|line| start(line.strip_suffix('\n')?)).collect()
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn spec(count: usize, account: &Path) -> Spec {
    let mut spec = Spec::new(ProcessName::new("bench").unwrap(), bin("bench-child").to_str().unwrap());
    spec.args = vec![account.to_str().unwrap().to_owned()];
    spec.hosts = vec![HostName::new("host-1").unwrap()];
    spec.instances = count as u32;
    spec.restart.policy = RestartPolicy::Always;
    spec.restart.delay = Millis(0);
    spec.restart.jitter_percent = 0;
    spec.restart.limit = 0;
    spec
}

/// A folder of services, each with the run script that everybody writes.
fn runit_services(count: usize, folder: &Path, account: &Path) -> PathBuf {
    let services = folder.join("services");
    for number in 1..=count {
        let service = services.join(number.to_string());
        fs::create_dir_all(&service).unwrap();
        let script = format!("#!/bin/sh\nexec {} {}\n", bin("bench-child").display(), account.display());
        let run = service.join("run");
        fs::write(&run, script).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    }
    services
}

/// No server, no log of its own, and the shortest time after which it takes a process for running.
fn supervisord_settings(count: usize, folder: &Path, account: &Path) -> PathBuf {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    let folder_name = folder.display();
    let settings = format!(
        "[supervisord]\nlogfile={folder_name}/log\npidfile={folder_name}/pid\nchildlogdir={folder_name}\n\
         minfds=20000\nminprocs=5000\nuser={user}\n\
         [program:bench]\ncommand={} {}\nprocess_name=%(program_name)s_%(process_num)04d\nnumprocs={count}\n\
         autorestart=true\nstartsecs=0\n",
        bin("bench-child").display(),
        account.display()
    );
    let file = folder.join("supervisord.conf");
    fs::write(&file, settings).unwrap();
    file
}
