//! The start of a slave: what was supervised before goes on. Bundles on disk that the ledger does not account for are
//! taken in too, so that neither a crash between two steps nor a lost ledger leaves a process that nobody knows of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use minder_model::{Digest, Generation, Incarnation, InstanceKey};
use minder_shim::protocol::Request;
use minder_supervisor::{Live, Record, Supervisor};
use tokio::sync::mpsc;

use super::{Host, Owed, Unit};
use crate::{clock::now, os::bundle::Bundle};

impl Host {
    /// First it is found out what became of living incarnations, then the assignment counts again.
    pub(super) fn take_over(&mut self) -> Owed {
        self.account_for_bundles();
        let records: Vec<Record> = self.ledger.records().cloned().collect();
        let mut kept = BTreeSet::new();
        for record in records {
            let key = record.key.clone();
            let live = record.live.map(|live| live.incarnation);
            let supervisor = Supervisor::restore(record, now());
            let requests = live.map(|incarnation| self.attend_again(&key, incarnation, &mut kept));
            self.changed.insert(key.clone());
            self.units.insert(key, Unit::new(supervisor, requests, live.is_some()));
        }
        self.cgroups.sweep(&kept);
        let mut owed = Owed::new();
        self.assign_all(&mut owed);
        owed
    }

    /// A bundle of an incarnation whose end is in the ledger was left by a crash: its shim may go. One that the ledger
    /// never heard of counts as alive, if anything ever began in it.
    fn account_for_bundles(&mut self) {
        let known: BTreeMap<InstanceKey, Incarnation> =
            self.ledger.records().map(|record| (record.key.clone(), record.incarnation)).collect();
        let mut unknown: BTreeMap<InstanceKey, Incarnation> = BTreeMap::new();
        for (key, incarnation) in self.folders.bundles() {
            let live = self.ledger.record(&key).and_then(|record| record.live);
            if live.is_some_and(|live| live.incarnation == incarnation) {
                continue;
            }
            if known.get(&key).is_some_and(|last| incarnation <= *last) {
                tokio::spawn(release(self.folders.bundle(&key, incarnation)));
            } else if self.folders.bundle(&key, incarnation).never_began() {
                self.folders.bundle(&key, incarnation).remove();
            } else if unknown.get(&key).is_none_or(|newest| *newest < incarnation) {
                unknown.insert(key, incarnation);
            }
        }
        for (key, incarnation) in unknown {
            tracing::warn!(instance = %key, %incarnation, "the ledger does not know of it; taken over");
            let live = Live {
                incarnation,
                generation: Generation::ZERO,
                spec: Digest::default(),
                launch: Digest::default(),
                stopping: false,
                stop_mono_ms: None,
            };
            self.ledger.put_record(&Record { incarnation, live: Some(live), ..Record::new(key, now().wall_ms) });
        }
    }

    /// Its cgroup is kept, also when it is empty: what it counted has not been taken note of.
    fn attend_again(
        &mut self,
        key: &InstanceKey,
        incarnation: Incarnation,
        kept: &mut BTreeSet<PathBuf>,
    ) -> mpsc::Sender<Request> {
        let bundle = self.folders.bundle(key, incarnation);
        // The slave may have been started from another cgroup than before; the incarnation is where it was put.
        let cgroup = bundle.cgroup().unwrap_or_else(|| self.cgroups.leaf(key, incarnation));
        kept.insert(cgroup.clone());
        let hooks = self.hooks_of(key, incarnation);
        let (sender, attendant) = self.attendant(key, incarnation, cgroup, hooks);
        tokio::spawn(attendant.attend(None));
        sender
    }
}

/// Tells the shim, if there still is one, that its end was taken note of.
async fn release(bundle: Bundle) {
    use tokio::io::AsyncWriteExt;
    if let Ok(mut connection) = bundle.connect().await {
        // A shim that goes before it has read this is as well gone.
        let _ = connection.write_all(&Request::Release.encode()).await;
    }
    bundle.remove();
}
