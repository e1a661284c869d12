//! The world that is hurt: managers and machines with slaves, each at a place of its own in a network of its own, on disks
//! and machines of their own where this machine allows it. Where it does not, the world says by name what it lacks, and the
//! nemeses that need it are skipped with that reason.

mod journal;
mod lease;
mod parts;
mod programs;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use minder_client::Client;

pub use self::{
    journal::{Journal, Note, now},
    lease::{Lease, Leases, Needs},
    parts::{Host, Manager},
    programs::ManagedProgram,
};
use crate::{Disk, Machine, Network, Way, cluster::end_shims, disk::sweep_disks};

/// The node from which everybody asks.
const CLIENT: &str = "client";
/// Folders of runs begin with this and the pid.
pub const FOLDER: &str = "minder-chaos-";
/// Every manager's disk. The table is small; what full disks need is that filling one takes no time.
const DISK_MIB: u64 = 384;
const MANAGER_TOML: &str = "\
disk_floor_mib = 64
suspect_ms = 2000
lost_ms = 6000
insecure = true
[raft]
snapshot_every_entries = 2000
keep_entries = 500
";
/// A question to somebody who may be dead.
const SHORT: Duration = Duration::from_secs(2);

/// How many of what.
#[derive(Debug, Clone, Copy)]
pub struct WorldShape {
    /// Managers of the cluster, 3 or 5. One more stands by to be added.
    pub managers: usize,
    /// Machines with a slave.
    pub hosts: usize,
}

/// The world. Everything of it ends when it is dropped, but for its folder.
pub struct World {
    /// Managers, the one that stands by included.
    pub managers: Vec<Manager>,
    /// Machines with a slave.
    pub hosts: Vec<Host>,
    /// Who is being hurt.
    pub leases: Leases,
    /// What was done to the fleet, by whomever.
    pub journal: Journal,
    /// How many of the managers are in the cluster.
    pub voters: usize,
    /// Whoever changes which managers those are.
    pub changing: tokio::sync::Mutex<()>,
    folder: PathBuf,
    lacks: Lacks,
    /// Last: what is in it ends first.
    network: Option<Network>,
}

/// What this machine does not have, each with the reason.
#[derive(Debug, Default)]
pub struct Lacks {
    /// Namespaces of networks.
    pub network: Option<String>,
    /// File systems in files.
    pub disks: Option<String>,
    /// Namespaces of processes.
    pub machines: Option<String>,
    /// A library that tells a program another time.
    pub clock: Option<String>,
}

impl World {
    /// Lays everything out; nothing runs yet. The calling thread, and all that it starts, asks from now on from a node of
    /// its own. The folder is the world's and must be empty.
    pub fn lay_out(shape: WorldShape, folder: PathBuf) -> Self {
        sweep_disks(FOLDER);
        let mut lacks = Lacks::default();
        let mut network = Network::build().map_err(|why| lacks.network = Some(why)).ok();
        let clock = parts::clock_library().map_err(|why| lacks.clock = Some(why)).ok();
        for name in ["logs", "disks", "clocks", "accounts"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("manager.toml"), MANAGER_TOML).unwrap();
        let place = Place { folder: &folder, clock: clock.as_deref() };
        let managers: Vec<Manager> = (1..=shape.managers + 1)
            .map(|number| {
                let name = format!("m{number}");
                let address = address(&mut network, &name, number);
                let disk = lacks.disks.is_none().then(|| make_disk(&folder, &name));
                let disk = disk.and_then(|made| made.map_err(|why| lacks.disks = Some(why)).ok());
                Manager::new(name, address, network.as_ref(), disk, &place)
            })
            .collect();
        let addresses: Vec<String> = managers.iter().map(|manager| manager.client_address.clone()).collect();
        let hosts = (1..=shape.hosts)
            .map(|number| {
                let name = format!("h{number}");
                let address = address(&mut network, &name, 20 + number);
                Host::new(number, address, network.as_ref(), &addresses, &place)
            })
            .collect();
        if let Some(network) = &mut network {
            network.add(CLIENT).unwrap();
            network.enter(CLIENT).unwrap();
        }
        let journal = Journal::new(&folder.join("fleet.jsonl"));
        let leases = Leases::new(shape.managers);
        let mut world = Self {
            managers,
            hosts,
            leases,
            journal,
            voters: shape.managers,
            changing: tokio::sync::Mutex::default(),
            folder,
            lacks,
            network,
        };
        world.lacks.machines = world.switch_on().err();
        world
    }

    fn switch_on(&self) -> Result<(), String> {
        for host in &self.hosts {
            host.write_boot_id();
            let machine = Machine::boot(&host.boot_id)?;
            host.put_into(Some(machine));
        }
        Ok(())
    }

    /// Starts all of it and forms the cluster.
    pub async fn begin(&self) -> Result<(), String> {
        for manager in &self.managers {
            manager.start().map_err(|not_ready| format!("{} does not start: {not_ready:?}", manager.name))?;
        }
        let peers = self.managers[..self.voters].iter().map(|manager| manager.peer_address.clone()).collect();
        self.client_of(0).init(peers).await.map_err(|error| error.to_string())?;
        for manager in &self.managers[..self.voters] {
            manager.set_member(true);
        }
        for host in &self.hosts {
            host.start().map_err(|not_ready| format!("{} does not start: {not_ready:?}", host.name))?;
        }
        Ok(())
    }

    /// What this machine does not have.
    pub fn lacks(&self) -> &Lacks {
        &self.lacks
    }

    /// The network. Nemeses that need one are skipped where there is none.
    pub fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    /// The world's folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Where the programs keep their accounts.
    pub fn accounts(&self) -> PathBuf {
        self.folder.join("accounts")
    }

    fn addresses(&self) -> Vec<String> {
        self.managers.iter().map(|manager| manager.client_address.clone()).collect()
    }

    /// A client that knows every manager, beginning with this one.
    pub fn client_from(&self, manager: usize) -> Client {
        let mut addresses = self.addresses();
        addresses.rotate_left(manager % self.managers.len());
        Client::new(addresses).unwrap()
    }

    /// A client that knows only this manager.
    pub fn client_of(&self, manager: usize) -> Client {
        Client::new(vec![self.managers[manager].client_address.clone()]).unwrap()
    }

    /// The leader's number, if anybody says who it is.
    pub async fn leader(&self) -> Option<usize> {
        let client = self.client_from(0).with_deadline(SHORT);
        let statuses = tokio::time::timeout(SHORT, client.managers(false)).await.ok()?.ok()?.managers;
        let leader = statuses.into_iter().find(|status| status.role == "leader")?.member?;
        self.managers.iter().position(|manager| manager.client_address == leader.client_address)
    }

    /// Numbers of the managers in the cluster.
    pub fn members(&self) -> Vec<usize> {
        (0..self.managers.len()).filter(|manager| self.managers[*manager].is_member()).collect()
    }

    /// The ways between some nodes and others, in both directions.
    pub fn ways(&self, some: &[String], others: &[String]) -> Vec<Way> {
        let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (one.clone(), other.clone())));
        pairs
            .filter(|(one, other)| one != other)
            .flat_map(|(one, other)| [(one.clone(), other.clone()), (other, one)])
            .collect()
    }

    /// Names of these managers' nodes.
    pub fn nodes(&self, managers: &[usize]) -> Vec<String> {
        managers.iter().map(|manager| self.managers[*manager].name.clone()).collect()
    }

    /// Names of all nodes but these.
    pub fn nodes_but(&self, some: &[String]) -> Vec<String> {
        let managers = self.managers.iter().map(|manager| manager.name.clone());
        let all = managers.chain(self.hosts.iter().map(|host| host.node.clone())).chain([CLIENT.to_owned()]);
        all.filter(|node| !some.contains(node)).collect()
    }

    /// The node that everybody asks from.
    pub fn client_node(&self) -> String {
        CLIENT.to_owned()
    }

    /// Programs that have ended although nobody ended them, and what they panicked about.
    pub fn complaints(&self) -> Vec<String> {
        self.managers.iter().for_each(Manager::stand_by);
        let managers = self.managers.iter().filter_map(Manager::complaint);
        managers.chain(self.hosts.iter().filter_map(Host::complaint)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for host in &self.hosts {
            host.switch_off();
        }
        for manager in &self.managers {
            manager.kill();
        }
        end_shims(&self.folder);
    }
}

/// What all parts need to know of where they are.
struct Place<'a> {
    folder: &'a Path,
    clock: Option<&'a Path>,
}

fn make_disk(folder: &Path, name: &str) -> Result<Disk, String> {
    let image = folder.join(format!("{name}.ext4"));
    Disk::make(image, folder.join("disks").join(name), DISK_MIB)
}

/// A node's address; on loopback, where there is no network, one that is this process' own.
fn address(network: &mut Option<Network>, name: &str, number: usize) -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    match network {
        Some(network) => network.add(name).unwrap(),
        None => Ipv4Addr::new(127, 64 | (number as u8 & 0x3f), middle ^ high, low.max(1)),
    }
}
