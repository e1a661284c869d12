//! The network: who reaches whom, and the streams between slaves and managers. A stream keeps its order; two of them do
//! not keep each other's. What is on its way when a link is cut waits for the link, as TCP has it, until one side gives up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use crate::message::Message;

/// Somebody on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A manager, from 0.
    Manager(usize),
    /// A host, from 0.
    Host(usize),
    /// An operator, from 0.
    Operator(usize),
    /// Nobody: faults and judgements.
    World,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(at) => f.pad(&format!("manager {at}")),
            Self::Host(at) => f.pad(&format!("host {at}")),
            Self::Operator(at) => f.pad(&format!("operator {at}")),
            Self::World => f.pad("world"),
        }
    }
}

/// The way of a message on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the manager.
    Up,
    /// To the slave.
    Down,
}

/// One stream.
#[derive(Debug)]
pub struct Connection {
    /// Its manager.
    pub manager: usize,
    /// Its host.
    pub host: usize,
    /// What is on its way up and down, and when it is there at the earliest. `None` is the end of the stream.
    pub up: VecDeque<(u64, Option<Message>)>,
    /// See `up`.
    pub down: VecDeque<(u64, Option<Message>)>,
}

impl Connection {
    /// What goes one way.
    pub fn queue(&mut self, way: Way) -> &mut VecDeque<(u64, Option<Message>)> {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// From whom to whom a way goes.
    pub fn ends(&self, way: Way) -> (Node, Node) {
        let (manager, host) = (Node::Manager(self.manager), Node::Host(self.host));
        match way {
            Way::Up => (host, manager),
            Way::Down => (manager, host),
        }
    }
}

/// Links and streams.
#[derive(Debug, Default)]
pub struct Network {
    blocked: BTreeSet<(Node, Node)>,
    /// Streams by number.
    pub connections: BTreeMap<u64, Connection>,
    opened: u64,
    /// A message takes from 1 up to this long, in milliseconds.
    pub latency_ms_max: u64,
}

impl Network {
    /// Cuts one direction.
    pub fn block(&mut self, from: Node, to: Node) {
        self.blocked.insert((from, to));
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    /// Whether messages get from one to the other.
    pub fn reaches(&self, from: Node, to: Node) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// Whether both reach each other.
    pub fn both_ways(&self, one: Node, other: Node) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    /// Opens a stream.
    pub fn open(&mut self, manager: usize, host: usize) -> u64 {
        self.opened += 1;
        let connection = Connection { manager, host, up: VecDeque::new(), down: VecDeque::new() };
        self.connections.insert(self.opened, connection);
        self.opened
    }

    /// The streams of a node.
    pub fn of(&self, node: Node) -> Vec<u64> {
        let is_its =
            |connection: &Connection| node == Node::Manager(connection.manager) || node == Node::Host(connection.host);
        self.connections.iter().filter(|(_, connection)| is_its(connection)).map(|(number, _)| *number).collect()
    }
}
