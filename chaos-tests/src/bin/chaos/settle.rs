//! Once faults end, everything must be well again by itself, within a bound: managers in step, every machine connected,
//! nothing owed, and what is shown is what the programs' own locks say.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use minder_chaos_tests::{World, all, promise::read_accounts};
use minder_client::v1;

use crate::{operator::is_held, workload::Workload};

/// A slave that was cut off comes back within seconds; a machine on which others are busy is given room.
const WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(150);

/// How long it took; or what is not well when time is over.
pub type Settled = Result<Duration, String>;

/// Lets nobody do anything, and waits until all is well.
pub async fn settle(world: &World, workload: &Workload) -> Settled {
    let begin = Instant::now();
    let _alone = workload.pause().await;
    loop {
        let owed = match world.complaints().into_iter().next() {
            // This does not mend itself.
            Some(complaint) => return Err(complaint),
            None => is_well(world, workload).await,
        };
        match owed {
            Ok(()) => return Ok(begin.elapsed()),
            Err(why) if begin.elapsed() > WITHIN => return Err(format!("not well after {WITHIN:?}: {why}")),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

async fn is_well(world: &World, workload: &Workload) -> Result<(), String> {
    let client = world.client_from(0).with_deadline(Duration::from_secs(3));
    let looking = workload.shared.registers.begin_look(world);
    let statuses = client.managers(false).await.map_err(|error| error.to_string())?.managers;
    workload.shared.registers.look_at(world, &looking, &statuses);
    managers_are_in_step(&statuses, world.voters)?;
    let hosts = client.hosts(Vec::new()).await.map_err(|error| error.to_string())?.hosts;
    for host in &world.hosts {
        let seen =
            hosts.iter().find(|seen| seen.name == host.name).ok_or_else(|| format!("{} is unknown", host.name))?;
        if seen.condition() != v1::HostCondition::Connected {
            return Err(format!("{} is {:?}", host.name, seen.condition()));
        }
    }
    let instances = client.instances(all()).await.map_err(|error| error.to_string())?.instances;
    let accounts = read_accounts(&world.accounts());
    let mut shown = BTreeSet::new();
    for instance in &instances {
        let name = name(instance);
        instance_is_well(world, instance, &name, accounts.get(&name).and_then(|account| account.starts.last()))?;
        shown.insert(name);
    }
    match accounts.keys().find(|name| !shown.contains(*name)) {
        Some(name) => Err(format!("{name} is not shown")),
        None => Ok(()),
    }
}

fn managers_are_in_step(statuses: &[v1::ManagerStatus], voters: usize) -> Result<(), String> {
    let follows = |status: &&v1::ManagerStatus| matches!(status.role.as_str(), "leader" | "follower");
    let following = statuses.iter().filter(follows).count();
    if following != voters || statuses.len() != voters {
        let roles: Vec<String> = statuses.iter().map(role).collect();
        return Err(format!("managers are {}", roles.join(", ")));
    }
    let step = |status: &v1::ManagerStatus| (status.applied_index, status.state_hash.clone());
    match statuses.iter().all(|status| step(status) == step(&statuses[0])) {
        true => Ok(()),
        false => Err(format!("managers are not in step: {:?}", statuses.iter().map(step).collect::<Vec<_>>())),
    }
}

fn role(status: &v1::ManagerStatus) -> String {
    let address = status.member.as_ref().map_or("", |member| member.peer_address.as_str());
    format!("{address} {}", status.role)
}

fn name(instance: &v1::Instance) -> String {
    let name = instance.name.clone().unwrap_or_default();
    format!("{}:{}@{}", name.process, name.index, name.host)
}

fn instance_is_well(
    world: &World,
    instance: &v1::Instance,
    name: &str,
    last: Option<&(u64, u64)>,
) -> Result<(), String> {
    let status = instance.status.clone().unwrap_or_default();
    let is = |what: &str| Err(format!("{name} is {:?}: {what}; {}", status.phase(), instance.why));
    // These two are never at rest; the judge of restarts looks at them.
    if name.starts_with("crashing") {
        return Ok(());
    }
    if name.starts_with("looping") {
        return if status.phase() == v1::Phase::Fatal { Ok(()) } else { is("it has used up its restarts") };
    }
    if !instance.owed.is_empty() {
        return is(&instance.owed);
    }
    let held = is_held(world, name, "lock");
    match (status.phase(), last) {
        (v1::Phase::Running | v1::Phase::Ready, Some((incarnation, _))) => {
            if !held || status.incarnation != *incarnation {
                return is(&format!("{} by its own account, {}", incarnation, if held { "alive" } else { "dead" }));
            }
            Ok(())
        }
        (v1::Phase::Stopped, _) if !held && !instance.wanted_running => Ok(()),
        (_, _) => is("it is not at rest"),
    }
}
