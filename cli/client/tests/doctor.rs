//! Each thing that can be wrong, alone: what the doctor says of it, and that it says nothing of what is well.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_client::{
    doctor::{Checkup, Severity},
    v1,
};

struct Fleet {
    managers: Vec<v1::ManagerStatus>,
    cluster_version: u32,
    hosts: v1::ListHostsReply,
    instance: v1::Instance,
}

impl Fleet {
    /// Three managers, one host, one instance, and all is well.
    fn new() -> Self {
        let manager = |id: u64| v1::ManagerStatus {
            member: Some(v1::ManagerMember { id, ..Default::default() }),
            role: if id == 1 { "leader" } else { "follower" }.into(),
            voter: true,
            version: "2".into(),
            command_version: 2,
            disk_free_bytes: 10_000 << 20,
            disk_floor_bytes: 128 << 20,
            proposals_max: 100,
            clock_offset_ms: Some(0),
            ..Default::default()
        };
        let facts = v1::MachineFacts {
            slave_version: "2".into(),
            memory_bytes: 1_000,
            supervision: v1::SupervisionLevel::Cgroup.into(),
            ..Default::default()
        };
        let host = v1::Host {
            name: "h".into(),
            registered: true,
            condition: v1::HostCondition::Connected.into(),
            facts: Some(facts),
            usage: Some(v1::MachineUsage { memory_available_bytes: 500, ..Default::default() }),
            clock_offset_ms: Some(0),
            instances_wanted: 1,
            ..Default::default()
        };
        let instance = v1::Instance {
            name: Some(v1::InstanceName { host: "h".into(), process: "app".into(), index: 1 }),
            status: Some(v1::InstanceStatus { phase: v1::Phase::Running.into(), ..Default::default() }),
            ..Default::default()
        };
        let hosts = v1::ListHostsReply { hosts: vec![host], ..Default::default() };
        Self { managers: (1..=3).map(manager).collect(), cluster_version: 2, hosts, instance }
    }

    fn host(&mut self) -> &mut v1::Host {
        &mut self.hosts.hosts[0]
    }

    fn status(&mut self) -> &mut v1::InstanceStatus {
        self.instance.status.as_mut().unwrap()
    }

    fn checkup(self) -> Checkup {
        Checkup {
            managers: v1::GetManagersReply {
                managers: self.managers,
                cluster_version: self.cluster_version,
                ..Default::default()
            },
            hosts: Ok(self.hosts),
            instances: Ok(v1::ListInstancesReply { instances: vec![self.instance], ..Default::default() }),
        }
    }
}

/// What is done to a healthy fleet, and the one thing that is said of it.
type Case = (fn(&mut Fleet), Severity, &'static str);

#[test]
fn each_trouble_is_found_and_nothing_else() {
    use Severity::{Bad, Weak};
    let cases: [Case; 30] = [
        (|fleet| fleet.managers[2].role = "unreachable".into(), Bad, "2 of 3 voting managers answer"),
        (
            |fleet| fleet.managers[1..].iter_mut().for_each(|manager| manager.role = "unreachable".into()),
            Bad,
            "no quorum: 1 of 3 voting managers answer and 2 must",
        ),
        (|fleet| fleet.managers[0].role = "candidate".into(), Bad, "nobody leads"),
        (|fleet| fleet.managers.truncate(1), Weak, "one voting manager alone"),
        (|fleet| fleet.managers[2].voter = false, Weak, "2 managers vote: that bears no more failures than 1"),
        (|fleet| fleet.managers[2].version = "1".into(), Weak, "different versions: 1 on manager 3, 2 on manager 1, 2"),
        (
            |fleet| fleet.cluster_version = 1,
            Weak,
            "know commands of version 2 and the cluster still takes those of version 1",
        ),
        (
            |fleet| {
                fleet.cluster_version = 0;
                fleet.managers[1].command_version = 0;
            },
            Weak,
            "upgrade of the managers is under way: manager 2 () does not know commands of version 2",
        ),
        (|fleet| fleet.managers[2].state_hash = "other".into(), Bad, "hold different tables"),
        (|fleet| fleet.managers[1].lag = 10_001, Weak, "10001 entries behind"),
        (|fleet| fleet.managers[1].fsync_p99_us = 60_000, Weak, "takes 60ms or more"),
        (|fleet| fleet.managers[1].disk_free_bytes = 100 << 20, Bad, "100 MiB left, below its floor of 128 MiB"),
        (|fleet| fleet.managers[1].disk_free_bytes = 500 << 20, Weak, "500 MiB left, writes are refused below 128"),
        (|fleet| fleet.managers[1].clock_offset_ms = Some(-1_500), Weak, "1.5s behind the leader's"),
        (|fleet| fleet.managers[1].leader_changes = 9, Weak, "9 changes of leader in 0 hours"),
        (|fleet| fleet.managers[0].proposals_in_flight = 90, Weak, "90 writes wait"),
        (|fleet| fleet.managers[0].role = "no cluster".into(), Bad, "belongs to no cluster yet"),
        (|fleet| fleet.hosts.note = "3 of 3 hosts are silent at once".into(), Bad, "silent at once"),
        (|fleet| fleet.host().condition = v1::HostCondition::Lost.into(), Bad, "1 host is LOST: h"),
        (|fleet| fleet.host().condition = v1::HostCondition::Suspect.into(), Weak, "1 host is suspect: h"),
        (
            |fleet| {
                fleet.host().condition = v1::HostCondition::Suspect.into();
                fleet.host().note = "connected to manager 2, not to the leader".into();
            },
            Weak,
            "may be the leader's fault: h",
        ),
        (|fleet| fleet.host().condition = v1::HostCondition::Unheard.into(), Weak, "not yet heard of"),
        (|fleet| fleet.host().registered = false, Bad, "never announced by a slave: h"),
        (|fleet| fleet.host().clock_offset_ms = Some(90_000), Weak, "h 90.0s ahead of the leader's"),
        (
            |fleet| fleet.host().facts.as_mut().unwrap().slave_version = "1".into(),
            Weak,
            "1 slave is of another version",
        ),
        (
            |fleet| fleet.host().facts.as_mut().unwrap().supervision = v1::SupervisionLevel::Session.into(),
            Weak,
            "supervised by session",
        ),
        (|fleet| fleet.host().usage.as_mut().unwrap().memory_available_bytes = 19, Weak, "almost out of memory: h"),
        (|fleet| fleet.status().phase = v1::Phase::Fatal.into(), Bad, "1 instance is FATAL: app@h"),
        (|fleet| fleet.status().restarts_in_window = 3, Weak, "restarted again and again: app@h"),
        (
            |fleet| fleet.instance.warnings = vec!["cpu limit not enforced: why".into()],
            Weak,
            "not enforced: why: app@h",
        ),
    ];
    assert_eq!(Fleet::new().checkup().findings(), []);
    for (hurt, severity, expected) in cases {
        let mut fleet = Fleet::new();
        hurt(&mut fleet);
        let found = fleet.checkup().findings();
        assert!(
            found.iter().any(|finding| finding.what.contains(expected) && finding.severity == severity),
            "{expected}: {found:?}"
        );
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(!found[0].advice.is_empty());
    }
}

#[test]
fn without_a_leader_the_managers_are_told_of_all_the_same() {
    let mut fleet = Fleet::new();
    fleet.managers[1..].iter_mut().for_each(|manager| manager.role = "unreachable".into());
    let checkup = Checkup { hosts: Err("no leader".into()), ..fleet.checkup() };
    let found = checkup.findings();
    assert!(found[0].what.starts_with("no quorum"), "{found:?}");
    assert!(found[1].what.contains("cannot be looked at: no leader"), "{found:?}");
}
