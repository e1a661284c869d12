//! The cluster before, while and after it is hurt.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use minder_client::{Client, Error, v1};
use tokio::time::{Instant, sleep};
use v1::DrillKind;

use super::{
    observed::{HostSeen, InstanceSeen, Scene, Stand, Target},
    traffic::Traffic,
};
use crate::{views::phase, words::full};

/// Between two looks at the hosts, which say when each is back.
const HOSTS_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at the managers; one that does not answer holds a look up by a second anyway.
const MANAGERS_INTERVAL: Duration = Duration::from_millis(50);
/// What was not noticed so long after it was over never will be: an election and a look take less.
const NOTICED_LATE_US: u64 = 3_000_000;
/// Reports come again within a heartbeat of the session.
const REPORTS_LIMIT: Duration = Duration::from_secs(10);
/// And managers stand at one index within milliseconds, unless others write all the time.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// The whole of it now.
pub async fn look(client: &Client) -> Result<Scene, Error> {
    let everything = v1::Selection { all: true, ..Default::default() };
    let (managers, hosts, instances) =
        tokio::try_join!(client.managers(false), client.hosts(Vec::new()), client.instances(everything))?;
    let mut scene = managers_of(&managers);
    scene.hosts = hosts_of(&hosts);
    scene.instances = instances_of(&instances);
    Ok(scene)
}

fn managers_of(reply: &v1::GetManagersReply) -> Scene {
    // One that was cut off may still take itself for the leader of a term that is over.
    let leader = reply.managers.iter().filter(|manager| manager.role == "leader").max_by_key(|manager| manager.term);
    Scene {
        leader: leader.and_then(id),
        term: leader.map_or(0, |leader| leader.term),
        last_index: leader.map_or(0, |leader| leader.last_log_index),
        managers: reply.managers.iter().filter_map(id).collect(),
        ..Scene::default()
    }
}

/// The node id of a manager.
pub fn id(manager: &v1::ManagerStatus) -> Option<u64> {
    manager.member.as_ref().map(|member| member.id)
}

fn hosts_of(reply: &v1::ListHostsReply) -> BTreeMap<String, HostSeen> {
    let seen = |host: &v1::Host| HostSeen {
        connected: host.condition() == v1::HostCondition::Connected,
        slave_id: host.slave_id.clone(),
    };
    reply.hosts.iter().map(|host| (host.name.clone(), seen(host))).collect()
}

fn instances_of(reply: &v1::ListInstancesReply) -> BTreeMap<String, InstanceSeen> {
    let seen = |instance: &v1::Instance| {
        let name = instance.name.clone().unwrap_or_default();
        let status = instance.status.as_ref();
        let phase = phase(instance);
        let there = InstanceSeen {
            process: name.process.clone(),
            phase,
            runs: instance.wanted_running && matches!(phase, "RUNNING" | "READY"),
            pid: status.map_or(0, |status| status.pid),
            incarnation: status.map_or(0, |status| status.incarnation),
        };
        (full(&name), there)
    };
    reply.instances.iter().map(seen).collect()
}

/// What is waited for after the harm, and what came of it.
pub struct Lookout<'a> {
    /// Asks managers that nothing is done to.
    pub client: &'a Client,
    pub kind: DrillKind,
    pub target: &'a Target,
    /// What the target's process was before.
    pub instance: &'a str,
    pub before: &'a Scene,
    pub traffic: &'a Traffic,
    pub fault_us: u64,
    pub lasts: Duration,
    /// Nothing is waited for after this.
    pub until: Instant,
}

/// When something was seen.
#[derive(Debug, Default)]
pub struct Sighted {
    pub harmed_us: Option<u64>,
    pub back_us: Option<u64>,
    pub reattached: BTreeMap<String, u64>,
}

impl Lookout<'_> {
    /// Looks until all that is waited for has been seen, or time is over.
    pub async fn keep(&self) -> Sighted {
        // Without a change of leader no host has any reason to come again.
        let unharmed = Cell::new(false);
        let (reattached, (harmed_us, back_us)) = tokio::join!(self.hosts(&unharmed), self.managers(&unharmed));
        match self.target {
            Target::Manager { .. } => Sighted { harmed_us, back_us, reattached },
            // A slave is harmed and back when it is there as another one.
            Target::Host(host) => {
                let at = reattached.get(host).copied();
                Sighted { harmed_us: at, back_us: at, reattached }
            }
        }
    }

    async fn hosts(&self, unharmed: &Cell<bool>) -> BTreeMap<String, u64> {
        let expected: BTreeSet<&String> =
            self.before.hosts.iter().filter(|(_, host)| host.connected).map(|(name, _)| name).collect();
        let mut reattached = BTreeMap::new();
        while reattached.len() < expected.len() && Instant::now() < self.until {
            if let Ok(reply) = self.client.hosts(Vec::new()).await {
                let term = reply.position.as_ref().map_or(0, |position| position.term);
                let now_us = self.traffic.now_us();
                for (name, host) in hosts_of(&reply) {
                    if expected.contains(&name) && self.is_back(&name, &host, term, unharmed.get()) {
                        reattached.entry(name).or_insert(now_us);
                    }
                }
            }
            sleep(HOSTS_INTERVAL).await;
        }
        reattached
    }

    fn is_back(&self, name: &str, host: &HostSeen, term: u64, unharmed: bool) -> bool {
        let as_wanted = match self.target {
            Target::Host(target) if target == name => {
                self.before.hosts.get(name).is_some_and(|before| before.slave_id != host.slave_id)
            }
            Target::Manager { leads: true, .. } => unharmed || term > self.before.term,
            Target::Host(_) | Target::Manager { .. } => true,
        };
        host.connected && as_wanted
    }

    async fn managers(&self, unharmed: &Cell<bool>) -> (Option<u64>, Option<u64>) {
        let Target::Manager { id: target, leads, .. } = self.target else { return (None, None) };
        let (mut harmed_us, mut back_us) = (None, None);
        while (harmed_us.is_none() || back_us.is_none()) && Instant::now() < self.until {
            if let Ok(reply) = self.client.managers(false).await {
                let now = managers_of(&reply);
                let now_us = self.traffic.now_us();
                let status = reply.managers.iter().find(|manager| id(manager) == Some(*target));
                let answers = status.filter(|status| status.role != "unreachable");
                let harmed = match leads {
                    true => now.term > self.before.term && now.leader.is_some_and(|leader| leader != *target),
                    false => answers.is_none(),
                };
                if harmed {
                    harmed_us.get_or_insert(now_us);
                }
                if answers.is_some_and(|status| self.has_returned(status, now_us)) {
                    back_us.get_or_insert(now_us);
                    if harmed_us.is_none() && now_us > self.over_us() + NOTICED_LATE_US {
                        unharmed.set(true);
                        break;
                    }
                }
            }
            sleep(MANAGERS_INTERVAL).await;
        }
        (harmed_us, back_us)
    }

    fn has_returned(&self, status: &v1::ManagerStatus, now_us: u64) -> bool {
        match self.kind {
            DrillKind::Partition => now_us > self.over_us(),
            DrillKind::LeaderKill | DrillKind::SlaveKill | DrillKind::Unspecified => {
                !status.instance.is_empty() && status.instance != self.instance
            }
        }
    }

    /// When what was asked for is over.
    fn over_us(&self) -> u64 {
        self.fault_us + self.lasts.as_micros() as u64
    }
}

/// The whole once all that ran before is reported again, or that is not to be expected any more.
pub async fn look_after(client: &Client, before: &Scene) -> Result<Scene, Error> {
    let begin = Instant::now();
    loop {
        let scene = look(client).await?;
        let is_reported = |name: &String| scene.instances.get(name).is_none_or(|instance| instance.runs);
        let ran = before.instances.iter().filter(|(_, instance)| instance.runs);
        if ran.map(|(name, _)| name).all(is_reported) || begin.elapsed() > REPORTS_LIMIT {
            return Ok(scene);
        }
        sleep(MANAGERS_INTERVAL).await;
    }
}

/// How managers stand, looked at until each was seen at the index of another one.
pub async fn stands(client: &Client, managers: &BTreeSet<u64>) -> Vec<Stand> {
    let begin = Instant::now();
    let mut stands: Vec<Stand> = Vec::new();
    while begin.elapsed() < STEP_LIMIT {
        if let Ok(reply) = client.managers(false).await {
            let answering = reply.managers.iter().filter(|manager| manager.role != "unreachable");
            let found = answering.filter_map(|manager| {
                let hash = manager.state_hash.clone();
                Some(Stand { manager: id(manager)?, applied: manager.applied_index, hash })
            });
            stands.extend(found);
        }
        let meets = |manager: &u64| {
            let own = stands.iter().filter(|stand| stand.manager == *manager);
            own.clone().any(|own| stands.iter().any(|other| other.manager != *manager && other.applied == own.applied))
        };
        if managers.len() < 2 || managers.iter().all(meets) {
            break;
        }
        sleep(MANAGERS_INTERVAL).await;
    }
    stands
}
