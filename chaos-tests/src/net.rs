//! A network of our own: each node in a network namespace, all of them on one bridge that lies in another. Nothing of it
//! is in the machine's own network. Cuts and losses are sets of pairs of addresses in the bridge's firewall, so that they
//! meet connections that are open, one way or both.
//!
//! Every name begins with `minder-PID-` of who made it. What a run that crashed left behind is removed by the next one.

mod command;
mod sweep;

use std::{
    collections::BTreeMap,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use self::command::{run, run_with_input};
pub use self::sweep::sweep_networks;

/// `ip netns` keeps its namespaces here.
const NAMESPACES: &str = "/run/netns";
/// The namespace of the bridge.
const LAN: &str = "lan";
/// Of a hundred packets on a lossy way, so many are lost.
pub const LOST_PERCENT: u32 = 20;
/// Who answers at all does so within this on a bridge.
const REACHED_WITHIN: Duration = Duration::from_millis(300);

const RULES: &str = "
table bridge chaos {
    set cuts { type ipv4_addr . ipv4_addr; }
    set lossy { type ipv4_addr . ipv4_addr; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip saddr . ip daddr @cuts drop
        ip saddr . ip daddr @lossy numgen random mod 100 < PERCENT drop
    }
}";

/// What packets from one address to another meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// They are dropped.
    Cut,
    /// Some are dropped: [`LOST_PERCENT`].
    Lossy,
}

impl Obstacle {
    fn set(self) -> &'static str {
        match self {
            Self::Cut => "cuts",
            Self::Lossy => "lossy",
        }
    }
}

/// A way from one node to another.
pub type Way = (String, String);

/// The namespaces, the bridge, and what lies in the way. Gone when dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    nodes: BTreeMap<String, Ipv4Addr>,
    /// Faults overlap: an obstacle goes when the last fault that put it there ends.
    obstacles: Mutex<BTreeMap<(Obstacle, Ipv4Addr, Ipv4Addr), usize>>,
}

impl Network {
    /// Makes the bridge. The error says what this machine lacks.
    pub fn build() -> Result<Self, String> {
        sweep_networks();
        let prefix = format!("minder-{}-", std::process::id());
        let network = Self { prefix, nodes: BTreeMap::new(), obstacles: Mutex::default() };
        let lan = network.name(LAN);
        run("ip", &["netns", "add", &lan])?;
        run("ip", &["-n", &lan, "link", "add", "name", "br0", "type", "bridge", "forward_delay", "0"])?;
        run("ip", &["-n", &lan, "link", "set", "br0", "up"])?;
        let rules = RULES.replace("PERCENT", &LOST_PERCENT.to_string());
        network.filter(rules)?;
        Ok(network)
    }

    /// Adds a node; gives its address.
    pub fn add(&mut self, node: &str) -> Result<Ipv4Addr, String> {
        let address = Ipv4Addr::new(10, 77, 0, self.nodes.len() as u8 + 1);
        let (lan, own) = (self.name(LAN), self.name(node));
        run("ip", &["netns", "add", &own])?;
        run("ip", &["-n", &lan, "link", "add", "name", node, "type", "veth", "peer", "name", "eth0", "netns", &own])?;
        run("ip", &["-n", &lan, "link", "set", node, "master", "br0", "up"])?;
        run("ip", &["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        run("ip", &["-n", &own, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &own, "link", "set", "eth0", "up"])?;
        self.nodes.insert(node.to_owned(), address);
        Ok(address)
    }

    /// The namespace of a node, as a file.
    pub fn namespace(&self, node: &str) -> PathBuf {
        Path::new(NAMESPACES).join(self.name(node))
    }

    /// Moves the calling thread, and all that it starts from now on, to a node.
    pub fn enter(&self, node: &str) -> Result<(), String> {
        enter(&self.namespace(node))
    }

    /// Puts an obstacle into these ways.
    pub fn put(&self, obstacle: Obstacle, ways: &[Way]) -> Result<(), String> {
        let mut counts = self.obstacles.lock().unwrap();
        let mut fresh = Vec::new();
        for (from, to) in ways {
            let count = counts.entry((obstacle, self.nodes[from], self.nodes[to])).or_default();
            *count += 1;
            if *count == 1 {
                fresh.push((self.nodes[from], self.nodes[to]));
            }
        }
        self.change("add", obstacle, &fresh)
    }

    /// Takes it out again.
    pub fn take(&self, obstacle: Obstacle, ways: &[Way]) -> Result<(), String> {
        let mut counts = self.obstacles.lock().unwrap();
        let mut over = Vec::new();
        for (from, to) in ways {
            let key = (obstacle, self.nodes[from], self.nodes[to]);
            let Some(count) = counts.get_mut(&key) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
                over.push((self.nodes[from], self.nodes[to]));
            }
        }
        self.change("delete", obstacle, &over)
    }

    fn change(&self, verb: &str, obstacle: Obstacle, ways: &[(Ipv4Addr, Ipv4Addr)]) -> Result<(), String> {
        if ways.is_empty() {
            return Ok(());
        }
        let elements: Vec<String> = ways.iter().map(|(from, to)| format!("{from} . {to}")).collect();
        let change = format!("{verb} element bridge chaos {} {{ {} }}", obstacle.set(), elements.join(", "));
        self.filter(change)
    }

    /// Has the bridge's firewall do this.
    fn filter(&self, orders: String) -> Result<(), String> {
        let lan = self.namespace(LAN);
        // A thread of its own, since it does not come back from there.
        let done = std::thread::spawn(move || {
            enter(&lan)?;
            run_with_input("nft", &["-f", "-"], &orders)
        });
        done.join().unwrap()
    }

    /// Lets a node's link carry no more than this, both ways, with a queue of a third of a second.
    pub fn shape(&self, node: &str, kbit: u32) -> Result<(), String> {
        let rate = format!("{kbit}kbit");
        for (namespace, device) in self.ends(node) {
            let limits = ["root", "tbf", "rate", &rate, "burst", "16kb", "latency", "300ms"];
            run("tc", &[&["-n", &namespace, "qdisc", "replace", "dev", device][..], &limits[..]].concat())?;
        }
        Ok(())
    }

    /// Ends [`Network::shape`] and [`Network::delay`].
    pub fn unshape(&self, node: &str) -> Result<(), String> {
        for (namespace, device) in self.ends(node) {
            run("tc", &["-n", &namespace, "qdisc", "del", "dev", device, "root"])?;
        }
        Ok(())
    }

    /// Delays what a node gets. Few kernels for containers and small machines have this.
    pub fn delay(&self, node: &str, ms: u32) -> Result<(), String> {
        let (delay, jitter) = (format!("{ms}ms"), format!("{}ms", ms / 2));
        for (namespace, device) in self.ends(node) {
            run(
                "tc",
                &["-n", &namespace, "qdisc", "replace", "dev", device, "root", "netem", "delay", &delay, &jitter],
            )?;
        }
        Ok(())
    }

    /// Pulls a node's cable, or puts it in again.
    pub fn plug(&self, node: &str, into: bool) -> Result<(), String> {
        run("ip", &["-n", &self.name(LAN), "link", "set", node, if into { "up" } else { "down" }])
    }

    /// Whether a connection from one node to another comes about.
    pub fn reaches(&self, from: &str, to: &str, port: u16) -> bool {
        let (namespace, address) = (self.namespace(from), SocketAddr::from((self.nodes[to], port)));
        // A thread of its own, since it does not come back from there.
        let tried = std::thread::spawn(move || {
            enter(&namespace).is_ok() && TcpStream::connect_timeout(&address, REACHED_WITHIN).is_ok()
        });
        tried.join().unwrap_or_default()
    }

    /// Both ends of a node's cable.
    fn ends<'a>(&self, node: &'a str) -> [(String, &'a str); 2] {
        [(self.name(LAN), node), (self.name(node), "eth0")]
    }

    fn name(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in self.nodes.keys().map(String::as_str).chain([LAN]) {
            let _ = run("ip", &["netns", "del", &self.name(node)]);
        }
    }
}

/// Moves the calling thread into a network namespace.
fn enter(namespace: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("cannot enter {}: {error}", namespace.display());
    let file = File::open(namespace).map_err(say)?;
    // SAFETY: setns on an open descriptor; it concerns this thread alone.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(say(std::io::Error::last_os_error())),
    }
}
