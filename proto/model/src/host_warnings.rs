//! What everybody who looks at an instance is told of its host: limits that its spec asks for and that cannot be held
//! there, although the process runs; stray processes of it.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    id::InstanceKey,
    machine::{MachineFacts, Stray},
    spec::{Resource, Resources},
};

/// One sentence for each thing that is not as the spec of this instance asks for it.
pub fn host_warnings(
    key: &InstanceKey,
    resources: Option<Resources>,
    facts: &MachineFacts,
    strays: &[Stray],
) -> Vec<String> {
    let instance = key.to_string();
    let strays = strays.iter().filter(|stray| stray.instance == instance).map(ToString::to_string);
    let limits = resources.map(|resources| unenforced(&resources, facts)).unwrap_or_default();
    limits.into_iter().chain(strays).collect()
}

/// One sentence for each limit that is not enforced on a host with these facts; none of a host that has told nothing yet.
fn unenforced(resources: &Resources, facts: &MachineFacts) -> Vec<String> {
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
    use alloc::vec;

    use super::*;
    use crate::{Bytes, Cores, LimitSupport};

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

    #[test]
    fn strays_are_told_where_they_belong() {
        let stray = |instance: &str, pids: Vec<u32>| Stray { instance: instance.into(), incarnation: 4, pids };
        let strays = [stray("app", vec![7, 9]), stray("app:2", vec![1; crate::STRAY_PIDS_MAX])];
        let told = |key: &str| {
            host_warnings(&InstanceKey::parse(key).unwrap(), None, &MachineFacts::default(), &strays).concat()
        };
        assert_eq!(told("app"), "stray processes of app, incarnation 4: 7, 9");
        assert!(told("app:2").ends_with(", 1 and more"), "{}", told("app:2"));
        assert_eq!(told("other"), "");
    }
}
