//! The large fleet, stage by stage. Each stage prints what it measured.

use std::time::Duration;

use minder_chaos_tests::{
    Cluster, ClusterShape, CrowdShape, CrowdTally, Crowds, Moment, Program, mono_now,
    usage::{cpu_time, percentile, resident_bytes},
};
use minder_client::{Client, Write, v1};

use crate::{
    options::Options,
    specs::{on_all, on_host, requests},
};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the crowd: it notes its moments itself, so that a look late costs nothing.
const LOOK: Duration = Duration::from_millis(10);
/// And between two counts of all of it, which cost the crowd a walk.
const COUNT: Duration = Duration::from_millis(50);
/// Between two single changes: each finds an idle fleet.
const PAUSE: Duration = Duration::from_millis(20);
/// What a stage left to do is over by then.
const SETTLE: Duration = Duration::from_secs(5);
/// Hosts that single changes go to, in turns.
const PROBES: usize = 100;

/// Managers, slaves and what was brought in so far.
pub struct Fleet {
    crowd: Crowds,
    cluster: Cluster,
    client: Client,
    hosts: usize,
    own: bool,
    changes: usize,
    instances: usize,
    value: u64,
    killed: Option<usize>,
}

impl Fleet {
    /// Three managers and nobody else.
    pub async fn start(options: &Options) -> Self {
        let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
        let client = cluster.client().with_deadline(PATIENCE);
        let nobody = CrowdShape { first: 1, hosts: 0, groups: 1, managers: cluster.addresses.clone() };
        let fleet = Self {
            crowd: Crowds::start(&nobody),
            cluster,
            client,
            hosts: options.hosts,
            own: options.own,
            changes: options.changes,
            instances: 0,
            value: 0,
            killed: None,
        };
        fleet.memory("three managers, empty").await;
        fleet
    }

    /// All slaves come at once, for the first time.
    pub async fn come(&mut self) {
        let (begin, cpu) = (mono_now(), self.cpu());
        let managers = self.cluster.addresses.clone();
        self.crowd = Crowds::start(&CrowdShape { first: 1, hosts: self.hosts, groups: 1, managers });
        let (hosts, managers) = (self.hosts as u64, self.cluster.addresses.len() as u64);
        self.until("all slaves", |tally| tally.sessions == hosts && tally.streams == managers * hosts).await;
        println!(
            "{} slaves in {} processes came for the first time, each to every manager: {:.1?}; {}",
            self.hosts,
            self.crowd.processes(),
            mono_now() - begin,
            self.spent(cpu)
        );
        tokio::time::sleep(SETTLE).await;
        self.memory(&format!("{} slaves", self.hosts)).await;
    }

    /// Brings the table to so many instances.
    pub async fn fill(&mut self, instances: usize) {
        let requests = requests(self.instances, instances, self.hosts, self.own);
        let (begin, cpu, before, assigned) = (mono_now(), self.cpu(), self.instances, self.crowd.tally().instances);
        let specs: usize = requests.iter().map(Vec::len).sum();
        let mut slowest = Duration::ZERO;
        let count = requests.len();
        for request in requests {
            let sent = mono_now();
            let reply = self.client.apply(&request, &Write::default()).await.unwrap();
            self.instances += reply.processes.iter().map(|process| process.instances as usize).sum::<usize>();
            slowest = slowest.max(mono_now() - sent);
        }
        let committed = mono_now() - begin;
        let all = self.instances;
        self.until("everything assigned", |tally| tally.instances >= assigned + all - before).await;
        let told = mono_now() - begin;
        println!(
            "{} more instances of {specs} specs in {count} requests: written in {committed:.2?} ({:.0} instances/s, slowest \
             request {slowest:.1?}), all slaves told after {told:.2?}; {}",
            all - before,
            (all - before) as f64 / committed.as_secs_f64(),
            self.spent(cpu)
        );
        tokio::time::sleep(SETTLE).await;
        self.memory(&format!("{all} instances")).await;
    }

    /// Changes one process at a time; gives the median until its slave was told.
    pub async fn changes(&mut self, what: &str) -> Duration {
        let (mut acknowledged, mut told) = (Vec::new(), Vec::new());
        for round in 0..PROBES + self.changes {
            let host = round % PROBES.min(self.hosts) + 1;
            self.value += 1;
            let spec = on_host(&format!("probe-{host}"), self.value, host);
            let sent = mono_now();
            let revision = write(&self.client, spec).await;
            let answered = mono_now();
            let taken = self.until_taken(revision, 1).await;
            // The first round on each host brings the probe in.
            if round >= PROBES {
                acknowledged.push(answered - sent);
                told.push(taken.first - sent);
            }
            tokio::time::sleep(PAUSE).await;
        }
        println!(
            "one changed process, {what} ({} changes): acknowledged p50 {:.2?}, p99 {:.2?}; its slave told p50 {:.2?}, p99 {:.2?}",
            told.len(),
            percentile(&acknowledged, 50),
            percentile(&acknowledged, 99),
            percentile(&told, 50),
            percentile(&told, 99),
        );
        percentile(&told, 50)
    }

    /// One change that every host must be told of.
    pub async fn everywhere(&mut self) {
        for (what, value) in [("a new process", 0), ("a changed process", 1)] {
            let (sent, cpu, before) = (mono_now(), self.cpu(), self.crowd.tally());
            let revision = write(&self.client, on_all("everywhere", value)).await;
            let answered = mono_now() - sent;
            let taken = self.until_taken(revision, self.hosts as u64).await;
            let after = self.crowd.tally();
            println!(
                "{what} on all {} hosts: acknowledged {answered:.1?}, first host told {:.1?}, last {:.1?}; {} bytes to and {} from \
                 each host; {}",
                self.hosts,
                taken.first - sent,
                taken.last - sent,
                (after.assignment_bytes - before.assignment_bytes) / self.hosts as u64,
                (after.report_bytes - before.report_bytes) / self.hosts as u64,
                self.spent(cpu)
            );
        }
    }

    /// Nothing is asked for; slaves give their signs of life.
    pub async fn rest(&mut self, window: Duration) {
        tokio::time::sleep(SETTLE).await;
        let (cpu, before) = (self.cpu(), self.crowd.tally());
        tokio::time::sleep(window).await;
        let after = self.crowd.tally();
        let each = window.as_secs_f64();
        println!(
            "at rest for {} s: {} messages/s in, {} out of the leader; {}",
            window.as_secs(),
            (after.sent - before.sent) / window.as_secs(),
            (after.received - before.received) / window.as_secs(),
            self.shares(cpu, each)
        );
    }

    /// The leader dies; every slave finds the next one.
    pub async fn lose_leader(&mut self) {
        self.cluster.wait_until_in_step().await;
        let (term_before, applied_before) = self.led().await;
        let before = self.crowd.tally();
        let leader = self.cluster.leader().await;
        let (killed_at, cpu) = (mono_now(), self.cpu_but(leader));
        self.cluster.managers[leader].kill();
        self.killed = Some(leader);
        let hosts = self.hosts as u64;
        let (term, welcomed) = loop {
            let (term, _) = self.led().await;
            let welcomed = self.crowd.welcomed(term);
            if term > term_before && welcomed.count >= hosts {
                break (term, welcomed);
            }
            assert!(mono_now() - killed_at < PATIENCE, "only {} slaves found the next leader", welcomed.count);
            tokio::time::sleep(LOOK).await;
        };
        let spent = self.spent_but(leader, cpu);
        let after =
            self.until("everything reported to the next leader", |tally| tally.reports >= before.reports + hosts).await;
        let (_, applied) = self.led().await;
        println!(
            "leader killed: first slave has a session after {:.2?}, last of {hosts} after {:.2?}; {} entries beside those of {} \
             elections; {} messages to and {} from slaves, {} and {} KiB, of which {} assignments and {} KiB reports; {spent}",
            welcomed.first - killed_at,
            welcomed.last - killed_at,
            (applied - applied_before).saturating_sub(term - term_before),
            term - term_before,
            after.received - before.received,
            after.sent - before.sent,
            (after.received_bytes - before.received_bytes) >> 10,
            (after.sent_bytes - before.sent_bytes) >> 10,
            after.assignments - before.assignments,
            (after.report_bytes - before.report_bytes) >> 10,
        );
        tokio::time::sleep(SETTLE).await;
        self.memory("one manager lost").await;
    }

    /// The killed manager comes back with its table, and again after a stop in order.
    pub async fn start_again(&mut self) {
        let Some(number) = self.killed.take() else { return };
        for how in ["kill", "stop in order"] {
            let begin = mono_now();
            let manager = &mut self.cluster.managers[number];
            manager.start();
            let (took, cpu) = (mono_now() - begin, cpu_time(manager.pid()));
            println!("a manager starts after a {how}: serves after {took:.2?}, CPU {cpu:.2?}");
            self.cluster.wait_until_in_step().await;
            tokio::time::sleep(SETTLE).await;
            if how == "kill" {
                self.cluster.managers[number].stop();
            }
        }
        self.memory("the manager is back").await;
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&CrowdTally) -> bool) -> CrowdTally {
        let begin = mono_now();
        loop {
            let tally = self.crowd.tally();
            if is_so(&tally) {
                return tally;
            }
            assert!(mono_now() - begin < PATIENCE, "not within {PATIENCE:?}: {what}: {tally:?}");
            tokio::time::sleep(COUNT).await;
        }
    }

    async fn until_taken(&mut self, revision: u64, hosts: u64) -> Moment {
        let begin = mono_now();
        loop {
            let taken = self.crowd.took(revision);
            if taken.count >= hosts {
                return taken;
            }
            assert!(mono_now() - begin < PATIENCE, "only {} hosts took revision {revision}", taken.count);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Term and last applied index of whoever leads.
    async fn led(&self) -> (u64, u64) {
        let client = self.killed.map_or_else(|| self.cluster.client(), |killed| self.cluster.client_without(killed));
        let statuses = client.managers(false).await.map(|reply| reply.managers).unwrap_or_default();
        let leader = statuses.iter().find(|status: &&v1::ManagerStatus| status.role == "leader");
        leader.map_or((0, 0), |leader| (leader.term, leader.applied_index))
    }

    async fn memory(&self, stage: &str) {
        let leader = self.leader().await;
        let mib = |program: &Program| resident_bytes(program.pid()) >> 20;
        let running = self.cluster.managers.iter().enumerate().filter(|(_, manager)| manager.runs());
        let followers = running.filter(|(number, _)| *number != leader).map(|(_, manager)| mib(manager).to_string());
        println!(
            "memory, {stage}: leader {} MiB, followers {} MiB, pretended slaves {} MiB",
            mib(&self.cluster.managers[leader]),
            followers.collect::<Vec<_>>().join(" and "),
            self.crowd.resident_bytes() >> 20
        );
    }

    async fn leader(&self) -> usize {
        let client = self.killed.map_or_else(|| self.cluster.client(), |killed| self.cluster.client_without(killed));
        let statuses = client.managers(false).await.map(|reply| reply.managers).unwrap_or_default();
        let leader = statuses.iter().find(|status| status.role == "leader").and_then(|status| status.member.clone());
        let address = leader.map(|member| member.client_address).unwrap_or_default();
        self.cluster.addresses.iter().position(|known| *known == address).unwrap_or_default()
    }

    fn cpu(&self) -> Cpu {
        self.cpu_but(usize::MAX)
    }

    fn cpu_but(&self, left_out: usize) -> Cpu {
        let managers = self.cluster.managers.iter().enumerate();
        let running = managers.filter(|(number, manager)| *number != left_out && manager.runs());
        Cpu { managers: running.map(|(_, manager)| cpu_time(manager.pid())).collect(), crowd: self.crowd.cpu_time() }
    }

    fn spent(&self, before: Cpu) -> String {
        self.spent_but(usize::MAX, before)
    }

    fn spent_but(&self, left_out: usize, before: Cpu) -> String {
        let now = self.cpu_but(left_out);
        let each = now.managers.iter().zip(before.managers).map(|(now, before)| format!("{:.2?}", *now - before));
        let crowd = now.crowd.saturating_sub(before.crowd);
        format!("CPU of managers {}, of pretended slaves {crowd:.2?}", each.collect::<Vec<_>>().join(" and "))
    }

    fn shares(&self, before: Cpu, seconds: f64) -> String {
        let now = self.cpu();
        let percent = |spent: Duration| format!("{:.1} %", spent.as_secs_f64() / seconds * 100.0);
        let each = now.managers.iter().zip(before.managers).map(|(now, before)| percent(*now - before));
        let crowd = percent(now.crowd - before.crowd);
        format!("managers {} of a core, pretended slaves {crowd}", each.collect::<Vec<_>>().join(" and "))
    }
}

/// CPU time so far.
struct Cpu {
    managers: Vec<Duration>,
    crowd: Duration,
}

async fn write(client: &Client, spec: minder_model::Spec) -> u64 {
    client.apply(&[spec], &Write::default()).await.unwrap().position.unwrap().revision
}
