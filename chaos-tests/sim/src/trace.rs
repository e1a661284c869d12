//! What happened: a hash of all of it, to see that one seed is one world, and the lines for people when they are wanted.

use std::{collections::BTreeMap, fmt};

use crate::network::Node;

/// Last lines of each node that a failure shows.
const LAST_LINES: usize = 12;

/// The trace of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<(u64, Node, String)>>,
}

impl Trace {
    /// With lines, or with the hash alone.
    pub fn new(with_lines: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: with_lines.then(Vec::new) }
    }

    /// Takes note of numbers that tell this event from others.
    pub fn note(&mut self, numbers: &[u64]) {
        self.events += 1;
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// Takes note of a line for people.
    pub fn say(&mut self, now: u64, node: Node, line: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push((now, node, line.to_string()));
        }
    }

    /// Hash of everything noted.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Every line, oldest first.
    pub fn whole(&self) -> String {
        let lines = self.lines.iter().flatten();
        lines.map(|(now, node, line)| format!("{:>10.3} {node:<10} {line}\n", *now as f64 / 1_000.0)).collect()
    }

    /// The last lines of each node.
    pub fn last(&self) -> String {
        let mut nodes: BTreeMap<Node, Vec<String>> = BTreeMap::new();
        for (now, node, line) in self.lines.iter().flatten() {
            nodes.entry(*node).or_default().push(format!("{:>10.3} {line}\n", *now as f64 / 1_000.0));
        }
        let last = |(node, lines): (Node, Vec<String>)| {
            let from = lines.len().saturating_sub(LAST_LINES);
            format!("  {node}\n    {}", lines[from..].join("    "))
        };
        nodes.into_iter().map(last).collect()
    }
}
