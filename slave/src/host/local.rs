//! What people on the machine itself ask of the host and tell it. They are answered when this turn's changes are
//! durable, as managers are.

use std::collections::BTreeMap;

use minder_model::{ClusterId, InstanceKey, InstanceRef, InstanceStatus, Item, Resources, Selection};
use minder_supervisor::{Event, LocalOrder, LocalRefusal};
use tokio::sync::oneshot;

use super::{Host, Owed};
use crate::clock::now;

/// Something that is asked or told locally.
pub enum Local {
    /// Which instances there are.
    List {
        /// Those that are meant.
        selection: Selection,
        /// Takes the answer.
        reply: oneshot::Sender<Vec<Listed>>,
    },
    /// To do something.
    Order {
        /// What.
        order: LocalOrder,
        /// With those that are meant.
        selection: Selection,
        /// The user who says it.
        by: String,
        /// Takes the answer.
        reply: oneshot::Sender<Ordered>,
    },
    /// To belong to another cluster.
    Accept {
        /// Which one.
        cluster: ClusterId,
        /// The user who says it.
        by: String,
        /// Takes the answer.
        reply: oneshot::Sender<Accepted>,
    },
}

/// What a slave has left.
pub struct Accepted {
    /// The cluster it belonged to.
    pub before: Option<ClusterId>,
    /// Instances that go on.
    pub instances: usize,
}

/// One instance, wanted and seen.
pub struct Listed {
    /// What is assigned; absent when nothing is any more.
    pub item: Option<Item>,
    /// How it looks.
    pub status: InstanceStatus,
    /// What it asks for on this host.
    pub resources: Option<Resources>,
}

/// What became of an order.
#[derive(Default)]
pub struct Ordered {
    /// Told to do it.
    pub told: Vec<InstanceKey>,
    /// Not told, and why.
    pub refused: Vec<(InstanceKey, LocalRefusal)>,
    /// Terms of the selection that mean nothing here.
    pub unmatched: Vec<String>,
}

impl Host {
    pub(super) fn on_local(&mut self, local: Local, owed: &mut Owed) {
        // What managers said before it in this turn comes before it.
        self.assign_all(owed);
        match local {
            Local::List { selection, reply } => {
                let listed = self.list(&selection);
                // Whoever asked may be gone, here and below.
                self.after_sync.push(Box::new(move || drop(reply.send(listed))));
            }
            Local::Order { order, selection, by, reply } => {
                let ordered = self.order(order, &selection, &by, owed);
                self.after_sync.push(Box::new(move || drop(reply.send(ordered))));
            }
            Local::Accept { cluster, by, reply } => {
                let accepted = self.accept(cluster, &by);
                self.after_sync.push(Box::new(move || drop(reply.send(accepted))));
            }
        }
    }

    /// Moves to another cluster and touches nothing that runs.
    fn accept(&mut self, cluster: ClusterId, by: &str) -> Accepted {
        let before = self.ledger.cluster().cloned();
        if before.as_ref() != Some(&cluster) {
            let from = before.as_ref().map_or_else(|| "no cluster".to_owned(), |before| format!("cluster {before}"));
            self.events.tell_of_host(format!("moved from {from} to cluster {cluster} on the word of {by}"));
        }
        self.ledger.accept(cluster);
        Accepted { before, instances: self.units.len() }
    }

    fn list(&self, selection: &Selection) -> Vec<Listed> {
        let items = &self.ledger.assignment().items;
        let listed = |key: &InstanceKey| {
            let status = self.units.get(key)?.supervisor.status(now());
            let item = items.get(key).copied();
            let spec = item.and_then(|item| self.ledger.run_spec(&item.spec));
            Some(Listed { item, status, resources: spec.and_then(|spec| spec.spec().resources) })
        };
        self.meant(selection).iter().filter_map(|instance| listed(&instance.key)).collect()
    }

    /// Does what can be done, or nothing when a term of the selection means nothing.
    fn order(&mut self, order: LocalOrder, selection: &Selection, by: &str, owed: &mut Owed) -> Ordered {
        let meant = self.meant(selection);
        let unmatched = selection.unmatched(meant.iter());
        if !unmatched.is_empty() {
            return Ordered { unmatched, ..Ordered::default() };
        }
        let mut ordered = Ordered::default();
        for InstanceRef { key, .. } in meant {
            match self.units.get(&key).and_then(|unit| unit.supervisor.local_refusal(order)) {
                Some(refusal) => ordered.refused.push((key, refusal)),
                None => {
                    self.step(&key, Event::Local { order, by: by.into() }, owed);
                    ordered.told.push(key);
                }
            }
        }
        ordered
    }

    /// Labels are the managers' matter, and unknown here.
    fn meant(&self, selection: &Selection) -> Vec<InstanceRef> {
        let host = &self.settings.name;
        let all = self.units.keys().map(|key| InstanceRef { host: host.clone(), key: key.clone() });
        all.filter(|instance| selection.matches(instance, &BTreeMap::new())).collect()
    }
}
