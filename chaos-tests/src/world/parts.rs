//! One manager and one machine, with all that is needed to start and to hurt them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use uuid::Uuid;

use super::Place;
use crate::{
    Disk, Machine, Network,
    program::{NotReady, Program, Surroundings},
};

const CLIENT_PORT: u16 = 7701;
const PEER_PORT: u16 = 7702;

/// The library that tells a program another time, by a file.
pub(super) fn clock_library() -> Result<PathBuf, String> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.ok_or_else(|| "there is no libfaketimeMT.so.1 (Debian's package faketime)".to_owned())
}

/// A clock that a program believes, as long as it believes the library.
#[derive(Debug)]
struct Clock {
    file: PathBuf,
    library: Option<PathBuf>,
}

impl Clock {
    fn new(place: &Place<'_>, name: &str) -> Self {
        let clock = Self { file: place.folder.join("clocks").join(name), library: place.clock.map(Path::to_path_buf) };
        clock.set(0);
        clock
    }

    /// Replaced as a whole, for it may be read at any moment.
    fn set(&self, seconds: i64) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).unwrap();
        fs::rename(next, &self.file).unwrap();
    }

    fn variables(&self) -> Vec<(String, String)> {
        let Some(library) = &self.library else { return Vec::new() };
        let variables = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            // The clock that only goes forward stays what it is, as it does when somebody sets a machine's clock.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_CACHE_DURATION", "1"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

/// Exit code of a manager that is called by an id and finds its folder empty.
const EMPTIED: i32 = 12;

/// A manager.
pub struct Manager {
    /// Its node.
    pub name: String,
    /// Where users and slaves ask.
    pub client_address: String,
    /// Where the others are.
    pub peer_address: String,
    /// Its data folder.
    pub data: PathBuf,
    /// What that is on, where it is one of its own.
    pub disk: Option<Disk>,
    program: Mutex<Program>,
    clock: Clock,
    member: AtomicBool,
    starts: AtomicU64,
}

impl Manager {
    pub(super) fn new(
        name: String,
        address: Ipv4Addr,
        network: Option<&Network>,
        disk: Option<Disk>,
        place: &Place<'_>,
    ) -> Self {
        let root = disk.as_ref().map_or_else(|| place.folder.join("disks").join(&name), |disk| disk.path().to_owned());
        let data = root.join("data");
        let (client_address, peer_address) = (format!("{address}:{CLIENT_PORT}"), format!("{address}:{PEER_PORT}"));
        let config = place.folder.join("manager.toml");
        let args = [
            "--config",
            text(&config),
            "--data",
            text(&data),
            "--listen",
            &client_address,
            "--peer-listen",
            &peer_address,
        ];
        let logs = place.folder.join("logs");
        let mut program = Program::new(&name, "minder-manager", args.map(String::from).to_vec(), &logs);
        let clock = Clock::new(place, &name);
        let network = network.map(|network| network.namespace(&name));
        program.set_surroundings(Surroundings { network, machine: None, variables: clock.variables() });
        let (member, starts) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { name, client_address, peer_address, data, disk, program: Mutex::new(program), clock, member, starts }
    }

    /// Whether it is in the cluster.
    pub fn is_member(&self) -> bool {
        self.member.load(Ordering::Relaxed)
    }

    /// It came to the cluster or left it.
    pub fn set_member(&self, member: bool) {
        self.member.store(member, Ordering::Relaxed);
    }

    /// Its process.
    pub fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap()
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Result<String, NotReady> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        tokio::task::block_in_place(|| self.program().try_start())
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// `kill -9`; its disk is let go first, since who hangs there cannot die.
    pub fn kill(&self) {
        if let Some(disk) = &self.disk {
            disk.thaw();
        }
        self.program().kill();
    }

    /// From now on its clock is so many seconds beside the machine's.
    pub fn set_clock(&self, seconds: i64) {
        self.clock.set(seconds);
    }

    /// Starts one that stands by again.
    pub(super) fn stand_by(&self) {
        if !self.is_member() {
            self.back_when_emptied();
        }
    }

    /// Starts it again, as its machine would, when somebody who did not know yet that it was removed has called it by the id it
    /// had: with an empty folder it ends then.
    pub(crate) fn back_when_emptied(&self) {
        if self.program().ended() == Some(EMPTIED) {
            // What is wrong with it then is found with everybody's complaints.
            let _ = self.start();
        }
    }

    /// That it has ended by itself, or has panicked.
    pub(super) fn complaint(&self) -> Option<String> {
        complaint(&self.name, &mut self.program())
    }
}

/// A machine with a slave.
pub struct Host {
    /// Its node.
    pub node: String,
    /// Its name in the cluster.
    pub name: String,
    /// The slave's data folder.
    pub data: PathBuf,
    pub(super) boot_id: PathBuf,
    network: Option<PathBuf>,
    machine: Mutex<Option<Machine>>,
    slave: Mutex<Program>,
    clock: Clock,
}

impl Host {
    pub(super) fn new(
        number: usize,
        address: Ipv4Addr,
        network: Option<&Network>,
        managers: &[String],
        place: &Place<'_>,
    ) -> Self {
        let (node, name) = (format!("h{number}"), format!("host-{number}"));
        let data = place.folder.join(&node);
        let announced = format!("{address}:8888");
        let managers = managers.join(",");
        let args = ["--name", &name, "--data", text(&data), "--managers", &managers, "--address", &announced];
        let slave = Program::new(&node, "minder-slave", args.map(String::from).to_vec(), &place.folder.join("logs"));
        let clock = Clock::new(place, &node);
        let network = network.map(|network| network.namespace(&node));
        let boot_id = place.folder.join(format!("{node}.boot-id"));
        Self { node, name, data, boot_id, network, machine: Mutex::default(), slave: Mutex::new(slave), clock }
    }

    /// Draws another boot id for the next time it is switched on.
    pub(super) fn write_boot_id(&self) {
        fs::write(&self.boot_id, format!("{}\n", Uuid::new_v4())).unwrap();
    }

    /// The next start of the slave is on this machine.
    pub(super) fn put_into(&self, machine: Option<Machine>) {
        let init = machine.as_ref().map(Machine::init);
        *self.machine.lock().unwrap() = machine;
        let surroundings =
            Surroundings { network: self.network.clone(), machine: init, variables: self.clock.variables() };
        self.slave().set_surroundings(surroundings);
    }

    /// The slave's process.
    pub fn slave(&self) -> MutexGuard<'_, Program> {
        self.slave.lock().unwrap()
    }

    /// Starts the slave and waits until it is ready.
    pub fn start(&self) -> Result<String, NotReady> {
        if self.machine.lock().unwrap().is_none() {
            self.put_into(None);
        }
        tokio::task::block_in_place(|| self.slave().try_start())
    }

    /// `kill -9` of the slave alone.
    pub fn kill(&self) {
        self.slave().kill();
    }

    /// Switches the machine off: everything on it ends at once.
    pub fn switch_off(&self) {
        let machine = self.machine.lock().unwrap().take().map(|mut machine| {
            machine.switch_off();
            machine
        });
        self.slave().kill();
        drop(machine);
    }

    /// Switches it on again with another boot id; its slave is not started yet.
    pub fn switch_on(&self) -> Result<(), String> {
        self.write_boot_id();
        let machine = tokio::task::block_in_place(|| Machine::boot(&self.boot_id))?;
        self.put_into(Some(machine));
        Ok(())
    }

    /// From now on its slave's clock is so many seconds beside the machine's.
    pub fn set_clock(&self, seconds: i64) {
        self.clock.set(seconds);
    }

    pub(super) fn complaint(&self) -> Option<String> {
        complaint(&self.node, &mut self.slave())
    }
}

fn complaint(name: &str, program: &mut Program) -> Option<String> {
    let panicked = program.log().lines().find(|line| line.contains("panicked at")).map(str::to_owned);
    let ended = program.ended().map(|code| format!("has ended by itself with {code}"));
    panicked.or(ended).map(|what| format!("{name}: {what}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
