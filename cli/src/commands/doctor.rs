use clap::Args;
use minder_client::{
    doctor::{Checkup, Finding, Severity},
    v1,
};
use serde::Serialize;

use crate::{
    context::Context,
    failure::{DONE, FAILED, Failure},
    flags::Output,
    screen::{Screen, Tone, put},
    views::print,
    words::count,
};

/// Say what is wrong and what to do about it; exits with 1 when something is
#[derive(Debug, Args)]
pub struct Doctor {}

#[derive(Serialize)]
struct DoctorView {
    findings: Vec<Finding>,
}

pub async fn run(context: &Context, _: &Doctor) -> Result<u8, Failure> {
    let managers = context.client.managers(false).await?;
    let everything = v1::Selection { all: true, ..Default::default() };
    // Each of them waits for a leader as long as a call may take, so they wait together.
    let (hosts, instances) = tokio::join!(context.client.hosts(Vec::new()), context.client.instances(everything));
    let checkup = Checkup {
        managers,
        hosts: hosts.map_err(|error| error.to_string()),
        instances: instances.map_err(|error| error.to_string()),
    };
    let findings = checkup.findings();
    let code = if findings.is_empty() { DONE } else { FAILED };
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &DoctorView { findings })?,
        Output::Name => put(&findings.iter().map(|finding| format!("{}\n", finding.what)).collect::<String>()),
        Output::Table | Output::Wide => put(&text(&checkup, &findings, &context.screen)),
    }
    Ok(code)
}

fn text(checkup: &Checkup, findings: &[Finding], screen: &Screen) -> String {
    if findings.is_empty() {
        let of = |number: usize, noun| count(number as u64, noun);
        let hosts = checkup.hosts.as_ref().map_or(0, |reply| reply.hosts.len());
        let instances = checkup.instances.as_ref().map_or(0, |reply| reply.instances.len());
        let managers = checkup.managers.managers.len();
        let looked_at = [of(managers, "manager"), of(hosts, "host"), of(instances, "instance")].join(", ");
        return format!("nothing is wrong: {looked_at} looked at\n");
    }
    let mut text = String::new();
    for finding in findings {
        let (word, tone) = match finding.severity {
            Severity::Bad => ("BAD ", Tone::Bad),
            Severity::Weak => ("WEAK", Tone::Busy),
        };
        text.push_str(&format!(
            "{}  {}.\n      {}.\n",
            screen.paint(tone, word),
            finding.what,
            capital(&finding.advice)
        ));
    }
    text
}

/// A sentence begins with a capital letter; a command in it does not change.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(id: u64, role: &str) -> v1::ManagerStatus {
        let client_address = format!("m{id}:7701");
        let member = v1::ManagerMember { id, peer_address: format!("m{id}:7702"), client_address };
        v1::ManagerStatus {
            member: Some(member),
            role: role.into(),
            voter: true,
            version: "0.1.0".into(),
            disk_free_bytes: 1 << 34,
            disk_floor_bytes: 1 << 27,
            state_hash: "a".into(),
            applied_index: 7,
            clock_offset_ms: Some(0),
            ..Default::default()
        }
    }

    fn host(name: &str, condition: v1::HostCondition) -> v1::Host {
        let facts = v1::MachineFacts {
            slave_version: "0.1.0".into(),
            supervision: v1::SupervisionLevel::Cgroup.into(),
            ..Default::default()
        };
        v1::Host {
            name: name.into(),
            condition: condition.into(),
            registered: true,
            facts: Some(facts),
            ..Default::default()
        }
    }

    fn instance(process: &str, host: &str, phase: v1::Phase) -> v1::Instance {
        v1::Instance {
            name: Some(v1::InstanceName { host: host.into(), process: process.into(), index: 1 }),
            status: Some(v1::InstanceStatus { phase: phase.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    fn shown(managers: Vec<v1::ManagerStatus>, hosts: Vec<v1::Host>, instances: Vec<v1::Instance>) -> String {
        let checkup = Checkup {
            managers: v1::GetManagersReply { managers, ..Default::default() },
            hosts: Ok(v1::ListHostsReply { hosts, ..Default::default() }),
            instances: Ok(v1::ListInstancesReply { instances, ..Default::default() }),
        };
        text(&checkup, &checkup.findings(), &Screen { colour: false, live: false, asks: false })
    }

    #[test]
    fn a_healthy_and_a_sick_cluster_read_well() {
        let managers = vec![manager(1, "leader"), manager(2, "follower"), manager(3, "follower")];
        let hosts = vec![host("web-1", v1::HostCondition::Connected)];
        let instances = vec![instance("api", "web-1", v1::Phase::Running)];
        insta::assert_snapshot!("healthy", shown(managers.clone(), hosts.clone(), instances));

        let mut managers = managers;
        managers[1].fsync_p99_us = 120_000;
        managers[1].clock_offset_ms = Some(-2_500);
        managers[0].disk_free_bytes = 1 << 26;
        managers[2].role = "unreachable".into();
        let mut hosts = hosts;
        hosts.extend((2..9).map(|number| host(&format!("web-{number}"), v1::HostCondition::Lost)));
        hosts.push(v1::Host {
            note: "connected to manager 2, not to the leader".into(),
            ..host("db-1", v1::HostCondition::Suspect)
        });
        let mut limited = instance("cache", "web-1", v1::Phase::Running);
        limited.warnings = vec!["memory limit not enforced: no memory controller on this host".into()];
        let instances = vec![instance("api", "web-1", v1::Phase::Fatal), limited];
        insta::assert_snapshot!("sick", shown(managers, hosts, instances));
    }
}
