//! What differs on single hosts.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{
    File, Limit, Resources, Spec,
    document::{some_list_or_shell_words, text_or_number, text_values},
};

/// What differs on one host. An absent field means "as in the spec"; `env`, `limits` and `resources` are merged key by
/// key, `files` path by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Another program.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Other arguments, whole.
    #[n(1)]
    #[serde(deserialize_with = "some_list_or_shell_words", skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Added or changed environment.
    #[n(2)]
    #[serde(deserialize_with = "text_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Another directory.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Another user.
    #[n(4)]
    #[serde(deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Added or changed limits.
    #[n(5)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Limit>,
    /// Another number of instances; 0 means none on this host.
    #[n(6)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Other limits on the whole instance, those that are named.
    #[n(60)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Other files of variables, whole.
    #[n(61)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_files: Option<Vec<String>>,
    /// Added files, or others in place of those of the same path.
    #[n(62)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
}

impl Override {
    /// Makes of a spec what it is on this host.
    pub(super) fn lay_over(&self, spec: &mut Spec) {
        if let Some(command) = &self.command {
            spec.command.clone_from(command);
        }
        if let Some(args) = &self.args {
            spec.args.clone_from(args);
        }
        spec.env.extend(self.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        spec.limits.extend(self.limits.iter().map(|(key, limit)| (key.clone(), *limit)));
        spec.working_directory = self.working_directory.clone().or(spec.working_directory.take());
        spec.user = self.user.clone().or(spec.user.take());
        spec.resources = self.resources(spec.resources);
        if let Some(env_files) = &self.env_files {
            spec.env_files.clone_from(env_files);
        }
        spec.files = self.files(&spec.files);
    }

    /// Limits on the whole instance, where the spec has these.
    pub(super) fn resources(&self, of_spec: Option<Resources>) -> Option<Resources> {
        let (Some(own), Some(of_spec)) = (self.resources, of_spec) else { return self.resources.or(of_spec) };
        Some(Resources {
            memory: own.memory.or(of_spec.memory),
            cpu: own.cpu.or(of_spec.cpu),
            pids: own.pids.or(of_spec.pids),
        })
    }

    /// The small files, where the spec has these.
    pub(crate) fn files(&self, of_spec: &[File]) -> Vec<File> {
        let kept = of_spec.iter().filter(|file| !self.files.iter().any(|own| own.path == file.path));
        kept.chain(&self.files).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, Cores, HostName};

    #[test]
    fn what_is_said_for_a_host_counts_there_and_nowhere_else() {
        let yaml = "{name: app, command: x, hosts: [h1, h2], resources: {memory: 1G, cpu: 2}, env_files: [/etc/a],
                     files: [{path: a, content: one}, {path: b, content: two}],
                     overrides: {h2: {resources: {memory: 2G, pids: 9}, env_files: [/etc/b, /etc/c],
                                      files: [{path: c, content: three}, {path: a, content: other}]}}}";
        let spec: Spec = serde_yaml_ng::from_str(yaml).unwrap();
        let host = |name: &str| HostName::new(name).unwrap();
        let plain = spec.resolve(&host("h1"));
        let plain = plain.spec();
        assert_eq!((&plain.resources, &plain.env_files, &plain.files), (&spec.resources, &spec.env_files, &spec.files));
        let other = spec.resolve(&host("h2"));
        let other = other.spec();
        let resources = Resources { memory: Some(Bytes(2 << 30)), cpu: Some(Cores(2_000)), pids: Some(9) };
        assert_eq!((other.resources, spec.resources_on(&host("h2"))), (Some(resources), Some(resources)));
        assert_eq!(spec.resources_on(&host("h1")), spec.resources);
        assert_eq!(other.env_files, ["/etc/b", "/etc/c"]);
        let files: Vec<_> = other.files.iter().map(|file| (file.path.as_str(), file.content.as_str())).collect();
        assert_eq!(files, [("b", "two"), ("c", "three"), ("a", "other")]);
        // An empty list is another list; that nothing is said is not.
        let none: Override = serde_yaml_ng::from_str("{env_files: []}").unwrap();
        assert_eq!(none.env_files, Some(Vec::new()));
        let stored = minicbor::to_vec(Override::default()).unwrap();
        assert!(!stored.contains(&62), "stored as before: {stored:?}");
    }
}
