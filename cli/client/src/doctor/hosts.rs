//! What can be wrong with hosts and their slaves.

use super::{Finding, are, list, managers::way, seconds};
use crate::v1;

/// Exits and events of a host carry its own times: off by more than this they mislead.
const CLOCK_OFFSET_MS_MAX: u64 = 1_000;
/// With less than one part in so many of its memory left, a machine is about to kill something.
const MEMORY_LEFT_PARTS: u64 = 50;

pub(super) fn findings(reply: &v1::ListHostsReply, manager_version: &str) -> Vec<Finding> {
    let hosts = &reply.hosts;
    let mut found = Vec::new();
    if !reply.note.is_empty() {
        found.push(Finding::bad(
            reply.note.clone(),
            "look at the network of the leader's machine; `minderctl manager transfer` lets another manager lead",
        ));
    }
    found.extend(silent(hosts));
    found.extend(clocks(hosts));
    found.extend(versions(hosts, manager_version));
    let weakly = named(hosts, |host| {
        host.facts.as_ref().is_some_and(|facts| facts.supervision() == v1::SupervisionLevel::Session)
    });
    if !weakly.is_empty() {
        found.push(Finding::weak(
            format!(
                "{} supervised by session, so that a program which works at it can escape: {}",
                are(weakly.len(), "host"),
                list(&weakly)
            ),
            "run the slave under cgroup v2 with Delegate=yes; `minderctl host info` says what is missing",
        ));
    }
    let full = named(hosts, |host| {
        let memory = host.facts.as_ref().map_or(0, |facts| facts.memory_bytes);
        let left = host.usage.as_ref().map_or(memory, |usage| usage.memory_available_bytes);
        memory > 0 && left < memory / MEMORY_LEFT_PARTS
    });
    if !full.is_empty() {
        found.push(Finding::weak(
            format!("{} almost out of memory: {}", are(full.len(), "host"), list(&full)),
            "see what uses it with `minderctl host info`; `resources` in a spec limits one process",
        ));
    }
    found
}

fn named(hosts: &[v1::Host], is: impl Fn(&v1::Host) -> bool) -> Vec<&str> {
    hosts.iter().filter(|host| is(host)).map(|host| host.name.as_str()).collect()
}

fn silent(hosts: &[v1::Host]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |bad: bool, names: Vec<&str>, what: &str, advice: &str| {
        if !names.is_empty() {
            let what = format!("{} {what}: {}", are(names.len(), "host"), list(&names));
            found.push(if bad { Finding::bad(what, advice) } else { Finding::weak(what, advice) });
        }
    };
    let is = |condition: v1::HostCondition, noted: bool| {
        named(hosts, |host| host.registered && host.condition() == condition && host.note.is_empty() != noted)
    };
    tell(
        true,
        is(v1::HostCondition::Lost, false),
        "LOST",
        "look whether the machine runs and its slave with it (`systemctl status minder-slave`); one that is gone for ever \
         is forgotten with `minderctl host remove`",
    );
    tell(false, is(v1::HostCondition::Suspect, false), "suspect", "wait a few seconds: it is heard again, or LOST");
    tell(
        false,
        is(v1::HostCondition::Suspect, true),
        "silent, but it may be the leader's fault",
        "`minderctl host list` says why; look at the way between these hosts and the leader",
    );
    let mut unheard = is(v1::HostCondition::Unheard, false);
    unheard.extend(is(v1::HostCondition::Unheard, true));
    tell(false, unheard, "not yet heard of by this leader", "wait until it has led for the lost limit");
    tell(
        true,
        named(hosts, |host| !host.registered && host.instances_wanted > 0),
        "named by specs and never announced by a slave",
        "start minder-slave there, or mend `hosts` in the specs",
    );
    found
}

fn clocks(hosts: &[v1::Host]) -> Vec<Finding> {
    let off = |host: &&v1::Host| host.clock_offset_ms.is_some_and(|offset| offset.unsigned_abs() > CLOCK_OFFSET_MS_MAX);
    let each: Vec<String> = hosts
        .iter()
        .filter(off)
        .map(|host| {
            let offset = host.clock_offset_ms();
            format!("{} {} {} the leader's", host.name, seconds(offset.unsigned_abs()), way(offset))
        })
        .collect();
    let finding = || {
        Finding::weak(
            format!("the clocks of some hosts are off: {}", list(&each)),
            "let NTP set them; times in exits and events of these hosts are wrong by as much",
        )
    };
    if each.is_empty() { Vec::new() } else { vec![finding()] }
}

fn versions(hosts: &[v1::Host], manager_version: &str) -> Vec<Finding> {
    let other = |host: &v1::Host| {
        let version = host.facts.as_ref().map_or("", |facts| facts.slave_version.as_str());
        !version.is_empty() && !manager_version.is_empty() && version != manager_version
    };
    let names = named(hosts, other);
    let finding = || {
        Finding::weak(
            format!(
                "{} of another version than the leader's {manager_version}: {}",
                are(names.len(), "slave"),
                list(&names)
            ),
            "upgrade minder-slave there; nothing it runs is restarted by that",
        )
    };
    if names.is_empty() { Vec::new() } else { vec![finding()] }
}
