//! The process spec: how a process is to be run. One type is what users write (serde), what is stored (CBOR with
//! numbered fields) and what is addressed by digest.
//!
//! A [`Spec`] says where as well as how; [`Spec::resolve`] turns it into the [`RunSpec`] of one host, which holds only
//! what matters there, so that adding a host to a process never restarts it on the others.

mod document;
mod file;
mod hook;
mod limit;
mod over;
mod policy;
mod probe;
mod reload;
mod resources;

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use self::document::{is_one, list_or_shell_words, one, text_or_number, text_values};
pub use self::{
    file::File,
    hook::{Hook, Hooks},
    limit::Limit,
    over::Override,
    policy::{Daemon, LogFull, Logs, Restart, RestartPolicy, Start, Stop, StopScope, StopStep},
    probe::{Health, OnUnhealthy, Probe, Ready, Target},
    reload::Reload,
    resources::{Cores, Resource, Resources},
};
use crate::{
    digest::Digest,
    id::{HostName, ProcessName},
    stored::{encode, is_default},
};

/// How a process is to be run, and where. Immutable once written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The name users know it by.
    #[n(0)]
    pub name: ProcessName,
    /// The program: an absolute path, or a name that is looked up in the host's `PATH`.
    #[n(1)]
    pub command: String,
    /// Its arguments. In a document, text is split as a shell would split it (no expansion).
    #[n(2)]
    #[serde(default, deserialize_with = "list_or_shell_words", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment. `${host}`, `${name}`, `${instance}`, `${generation}`, `${incarnation}`, `${revision}` and, where
    /// there are `files`, `${files}` are replaced here, in `args`, `working_directory` and paths of `env_files`.
    #[n(3)]
    #[serde(default, deserialize_with = "text_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Directory it starts in; `/` when absent.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// User it runs as, by name or number; the slave's own when absent.
    #[n(5)]
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group it runs as, by name or number; the user's own when absent.
    #[n(6)]
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// File mode mask in octal text, for example `"022"`; the slave's own when absent.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// Resource limits by name (`nofile`, `core`, ...): a number, `unlimited`, or `soft:hard`.
    #[n(8)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Limit>,
    /// Niceness, -20 to 19.
    #[n(9)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Out-of-memory score adjustment, -1000 to 1000.
    #[n(10)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adjust: Option<i32>,
    /// How many instances run on each of its hosts.
    #[n(11)]
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub instances: u32,
    /// The hosts it runs on, by name. Either this or `selector`.
    #[n(12)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
    /// The hosts it runs on, by labels: every label here must be on the host. Either this or `hosts`.
    #[n(13)]
    #[serde(default, deserialize_with = "text_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// What differs on single hosts.
    #[n(14)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<HostName, Override>,
    /// Labels of the process, for selection by people and tools.
    #[n(15)]
    #[serde(default, deserialize_with = "text_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What happens when it ends by itself.
    #[n(16)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// How it is stopped.
    #[n(17)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop: Stop,
    /// When it counts as running.
    #[n(18)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: Start,
    /// Present when the program puts itself into the background.
    #[n(19)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    /// What is kept of its output.
    #[n(20)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub logs: Logs,
    /// Files of `KEY=VALUE` lines on the host, read at each start as the process' user could. `env` counts before them,
    /// a later file before an earlier one. One that begins with `-` may be missing.
    #[n(21)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<String>,
    /// What it may use altogether.
    #[n(22)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Whether it is well, asked while it runs.
    #[n(23)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether it can serve, asked while it runs.
    #[n(24)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Commands before and after its start and its end.
    #[cbor(n(25), default, skip_if = "is_default")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub hooks: Hooks,
    /// What a reload order does with it.
    #[n(26)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// Processes of the same host that come up before it and go down after it, where they are wanted there.
    #[n(27)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ProcessName>,
    /// As `after`, and it starts only while they run.
    #[n(28)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<ProcessName>,
    /// Small files that are written before each start.
    #[n(29)]
    #[cbor(skip_if = "Vec::is_empty")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Nothing that it executes gives it more rights than it has (`PR_SET_NO_NEW_PRIVS`).
    #[n(30)]
    #[cbor(skip_if = "is_default")]
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
}

/// What one host needs to know of a spec: how to run it there. Addressed by digest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct RunSpec {
    /// The spec with its overrides applied and everything about placement and selection taken out.
    #[n(0)]
    spec: Spec,
}

impl RunSpec {
    /// The spec as it applies on this host.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The stored form, which the digest is taken of.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the stored form. The error says what is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        minicbor::decode(bytes)
    }

    /// Addresses this content.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Digest of what only a new start can change. Equal launch digests with unequal [`Self::digest`] mean that the
    /// policy changed (restart, stop, start, health, ready, `hooks.pre_stop`, `reload`, `after`, `requires`) and the running process stays.
    pub fn launch_digest(&self) -> Digest {
        let launch = Spec {
            restart: Restart::default(),
            stop: Stop::default(),
            start: Start::default(),
            health: None,
            ready: None,
            hooks: Hooks { pre_stop: None, ..self.spec.hooks.clone() },
            reload: None,
            after: Vec::new(),
            requires: Vec::new(),
            ..self.spec.clone()
        };
        Digest::of_encoded(&launch)
    }
}

impl Spec {
    /// A spec with every default, for `command` under `name`, placed nowhere.
    pub fn new(name: ProcessName, command: impl Into<String>) -> Self {
        Self {
            name,
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            working_directory: None,
            user: None,
            group: None,
            umask: None,
            limits: BTreeMap::new(),
            nice: None,
            oom_score_adjust: None,
            instances: 1,
            hosts: Vec::new(),
            selector: BTreeMap::new(),
            overrides: BTreeMap::new(),
            labels: BTreeMap::new(),
            restart: Restart::default(),
            stop: Stop::default(),
            start: Start::default(),
            daemon: None,
            logs: Logs::default(),
            env_files: Vec::new(),
            health: None,
            ready: None,
            hooks: Hooks::default(),
            reload: None,
            after: Vec::new(),
            requires: Vec::new(),
            files: Vec::new(),
            no_new_privileges: false,
            resources: None,
        }
    }

    /// The processes that it comes after, on a host that has them; one may come twice.
    pub fn comes_after(&self) -> impl Iterator<Item = &ProcessName> {
        self.after.iter().chain(&self.requires)
    }

    /// Whether it runs on a host with this name and these labels.
    pub fn places_on(&self, host: &HostName, labels: &BTreeMap<String, String>) -> bool {
        self.hosts.contains(host) || self.selects(|key| labels.get(key))
    }

    /// Whether its selector fits what `label` knows of a host. A spec without a selector selects nothing.
    pub fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| label(key) == Some(value))
    }

    /// How many instances run on this host, if it is placed there.
    pub fn instances_on(&self, host: &HostName) -> u32 {
        self.overrides.get(host).and_then(|over| over.instances).unwrap_or(self.instances)
    }

    /// What an instance may use on this host.
    pub fn resources_on(&self, host: &HostName) -> Option<Resources> {
        self.overrides.get(host).map_or(self.resources, |over| over.resources(self.resources))
    }

    /// What `host` needs to know: overrides applied, placement and labels taken out.
    pub fn resolve(&self, host: &HostName) -> RunSpec {
        let mut spec = Spec {
            hosts: Vec::new(),
            selector: BTreeMap::new(),
            overrides: BTreeMap::new(),
            labels: BTreeMap::new(),
            instances: 1,
            ..self.clone()
        };
        if let Some(over) = self.overrides.get(host) {
            over.lay_over(&mut spec);
        }
        RunSpec { spec }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signal;

    /// A spec that says nothing but its name and command, as the first version stored it.
    const PLAIN_STORED: &str = "ae0063776562016178028003a008a00b010c800da00ea00fa010ab0001011903e80218c80319ea600414050a061a0009\
        27c00719ea60088009800a1a000927c011a3000f01000219271012a1001903e814a4001a00a000000105020003f4";

    fn read(yaml: &str) -> Result<Spec, String> {
        serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_small_document_gets_every_default() {
        let spec = read("{name: web, command: /bin/sleep, args: '10 \"a b\"', hosts: [h1]}").unwrap();
        assert_eq!(spec.args, ["10", "a b"]);
        assert_eq!(spec.restart, Restart::default());
        assert_eq!(spec.instances, 1);
    }

    #[test]
    fn documents_say_numbers_where_texts_are_meant() {
        let spec = read("{name: web, command: x, args: [1, 2.5, true], env: {PORT: 80}, user: 1000, restart: {delay: 0, factor: 1.5, window: forever}, stop: {signal: 9, grace: 1500ms}, limits: {nofile: 1024}}").unwrap();
        assert_eq!(spec.args, ["1", "2.5", "true"]);
        assert_eq!(spec.env["PORT"], "80");
        assert_eq!(spec.restart.factor, 150);
        assert_eq!(spec.restart.window, None);
        assert_eq!(spec.stop.signal, Signal::KILL);
        assert_eq!(spec.limits["nofile"], Limit { soft: Some(1024), hard: Some(1024) });
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused() {
        assert!(read("{name: web, command: x, comand: y}").unwrap_err().contains("unknown field `comand`"));
        assert!(read("{name: web}").unwrap_err().contains("missing field `command`"));
        assert!(read("{name: web, command: x, restart: {delay: -1}}").is_err());
        assert!(read("{name: web, command: x, args: '\"open'}").unwrap_err().contains("quote is not closed"));
    }

    #[test]
    fn written_documents_and_stored_forms_read_back() {
        let mut spec = read("{name: web, command: x, args: [a, 'b c'], hosts: [h1, h2], overrides: {h2: {env: {A: 1}, instances: 3}}, restart: {factor: 1.5, limit: 3, window: 1m, fatal_exit_codes: [3]}, daemon: {pid_file: /run/x.pid}, logs: {max_size: 1MiB, on_full: block}, health: {tcp: 80, start_grace: 0}, ready: {exec: [a, b]}, hooks: {pre_start: x y}, reload: {exec: a b}, after: [db], requires: [cache, net], start: {timeout: 1m}}").unwrap();
        spec.nice = Some(-5);
        let yaml = serde_yaml_ng::to_string(&spec).unwrap();
        assert_eq!(read(&yaml).unwrap(), spec, "{yaml}");
        assert_eq!(minicbor::decode::<Spec>(&encode(&spec)).unwrap(), spec);
    }

    #[test]
    fn placement_does_not_change_what_a_host_runs_and_policy_does_not_change_its_launch() {
        let host = HostName::new("h1").unwrap();
        let one = read("{name: web, command: x, hosts: [h1]}").unwrap();
        let two =
            read("{name: web, command: x, hosts: [h1, h2], labels: {a: b}, overrides: {h2: {args: [q]}}}").unwrap();
        assert_eq!(one.resolve(&host).digest(), two.resolve(&host).digest());
        assert_ne!(two.resolve(&HostName::new("h2").unwrap()).digest(), two.resolve(&host).digest());
        let patient =
            read("{name: web, command: x, hosts: [h1], stop: {grace: 1m}, health: {tcp: 80}, ready: {tcp: 80}, hooks: {pre_stop: x}, after: [a], requires: [b], reload: HUP}")
                .unwrap();
        assert_ne!(patient.resolve(&host).digest(), one.resolve(&host).digest());
        assert_eq!(patient.resolve(&host).launch_digest(), one.resolve(&host).launch_digest());
        let filed = |content: &str| {
            let yaml =
                alloc::format!("{{name: web, command: x, hosts: [h1], files: [{{path: a, content: {content}}}]}}");
            read(&yaml).unwrap().resolve(&host).launch_digest()
        };
        assert!(
            filed("1") == filed("1") && filed("1") != filed("2") && filed("1") != one.resolve(&host).launch_digest()
        );
    }

    /// Digests are taken of what is stored. A field that is stored where nobody has said it would make every process
    /// of an upgraded slave another one than it runs.
    #[test]
    fn fields_that_came_later_are_stored_only_where_they_say_something() {
        let plain = read("{name: web, command: x}").unwrap();
        let hex: alloc::string::String = encode(&plain).iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        assert_eq!(hex, PLAIN_STORED);
    }
}
