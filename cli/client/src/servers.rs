//! Which manager to ask next: the leader where it is known, else the list in turn.

use std::collections::BTreeMap;

use tonic::transport::Channel;

/// The managers and the connections to them.
#[derive(Debug)]
pub(crate) struct Servers {
    listed: Vec<String>,
    next: usize,
    leader: Option<String>,
    /// A leader's address that could not be reached from here, though managers may reach it. They pass calls on.
    unreachable_leader: Option<String>,
    channels: BTreeMap<String, Channel>,
}

impl Servers {
    pub(crate) fn new(listed: Vec<String>) -> Self {
        Self { listed, next: 0, leader: None, unreachable_leader: None, channels: BTreeMap::new() }
    }

    pub(crate) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// Whom to ask now.
    pub(crate) fn pick(&self) -> String {
        self.leader.clone().unwrap_or_else(|| self.listed[self.next % self.listed.len()].clone())
    }

    /// An answer named the leader; it is asked first from now on.
    pub(crate) fn learn_leader(&mut self, address: &str) {
        if address.is_empty() || self.unreachable_leader.as_deref() == Some(address) {
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
        if self.listed[self.next % self.listed.len()] == address {
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
}
