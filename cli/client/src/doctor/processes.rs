//! What can be wrong with processes.

use std::collections::BTreeMap;

use super::{Finding, are, list};
use crate::v1;

/// Restarts within a spec's window that are more than bad luck.
const RESTARTS_MIN: u32 = 3;

pub(super) fn findings(reply: &v1::ListInstancesReply) -> Vec<Finding> {
    let instances = &reply.instances;
    let mut found = Vec::new();
    let status = |instance: &v1::Instance| instance.status.clone().unwrap_or_default();
    let fatal = named(instances, |instance| status(instance).phase() == v1::Phase::Fatal);
    if let Some(first) = fatal.first() {
        found.push(Finding::bad(
            format!("{} FATAL: {}", are(fatal.len(), "instance"), list(&fatal)),
            format!("`minderctl explain {first}` says why; mend it, then `minderctl retry {first}`"),
        ));
    }
    let flapping = named(instances, |instance| {
        let status = status(instance);
        status.phase() != v1::Phase::Fatal && status.restarts_in_window >= RESTARTS_MIN
    });
    if let Some(first) = flapping.first() {
        found.push(Finding::weak(
            format!("{} restarted again and again: {}", are(flapping.len(), "instance"), list(&flapping)),
            format!("`minderctl status {first}` shows its last exits, `minderctl logs {first}` what it said"),
        ));
    }
    let failing = named(instances, |instance| {
        status(instance).health.is_some_and(|health| health.state() == v1::ProbeState::Failing)
    });
    if let Some(first) = failing.first() {
        found.push(Finding::weak(
            format!("{} running with a failing health check: {}", are(failing.len(), "instance"), list(&failing)),
            format!("`minderctl explain {first}` shows its last answer"),
        ));
    }
    found.extend(warned(instances));
    found
}

/// What is not as specs say although nothing is owed, such as limits that hosts cannot hold: each sentence once.
fn warned(instances: &[v1::Instance]) -> Vec<Finding> {
    let mut by_sentence: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for instance in instances {
        for warning in &instance.warnings {
            by_sentence.entry(warning).or_default().push(name(instance));
        }
    }
    let finding = |(sentence, names): (&str, Vec<String>)| {
        Finding::weak(
            format!("{sentence}: {}", list(&names)),
            "`minderctl host info` says what the host lacks; the processes run without it",
        )
    };
    by_sentence.into_iter().map(finding).collect()
}

fn named(instances: &[v1::Instance], is: impl Fn(&v1::Instance) -> bool) -> Vec<String> {
    instances.iter().filter(|instance| is(instance)).map(name).collect()
}

fn name(instance: &v1::Instance) -> String {
    let name = instance.name.clone().unwrap_or_default();
    match name.index {
        0 | 1 => format!("{}@{}", name.process, name.host),
        index => format!("{}:{index}@{}", name.process, name.host),
    }
}
