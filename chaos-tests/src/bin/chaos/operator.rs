//! An operator with one toy: it stops it and starts it, restarts and changes it, and notes what it is told.

use std::{fs::File, os::fd::AsRawFd, sync::Arc, time::Duration};

use minder_chaos_tests::{Chance, Note, World, named, now};
use minder_client::{Client, Error, Write, v1};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{fleet, workload::Shared};

/// What is not done within this is left, as it may well be while machines are off.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

struct Operator {
    shared: Arc<Shared>,
    client: Client,
    process: String,
    instance: String,
    kind: &'static str,
    host: String,
    changes: u64,
}

/// Orders one toy about until all is over.
pub async fn operate(shared: Arc<Shared>, (process, kind, host): (String, &'static str, String), mut chance: Chance) {
    let instance = format!("{process}:1@{host}");
    let client = shared.world.client_from(chance.below(8) as usize).with_deadline(Duration::from_secs(4));
    let mut operator = Operator { shared: shared.clone(), client, process, instance, kind, host, changes: 0 };
    while !shared.is_over() {
        {
            let _busy = shared.quiet.read().await;
            match chance.below(4) {
                0 | 1 => operator.stop_and_start(&mut chance).await,
                2 => operator.restart().await,
                _ => operator.change().await,
            }
        }
        tokio::time::sleep(Duration::from_millis(100 + chance.below(1_500))).await;
    }
}

impl Operator {
    async fn stop_and_start(&self, chance: &mut Chance) {
        if let Some(revision) = self.order(v1::OrderKind::Stop).await
            && self.wait(|instance| is_stopped(instance, revision)).await
        {
            self.shared.world.journal.told_stopped(&self.instance);
            self.look_whether_it_lives();
            tokio::time::sleep(Duration::from_millis(chance.below(2_000))).await;
        }
        // Also when it was not stopped: it is to run again when this is over.
        self.shared.world.journal.may_start(&self.instance);
        if let Some(revision) = self.order(v1::OrderKind::Start).await {
            self.wait(|instance| runs(instance, revision)).await;
        }
    }

    async fn restart(&self) {
        self.shared.world.journal.may_start(&self.instance);
        if let Some(revision) = self.order(v1::OrderKind::Restart).await {
            self.wait(|instance| runs(instance, revision)).await;
        }
    }

    async fn change(&mut self) {
        self.changes += 1;
        let mut spec = fleet::spec(&self.shared.world, &self.process, self.kind, &[&self.host]);
        spec.env = [("CHANGE".to_owned(), self.changes.to_string())].into();
        self.shared.world.journal.may_start(&self.instance);
        let specs = [spec];
        let done = self.until_answered(|client, write| {
            let specs = &specs;
            async move { client.apply(specs, &write).await }
        });
        if let Some(revision) = done.await {
            self.wait(|instance| runs(instance, revision)).await;
        }
    }

    async fn order(&self, kind: v1::OrderKind) -> Option<u64> {
        let process = self.process.as_str();
        self.until_answered(|client, write| async move { client.order(kind, 0, named(&[process]), &write).await }).await
    }

    /// Says it again, as the same request, until somebody says yes or no: what may have happened must not stay open, for
    /// it would happen in the middle of the next order. Gives the revision.
    async fn until_answered<'a, F>(&'a self, send: impl Fn(&'a Client, Write) -> F) -> Option<u64>
    where
        F: Future<Output = Result<v1::WriteReply, Error>>,
    {
        let request_id = Uuid::now_v7().to_string();
        loop {
            let write = Write { request_id: Some(request_id.clone()), ..Write::default() };
            match send(&self.client, write).await {
                Ok(reply) => return reply.position.map(|position| position.revision),
                Err(Error::Unknown { .. } | Error::Unreachable(_) | Error::Failed(_) | Error::Refused(_)) => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => {
                    self.shared.complain(format!("{}: an order was answered with {error}", self.instance));
                    return None;
                }
            }
        }
    }

    /// Whether managers say within a while that it is so.
    async fn wait(&self, holds: impl Fn(&v1::Instance) -> bool) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let reply = self.client.instances(named(&[&self.process])).await;
            if reply.is_ok_and(|reply| reply.instances.first().is_some_and(&holds)) {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    fn look_whether_it_lives(&self) {
        for (kind, twig) in [("lock", false), ("twigs", true)] {
            if is_held(&self.shared.world, &self.instance, kind) {
                let note = Note::FoundAlive { instance: self.instance.clone(), at: now(), twig };
                self.shared.world.journal.note(note);
            }
        }
    }
}

/// Whether somebody alive holds one of an instance's locks.
pub fn is_held(world: &World, instance: &str, kind: &str) -> bool {
    let Ok(file) = File::open(world.accounts().join(format!("{instance}.{kind}"))) else { return false };
    // SAFETY: flock on an open descriptor, which is closed right after.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) != 0 }
}

fn is_stopped(instance: &v1::Instance, revision: u64) -> bool {
    let phase = instance.status.as_ref().map(v1::InstanceStatus::phase);
    let heard = instance.assignment_revision_seen >= revision;
    heard && instance.owed.is_empty() && matches!(phase, Some(v1::Phase::Stopped))
}

fn runs(instance: &v1::Instance, revision: u64) -> bool {
    let phase = instance.status.as_ref().map(v1::InstanceStatus::phase);
    let heard = instance.assignment_revision_seen >= revision;
    heard && instance.owed.is_empty() && matches!(phase, Some(v1::Phase::Running | v1::Phase::Ready))
}
