//! The start of a slave: what was supervised before goes on. Bundles on disk that the ledger does not account for are
//! taken in too, so that neither a crash between two steps nor a lost ledger leaves a process that nobody knows of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use minder_model::{Digest, Generation, Incarnation, InstanceKey};
use minder_shim::{fail_point, protocol::Request};
use minder_supervisor::{Live, Record, Supervisor};
use tokio::sync::mpsc;

use super::{Host, Owed, Unit};
use crate::{
    clock::now,
    os::{bundle::Bundle, stray::StrayPlace},
};

impl Host {
    /// First it is found out what became of living incarnations, then the assignment counts again.
    pub(super) fn take_over(&mut self) -> Owed {
        let unknown = self.account_for_bundles();
        fail_point!("bundles-accounted-for");
        let kept: BTreeSet<PathBuf> = self.ledger.records().filter_map(|record| self.live_leaf(record)).collect();
        self.find_strays(unknown, &kept);
        let records: Vec<Record> = self.ledger.records().cloned().collect();
        for record in records {
            let key = record.key.clone();
            let live = record.live.map(|live| live.incarnation);
            let supervisor = Supervisor::restore(record, now()).taking_turns();
            let requests = live.map(|incarnation| self.attend_again(&key, incarnation));
            self.changed.insert(key.clone());
            self.units.insert(key, Unit::new(supervisor, requests, live.is_some()));
        }
        fail_point!("taken-over");
        let mut owed = Owed::new();
        self.assign_all(&mut owed);
        owed
    }

    /// A bundle of an incarnation whose end is in the ledger was left by a crash: its shim may go. One that the ledger
    /// knows nothing of, or takes for ended although it lives, counts as the instance's living incarnation, so that none
    /// starts beside it; where nothing ever began there is nothing to count. Gives those that the ledger did not know.
    fn account_for_bundles(&mut self) -> Vec<StrayPlace> {
        let mut unknown: BTreeMap<InstanceKey, StrayPlace> = BTreeMap::new();
        let mut beside = Vec::new();
        for (key, incarnation) in self.folders.bundles() {
            let record = self.ledger.record(&key);
            let live = record.and_then(|record| record.live);
            let place = self.stray_place(&key, incarnation);
            if let Some(live) = live.filter(|live| live.incarnation == incarnation) {
                // Adopted by the slave before this one, and nobody has said anything of it since.
                beside.extend(Some(place).filter(|_| is_unknown(&live)));
                continue;
            }
            let live = live.map(|live| live.incarnation);
            let is_there = place.look().is_some();
            let is_noted = record.is_some_and(|record| incarnation <= record.incarnation);
            let other_lives = live.is_some_and(|live| self.stray_place(&key, live).look().is_some());
            if !is_there && (is_noted || other_lives) {
                tokio::spawn(release(self.folders.bundle(&key, incarnation)));
            } else if !is_there && self.folders.bundle(&key, incarnation).never_began() {
                self.folders.bundle(&key, incarnation).remove();
            } else if other_lives || unknown.get(&key).is_some_and(|newer| newer.incarnation > incarnation) {
                beside.push(place);
            } else {
                beside.extend(unknown.insert(key, place));
            }
        }
        for (key, place) in &unknown {
            self.adopt(key, place.incarnation);
        }
        unknown.into_values().chain(beside).collect()
    }

    /// Has an incarnation that the ledger does not know count as the living one.
    fn adopt(&mut self, key: &InstanceKey, incarnation: Incarnation) {
        tracing::warn!(instance = %key, %incarnation, "the ledger does not know of it; taken over");
        let live = Live {
            incarnation,
            generation: Generation::ZERO,
            spec: Digest::default(),
            launch: Digest::default(),
            stopping: false,
            stop_mono_ms: None,
        };
        let record = self.ledger.record(key).cloned().unwrap_or_else(|| Record::new(key.clone(), now().wall_ms));
        let latest = record.incarnation.max(incarnation);
        self.ledger.put_record(&Record { incarnation: latest, live: Some(live), ..record });
    }

    /// Where its living incarnation is. The slave may have been started from another cgroup than before; the incarnation
    /// is where it was put.
    fn live_leaf(&self, record: &Record) -> Option<PathBuf> {
        let incarnation = record.live?.incarnation;
        Some(self.leaf_of(&record.key, incarnation))
    }

    pub(super) fn leaf_of(&self, key: &InstanceKey, incarnation: Incarnation) -> PathBuf {
        let named = self.folders.bundle(key, incarnation).cgroup();
        named.unwrap_or_else(|| self.cgroups.leaf(key, incarnation))
    }

    fn attend_again(&mut self, key: &InstanceKey, incarnation: Incarnation) -> mpsc::Sender<Request> {
        let cgroup = self.leaf_of(key, incarnation);
        let hooks = self.hooks_of(key, incarnation);
        let (sender, attendant) = self.attendant(key, incarnation, cgroup, hooks);
        tokio::spawn(attendant.attend(None));
        sender
    }
}

/// Whether the ledger has only the number of it.
fn is_unknown(live: &Live) -> bool {
    (live.generation, live.spec) == (Generation::ZERO, Digest::default())
}

/// Tells the shim, if there still is one, that its end was taken note of.
async fn release(bundle: Bundle) {
    use tokio::io::AsyncWriteExt;
    if let Ok(mut connection) = bundle.connect().await {
        // A shim that goes before it has read this is as well gone.
        let _ = connection.write_all(&Request::Release.encode()).await;
    }
    fail_point!("left-shim-released");
    bundle.remove();
}
