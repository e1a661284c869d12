//! Limits that a spec asks for and its host cannot hold: the process runs, and everybody is told.

use alloc::{format, string::String, vec::Vec};

use minder_model::{MachineFacts, Resource, Resources};

/// One sentence for each limit that is not enforced on a host with these facts; none of a host that has told nothing yet.
pub fn unenforced(resources: &Resources, facts: &MachineFacts) -> Vec<String> {
    if facts.slave_version.is_empty() {
        return Vec::new();
    }
    let limited = Resource::ALL.into_iter().filter(|resource| resources.limits(*resource));
    limited
        .filter_map(|resource| Some(format!("{} limit not enforced: {}", resource.word(), missing(resource, facts)?)))
        .collect()
}

fn missing(resource: Resource, facts: &MachineFacts) -> Option<&str> {
    match facts.limits.iter().find(|support| support.resource == resource) {
        Some(support) => Some(support.missing.as_str()).filter(|missing| !missing.is_empty()),
        None => Some("the slave there is of a version that knows no such limits"),
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Bytes, Cores, LimitSupport};

    use super::*;

    #[test]
    fn only_limits_that_are_asked_for_and_cannot_be_held_are_told() {
        let support = |resource, missing: &str| LimitSupport { resource, missing: missing.into() };
        let facts = MachineFacts {
            slave_version: "1".into(),
            limits: vec![support(Resource::Memory, "no memory controller on this host"), support(Resource::Cpu, "")],
            ..MachineFacts::default()
        };
        let all = Resources { memory: Some(Bytes(1)), cpu: Some(Cores(1)), pids: Some(1) };
        let sentences = [
            "memory limit not enforced: no memory controller on this host",
            "pids limit not enforced: the slave there is of a version that knows no such limits",
        ];
        assert_eq!(unenforced(&all, &facts), sentences);
        assert_eq!(unenforced(&Resources { memory: None, pids: None, ..all }, &facts), [""; 0]);
        assert_eq!(unenforced(&all, &MachineFacts::default()), [""; 0], "it has told nothing yet");
    }
}
