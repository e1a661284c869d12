//! What every part of a manager shares: the Raft node, the fleet, the rings, the way to the leader.

use std::{collections::BTreeSet, sync::Arc};

use minder_model::{ClusterId, HostName, Revision};
use minder_proto::v1;
use minder_state::{Applied, Change};

use crate::{
    busy::Places, clock::wall_ms, control::Room, fleet::Fleet, forward::Leader, history::History, logs::LogBroker,
    presence::Presences, raft::Node,
};

/// One manager.
pub struct Core {
    /// Consensus and the replicated table.
    pub node: Node,
    /// What this leader sees.
    pub fleet: Arc<Fleet>,
    /// Latest changes of the desired state.
    pub history: Arc<History>,
    /// Output on its way from slaves to users.
    pub logs: LogBroker,
    /// Connections to whoever leads.
    pub leader: Leader,
    /// Backups that may be under way at once.
    pub backups: Arc<tokio::sync::Semaphore>,
    /// Room on the disk for writes.
    pub room: Room,
    /// Slaves that keep a connection to this manager, whoever leads.
    pub presences: Presences,
    /// What is bounded by number.
    pub places: Places,
    /// Whether this manager may be killed and cut off for drills.
    pub drills: bool,
}

impl Core {
    /// The cluster this manager belongs to, once it does.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.node.identity().map(|identity| identity.cluster.clone())
    }

    /// Where an answer of this manager comes from.
    pub fn position(&self, revision: Revision) -> v1::Position {
        let leadership = self.node.leadership();
        let now = leadership.borrow();
        v1::Position {
            revision: revision.0,
            term: now.term,
            leader_id: now.leader.as_ref().map_or(0, |leader| leader.id),
            leader_address: now.leader.as_ref().map(|leader| leader.client_address.clone()).unwrap_or_default(),
        }
    }

    /// Notes what silence, or its end, has changed.
    pub fn silence_event(&self, change: &minder_fleet::Change) {
        let text = change.text();
        tracing::info!(host = change.host().map(tracing::field::display), text, "silence");
        match change.host() {
            Some(host) => self.host_event(host, &text),
            None => self.fleet.events.push(v1::Event {
                time_ms: wall_ms(),
                kind: "leader".into(),
                text,
                ..Default::default()
            }),
        }
    }

    /// Notes something that happened to a host.
    pub fn host_event(&self, host: &HostName, text: &str) {
        self.fleet.events.push(v1::Event {
            time_ms: wall_ms(),
            kind: "host".into(),
            host: host.to_string(),
            text: text.into(),
            ..Default::default()
        });
    }
}

/// Takes in what was applied, in order: history first, then sessions and watchers are woken.
pub fn on_applied(history: &History, fleet: &Fleet, batch: Vec<(Revision, Applied)>) {
    let mut touched = BTreeSet::new();
    history.push(batch.into_iter().map(|(revision, applied)| {
        touched.extend(applied.touched);
        for change in &applied.changes {
            if let Change::HostDeleted(host) = change {
                fleet.forget(host);
            }
        }
        (revision, applied.changes)
    }));
    fleet.touch(&touched);
}
