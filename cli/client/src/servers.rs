//! Which manager to ask next: the leader where it is known, else the list in turn.

use std::collections::BTreeMap;

use tonic::transport::Channel;

/// Most addresses that are ever asked in turn: a cluster has at most nine managers, some with a new address by now.
const LISTED_MAX: usize = 32;

/// The managers and the connections to them.
#[derive(Debug)]
pub(crate) struct Servers {
    listed: Vec<String>,
    /// So many of them are those that the client was made for.
    given: usize,
    next: usize,
    leader: Option<String>,
    /// Each manager is asked as long as it helps, whoever leads.
    in_turn: bool,
    /// A leader's address that could not be reached from here, though managers may reach it. They pass calls on.
    unreachable_leader: Option<String>,
    channels: BTreeMap<String, Channel>,
}

impl Servers {
    pub(crate) fn new(listed: Vec<String>) -> Self {
        let given = listed.len();
        Self {
            listed,
            given,
            next: 0,
            leader: None,
            in_turn: false,
            unreachable_leader: None,
            channels: BTreeMap::new(),
        }
    }

    /// A manager that an answer named, or that has answered itself, is asked too from now on, so that a client outlives a
    /// change of all the managers it was made for. Those stay; one that cannot be reached from here goes again.
    pub(crate) fn learn(&mut self, address: &str) {
        let known = self.listed.iter().any(|listed| listed == address);
        if !address.is_empty() && !known && self.listed.len() < LISTED_MAX {
            self.listed.push(address.to_string());
        }
    }

    pub(crate) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// Whom to ask now.
    pub(crate) fn pick(&self) -> String {
        self.leader.clone().unwrap_or_else(|| self.listed[self.next % self.listed.len()].clone())
    }

    /// From now on no leader is asked first.
    pub(crate) fn take_turns(&mut self) {
        self.in_turn = true;
        self.leader = None;
    }

    /// An answer named the leader; it is asked first from now on.
    pub(crate) fn learn_leader(&mut self, address: &str) {
        if self.in_turn || address.is_empty() || self.unreachable_leader.as_deref() == Some(address) {
            return;
        }
        self.unreachable_leader = None;
        self.leader = Some(address.to_string());
    }

    /// This manager did not help: the next one in the list is asked.
    pub(crate) fn failed(&mut self, address: &str, connected: bool) {
        if self.leader.as_deref() == Some(address) {
            self.leader = None;
            if !connected && !self.listed.iter().any(|listed| listed == address) {
                self.unreachable_leader = Some(address.to_string());
            }
        }
        let at = self.listed.iter().position(|listed| listed == address);
        if !connected && let Some(at) = at.filter(|at| *at >= self.given) {
            self.listed.remove(at);
            self.next %= self.listed.len();
        } else if self.listed[self.next % self.listed.len()] == address {
            self.next = (self.next + 1) % self.listed.len();
        }
        self.channels.remove(address);
    }

    pub(crate) fn channel(&self, address: &str) -> Option<Channel> {
        self.channels.get(address).cloned()
    }

    pub(crate) fn keep_channel(&mut self, address: &str, channel: Channel) {
        self.channels.insert(address.to_string(), channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_asked_first_and_the_list_in_turn() {
        let mut servers = Servers::new(vec!["a:1".into(), "b:1".into()]);
        assert_eq!(servers.pick(), "a:1");
        servers.failed("a:1", false);
        assert_eq!(servers.pick(), "b:1");
        servers.learn_leader("c:1");
        assert_eq!(servers.pick(), "c:1");
        servers.failed("c:1", false);
        assert_eq!(servers.pick(), "b:1");
        servers.learn_leader("c:1");
        assert_eq!(servers.pick(), "b:1", "an address that cannot be reached from here is not tried over and over");
        servers.learn_leader("a:1");
        assert_eq!(servers.pick(), "a:1");
    }

    #[test]
    fn in_turn_a_leader_is_nobody_special() {
        let mut servers = Servers::new(vec!["a:1".into(), "b:1".into()]);
        servers.learn_leader("b:1");
        servers.take_turns();
        assert_eq!(servers.pick(), "a:1");
        servers.learn_leader("b:1");
        assert_eq!(servers.pick(), "a:1");
        servers.failed("a:1", true);
        assert_eq!(servers.pick(), "b:1");
    }

    #[test]
    fn managers_that_came_later_are_asked_in_turn() {
        let mut servers = Servers::new(vec!["a:1".into()]);
        for address in ["b:1", "a:1", "", "b:1"] {
            servers.learn(address);
        }
        assert_eq!(servers.listed(), ["a:1", "b:1"]);
        servers.failed("a:1", false);
        assert_eq!(servers.pick(), "b:1");
        servers.failed("b:1", true);
        servers.failed("a:1", true);
        assert_eq!(servers.pick(), "b:1");
        servers.failed("b:1", false);
        assert_eq!((servers.pick().as_str(), servers.listed().len()), ("a:1", 1), "it was only hearsay");
        (0..100).for_each(|port| servers.learn(&format!("c:{port}")));
        assert_eq!(servers.listed().len(), LISTED_MAX);
    }
}
