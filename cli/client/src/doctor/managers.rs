//! What can be wrong with the managers.

use std::collections::BTreeMap;

use super::{Finding, list, seconds};
use crate::v1;

/// Entries a manager may be behind the furthest one: a second or less of a busy cluster.
const LAG_MAX: u64 = 10_000;
/// A sync that takes longer than a heartbeat interval now and then slows every write, and elections with it.
const FSYNC_P99_US_MAX: u64 = 50_000;
/// Free space is short below so many times the floor at which writes are refused.
const DISK_FLOORS_MIN: u64 = 4;
/// Times in events and history are off by as much as the clocks are; nothing else depends on them.
const CLOCK_OFFSET_MS_MAX: u64 = 500;
/// Changes of leader that are nobody's concern: a rolling upgrade makes a few.
const LEADER_CHANGES_MIN: u64 = 5;

pub(super) fn findings(reply: &v1::GetManagersReply) -> Vec<Finding> {
    let managers = &reply.managers;
    let mut found = quorum(managers);
    found.extend(unlike(managers));
    found.extend(unfinished(reply));
    for manager in managers.iter().filter(|manager| answers(manager)) {
        found.extend(one(manager));
    }
    found
}

fn answers(manager: &v1::ManagerStatus) -> bool {
    manager.role != "unreachable"
}

fn name(manager: &v1::ManagerStatus) -> String {
    let member = manager.member.clone().unwrap_or_default();
    format!("manager {} ({})", member.id, member.client_address)
}

fn quorum(managers: &[v1::ManagerStatus]) -> Vec<Finding> {
    if managers.iter().any(|manager| manager.role == "no cluster") {
        return vec![Finding::bad(
            "this manager belongs to no cluster yet",
            "form one with `minderctl init --peers ADDRESS,ADDRESS,ADDRESS`",
        )];
    }
    let voters: Vec<&v1::ManagerStatus> = managers.iter().filter(|manager| manager.voter).collect();
    let there = voters.iter().filter(|manager| answers(manager)).count();
    let (all, needed) = (voters.len(), voters.len() / 2 + 1);
    let away: Vec<String> = managers.iter().filter(|manager| !answers(manager)).map(name).collect();
    let away_advice = "start it again; its log and `systemctl status minder-manager` there say why it does not run";
    let mut found = Vec::new();
    match there {
        _ if there < needed => found.push(Finding::bad(
            format!("no quorum: {there} of {all} voting managers answer and {needed} must, so nothing can be changed; {} away", list(&away)),
            "start them again; processes go on meanwhile",
        )),
        _ if !managers.iter().any(|manager| manager.role == "leader") => found.push(Finding::bad(
            "nobody leads although enough managers answer",
            "look again in a few seconds; if it stays so, the managers cannot reach each other at their peer addresses",
        )),
        _ if there == needed && there < all => found.push(Finding::bad(
            format!("{there} of {all} voting managers answer: with one more gone nothing can be changed"),
            format!("start {} again", list(&away)),
        )),
        _ => found.extend(away.iter().map(|name| Finding::weak(format!("{name} does not answer"), away_advice))),
    }
    match all {
        1 => found.push(Finding::weak(
            "there is one voting manager alone: while it is down nothing can be changed",
            "add two more managers, so that one may fail",
        )),
        _ if all > 0 && all.is_multiple_of(2) => found.push(Finding::weak(
            format!("{all} managers vote: that bears no more failures than {}", all - 1),
            "add one, or remove one",
        )),
        _ => {}
    }
    found
}

/// What is wrong between managers that should be alike.
fn unlike(managers: &[v1::ManagerStatus]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut hashes: BTreeMap<u64, BTreeMap<&str, Vec<u64>>> = BTreeMap::new();
    for manager in managers.iter().filter(|manager| answers(manager)) {
        let id = manager.member.as_ref().map_or(0, |member| member.id);
        versions.entry(&manager.version).or_default().push(id);
        hashes.entry(manager.applied_index).or_default().entry(&manager.state_hash).or_default().push(id);
    }
    if versions.len() > 1 {
        let each: Vec<String> =
            versions.iter().map(|(version, ids)| format!("{version} on manager {}", list(ids))).collect();
        found.push(Finding::weak(
            format!("managers run different versions: {}", each.join(", ")),
            "finish the upgrade, one manager after the other",
        ));
    }
    for (index, hashes) in hashes.iter().filter(|(_, hashes)| hashes.len() > 1) {
        let ids: Vec<u64> = hashes.values().flatten().copied().collect();
        found.push(Finding::bad(
            format!("managers {} have applied the same entries up to {index} and hold different tables", list(&ids)),
            "this is a mistake in the program or damage on a disk: keep the data folders, stop the manager that differs \
             from the majority, and report it",
        ));
    }
    found
}

/// An upgrade of the managers that has not come to its end.
fn unfinished(reply: &v1::GetManagersReply) -> Option<Finding> {
    let taken = reply.cluster_version.max(1);
    let there = || reply.managers.iter().filter(|manager| answers(manager) && manager.role != "no cluster");
    let newest = there().map(|manager| manager.command_version).max().filter(|newest| *newest > taken)?;
    let old: Vec<String> = there().filter(|manager| manager.command_version < newest).map(name).collect();
    Some(match old.is_empty() {
        true => Finding::weak(
            format!(
                "the managers know commands of version {newest} and the cluster still takes those of version {taken} only"
            ),
            "`minderctl manager upgrade --finalize` ends the upgrade, once there is no going back to the programs of before",
        ),
        false => Finding::weak(
            format!("the upgrade of the managers is under way: {} not know commands of version {newest}", do_not(&old)),
            "upgrade it as well, one manager after the other, or go back to the version before on the others",
        ),
    })
}

fn do_not(names: &[String]) -> String {
    format!("{} {}", list(names), if names.len() == 1 { "does" } else { "do" })
}

fn one(manager: &v1::ManagerStatus) -> Vec<Finding> {
    let name = name(manager);
    let mut found = Vec::new();
    if manager.lag > LAG_MAX {
        found.push(Finding::weak(
            format!("{name} is {} entries behind", manager.lag),
            "its disk or its network is too slow, or it has just come back; look at its fsync time and log",
        ));
    }
    if manager.fsync_p99_us > FSYNC_P99_US_MAX {
        found.push(Finding::weak(
            format!("one in a hundred syncs of {name} takes {} or more", seconds(manager.fsync_p99_us / 1_000)),
            "give its data folder a faster disk, or one that it shares with less",
        ));
    }
    found.extend(disk(manager, &name));
    if let Some(offset) = manager.clock_offset_ms.filter(|offset| offset.unsigned_abs() > CLOCK_OFFSET_MS_MAX) {
        found.push(Finding::weak(
            format!("the clock of {name} is {} {} the leader's", seconds(offset.unsigned_abs()), way(offset)),
            "let NTP set it; times in history and events are wrong by as much when it leads",
        ));
    }
    let hours = manager.uptime_seconds / 3_600;
    if manager.leader_changes >= LEADER_CHANGES_MIN && manager.leader_changes > hours {
        found.push(Finding::weak(
            format!("{name} has seen {} changes of leader in {hours} hours", manager.leader_changes),
            "managers are short of processor time or lose packets between them; look at `minderctl manager status -o wide`",
        ));
    }
    if manager.proposals_max > 0 && manager.proposals_in_flight * 5 > manager.proposals_max * 4 {
        found.push(Finding::weak(
            format!("{} writes wait for {name}, of {} that may", manager.proposals_in_flight, manager.proposals_max),
            "write less at once, or put several changes into one `apply`; what is too much is refused and tried again",
        ));
    }
    found
}

fn disk(manager: &v1::ManagerStatus, name: &str) -> Option<Finding> {
    let (free, floor) = (manager.disk_free_bytes, manager.disk_floor_bytes);
    let mib = free >> 20;
    let advice = format!("make room under its data folder, where the log takes {} MiB", manager.log_bytes >> 20);
    match free {
        _ if floor == 0 => None,
        _ if free < floor => Some(Finding::bad(
            format!(
                "the disk of {name} has {mib} MiB left, below its floor of {} MiB: as a leader it refuses writes",
                floor >> 20
            ),
            advice,
        )),
        _ if free < floor * DISK_FLOORS_MIN => Some(Finding::weak(
            format!("the disk of {name} has {mib} MiB left, writes are refused below {}", floor >> 20),
            advice,
        )),
        _ => None,
    }
}

pub(super) fn way(offset_ms: i64) -> &'static str {
    if offset_ms < 0 { "behind" } else { "ahead of" }
}
