//! A cluster on loopback: managers and slaves as processes, with an address of their own so that ports stay theirs over
//! restarts.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use minder_client::{Client, v1};
use tempfile::TempDir;

use crate::{descendants_of, eventually, is_alive, pids_with, program::Program, remove_group};

static CLUSTERS: AtomicU8 = AtomicU8::new(1);

/// How many of what.
#[derive(Debug, Clone, Copy)]
pub struct ClusterShape {
    /// 1, 3 or 5.
    pub managers: usize,
    /// Any number.
    pub slaves: usize,
}

/// A running cluster. Everything of it ends when it is dropped; its folder stays when the test has failed.
pub struct Cluster {
    /// Managers, by number from 0.
    pub managers: Vec<Program>,
    /// Slaves, by number from 0; their hosts are `host-1` and so on.
    pub slaves: Vec<Program>,
    /// Client addresses of the managers.
    pub addresses: Vec<String>,
    folder: Option<TempDir>,
    loopback: Ipv4Addr,
    /// Managers so far.
    started: usize,
    /// Where new managers' program is, when it is another version.
    programs: Option<PathBuf>,
}

/// The managers' configuration file, in the cluster's folder.
const MANAGER_TOML: &str = "manager.toml";

impl Cluster {
    /// Starts everything and waits until every slave has a session.
    pub async fn start(shape: ClusterShape) -> Self {
        Self::start_configured(shape, "").await
    }

    /// The same with managers that have this in their configuration files.
    pub async fn start_configured(shape: ClusterShape, manager_toml: &str) -> Self {
        Self::start_from(shape, manager_toml, &[], None).await
    }

    /// The same with slaves that have more words on their command lines.
    pub async fn start_with(shape: ClusterShape, manager_toml: &str, slave_words: &[&str]) -> Self {
        Self::start_from(shape, manager_toml, slave_words, None).await
    }

    /// The same with managers of the program in another folder.
    pub async fn start_from(
        shape: ClusterShape,
        manager_toml: &str,
        slave_words: &[&str],
        programs: Option<&Path>,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("minder-chaos-").tempdir().unwrap();
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(folder.path().join(MANAGER_TOML), manager_toml).unwrap();
        let mut cluster = Self {
            managers: Vec::new(),
            slaves: Vec::new(),
            addresses: Vec::new(),
            folder: Some(folder),
            loopback: own_loopback(),
            started: 0,
            programs: programs.map(Path::to_owned),
        };
        let peers = (0..shape.managers).map(|_| cluster.start_manager()).collect();
        cluster.client_of(0).init(peers).await.unwrap();
        for number in 1..=shape.slaves {
            let slave = cluster.new_slave(number, &logs, slave_words);
            cluster.slaves.push(slave);
        }
        cluster.wait_for_sessions(shape.slaves).await;
        cluster
    }

    /// Starts one more manager, which belongs to nothing yet; gives its peer address.
    pub fn start_manager(&mut self) -> String {
        self.started += 1;
        let name = format!("manager-{}", self.started);
        let data = self.path().join(&name);
        let free = format!("{}:0", self.loopback);
        let config = self.path().join(MANAGER_TOML);
        let args = ["--config", path(&config), "--data", path(&data), "--listen", &free, "--peer-listen", &free];
        let args = args.map(String::from).to_vec();
        let mut manager = Program::new(name, "minder-manager", args, &self.path().join("logs"));
        if let Some(folder) = &self.programs {
            manager.move_to(folder);
        }
        let ready = manager.start();
        let (client, peer) = ready.strip_prefix("client=").unwrap().split_once(" peer=").unwrap();
        manager.set_arg("--listen", client);
        manager.set_arg("--peer-listen", peer);
        self.addresses.push(client.to_owned());
        self.managers.push(manager);
        peer.to_owned()
    }

    fn new_slave(&self, number: usize, logs: &Path, words: &[&str]) -> Program {
        let data = self.path().join(format!("slave-{number}"));
        let name = format!("host-{number}");
        let address = format!("127.0.0.1:{}", 9_000 + number);
        let managers = self.addresses.join(",");
        let args = ["--name", &name, "--data", path(&data), "--managers", &managers, "--address", &address];
        let args = args.iter().chain(words).map(ToString::to_string).collect();
        let mut slave = Program::new(format!("slave-{number}"), "minder-slave", args, logs);
        slave.start();
        slave
    }

    /// The cluster's folder.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// A client that knows every manager, beginning with this one.
    pub fn client_from(&self, manager: usize) -> Client {
        let mut servers = self.addresses.clone();
        servers.rotate_left(manager);
        Client::new(servers).unwrap()
    }

    /// A client that knows every manager.
    pub fn client(&self) -> Client {
        self.client_from(0)
    }

    /// A client that knows only this manager.
    pub fn client_of(&self, manager: usize) -> Client {
        Client::new(vec![self.addresses[manager].clone()]).unwrap()
    }

    /// A client that knows every manager but this one.
    pub fn client_without(&self, manager: usize) -> Client {
        let mut servers = self.addresses.clone();
        servers.remove(manager);
        Client::new(servers).unwrap()
    }

    /// How every reachable manager stands.
    pub async fn statuses(&self) -> Vec<v1::ManagerStatus> {
        self.client().managers(false).await.map(|reply| reply.managers).unwrap_or_default()
    }

    /// The number of the leader, waiting for one.
    pub async fn leader(&self) -> usize {
        eventually("somebody leads", || async {
            let statuses = self.statuses().await;
            let leader = statuses.iter().find(|status| status.role == "leader")?;
            let address = &leader.member.as_ref()?.client_address;
            self.addresses.iter().position(|known| known == address)
        })
        .await
    }

    /// Waits until this many slaves have a session and nobody is owed a report.
    pub async fn wait_for_sessions(&self, slaves: usize) {
        eventually("every slave has a session", || async {
            let hosts = self.client().hosts(vec![]).await.ok()?.hosts;
            let connected = |host: &&v1::Host| host.condition() == v1::HostCondition::Connected && host.usage.is_some();
            (hosts.iter().filter(connected).count() >= slaves).then_some(())
        })
        .await;
    }

    /// Waits until every selected instance runs and nothing is owed.
    pub async fn wait_until_running(&self, selection: v1::Selection, count: usize) -> Vec<v1::Instance> {
        eventually("everything selected runs", || async {
            let instances = self.client().instances(selection.clone()).await.ok()?.instances;
            let runs = |instance: &v1::Instance| instance.owed.is_empty() && pid(instance) > 0;
            (instances.len() == count && instances.iter().all(runs)).then_some(instances)
        })
        .await
    }

    /// Waits until every manager answers and follows a leader.
    pub async fn wait_until_answering(&self) {
        eventually("every manager answers", || async {
            let statuses = self.statuses().await;
            let follows = |status: &v1::ManagerStatus| matches!(status.role.as_str(), "leader" | "follower");
            (statuses.len() == self.managers.len() && statuses.iter().all(follows)).then_some(())
        })
        .await;
    }

    /// Waits until all managers have applied the same and gives the hash that all of them have.
    pub async fn wait_until_in_step(&self) -> String {
        eventually("all managers are in step", || async {
            let statuses = self.statuses().await;
            let first = statuses.first()?.clone();
            let same = |status: &v1::ManagerStatus| {
                status.applied_index == first.applied_index && status.state_hash == first.state_hash
            };
            (statuses.len() == self.managers.len() && statuses.iter().all(same)).then_some(first.state_hash)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.slaves.clear();
        self.managers.clear();
        let Some(folder) = self.folder.take() else { return };
        end_shims(folder.path());
        if std::thread::panicking() {
            eprintln!("the cluster's folder is kept: {}", folder.keep().display());
        }
    }
}

/// Ends what the shims below a folder parent, then the shims; removes the groups that slaves had for them.
pub(crate) fn end_shims(folder: &Path) {
    end_trees(folder);
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    inside.filter(|path| path.is_dir()).for_each(|data| remove_group(&data));
}

fn end_trees(folder: &Path) {
    let kill = |pid: u32| {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    };
    for _ in 0..200 {
        let shims = pids_with(&format!("minder-shim {}", folder.display()));
        if shims.is_empty() {
            return;
        }
        for shim in shims {
            let below = descendants_of(shim);
            below.iter().copied().for_each(kill);
            if below.into_iter().all(|pid| !is_alive(pid)) {
                kill(shim);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("some shims below {} did not end", folder.display());
}

/// An address of this test's own, so that a manager which restarts finds its port free.
fn own_loopback() -> Ipv4Addr {
    let [_, _, middle, low] = std::process::id().to_be_bytes();
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 128 | (cluster & 0x3f), middle, low.max(1))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn pid(instance: &v1::Instance) -> u32 {
    instance.status.as_ref().map_or(0, |status| status.pid)
}

/// Everything.
pub fn all() -> v1::Selection {
    v1::Selection { all: true, ..Default::default() }
}

/// What these terms select.
pub fn named(terms: &[&str]) -> v1::Selection {
    v1::Selection { terms: terms.iter().map(ToString::to_string).collect(), ..Default::default() }
}
