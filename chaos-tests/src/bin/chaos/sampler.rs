//! Somebody who looks at the fleet all the time, at one manager or another, and notes what is shown.

use std::{sync::Arc, time::Duration};

use minder_chaos_tests::{Chance, Note, all, now};
use minder_client::v1;

use crate::workload::Shared;

const INTERVAL: Duration = Duration::from_millis(700);

/// Looks until all is over.
pub async fn sample(shared: Arc<Shared>, mut chance: Chance) {
    let managers = shared.world.managers.len();
    let clients: Vec<_> =
        (0..managers).map(|manager| shared.world.client_from(manager).with_deadline(Duration::from_secs(3))).collect();
    while !shared.is_over() {
        let client = &clients[chance.below(managers as u64) as usize];
        let called = now();
        if let Ok(reply) = client.instances(all()).await {
            let returned = now();
            reply.instances.iter().for_each(|instance| note_instance(&shared, instance, called, returned));
        }
        let called = now();
        if let Ok(reply) = client.hosts(Vec::new()).await {
            let returned = now();
            for host in reply.hosts {
                let (host, revision) = (host.name, host.assignment_revision_seen);
                shared.world.journal.note(Note::Holds { host, called, returned, revision });
            }
        }
        let looking = shared.registers.begin_look(&shared.world);
        if let Ok(reply) = client.managers(false).await {
            shared.registers.look_at(&shared.world, &looking, &reply.managers);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn note_instance(shared: &Shared, instance: &v1::Instance, called: u64, returned: u64) {
    let (Some(name), Some(status)) = (&instance.name, &instance.status) else { return };
    let up = match status.phase() {
        v1::Phase::Running | v1::Phase::Ready => true,
        v1::Phase::Stopped | v1::Phase::Exited | v1::Phase::Fatal => false,
        // On the way from one to the other, or nobody knows.
        _ => return,
    };
    shared.world.journal.note(Note::Shown {
        instance: format!("{}:{}@{}", name.process, name.index, name.host),
        called,
        returned,
        up,
        incarnation: status.incarnation,
        age_ms: instance.age_ms,
    });
}
