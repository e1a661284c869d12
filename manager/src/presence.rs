//! Which slaves keep a stream to this manager, whoever leads: what it can say when the leader asks for a second opinion.
//!
//! No message keeps this up to date. A stream is open while its connection's keepalive is answered, so whoever is in here
//! lived within the last ten seconds, which is less than the limit after which a host is lost.

use std::{collections::BTreeMap, sync::Mutex};

use minder_model::HostName;
use minder_proto::v1;

use crate::core::Core;

/// Hosts by name, with the number of their latest stream. One entry an open stream, so as many as connections are.
#[derive(Default)]
pub struct Presences {
    streams: Mutex<BTreeMap<HostName, u64>>,
}

impl Presences {
    /// This stream is the host's.
    pub fn begin(&self, host: &HostName, stream: u64) {
        crate::lock(&self.streams).insert(host.clone(), stream);
    }

    /// This stream is over. A later one of the same host stays.
    pub fn end(&self, host: &HostName, stream: u64) {
        let mut streams = crate::lock(&self.streams);
        if streams.get(host) == Some(&stream) {
            streams.remove(host);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        crate::lock(&self.streams).len()
    }

    /// Which of the hosts asked about are here.
    pub fn answer(&self, core: &Core, request: v1::GetPresenceRequest) -> v1::GetPresenceReply {
        let streams = crate::lock(&self.streams);
        let here = |host: &String| HostName::new(host.clone()).is_ok_and(|host| streams.contains_key(&host));
        v1::GetPresenceReply {
            manager_id: core.node.identity().map_or(0, |identity| identity.manager.0),
            hosts: request.hosts.into_iter().filter(here).collect(),
        }
    }
}
