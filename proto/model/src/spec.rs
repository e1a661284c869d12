//! The process spec: how a process is to be run. One type is what users write (serde), what is stored (CBOR with
//! numbered fields) and what is addressed by digest.
//!
//! A [`Spec`] says where as well as how; [`Spec::resolve`] turns it into the [`RunSpec`] of one host, which holds only
//! what matters there, so that adding a host to a process never restarts it on the others.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    digest::{Digest, encode},
    duration::Millis,
    id::{HostName, ProcessName},
    signal::Signal,
    size::Bytes,
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
    /// Environment. `${host}`, `${name}`, `${instance}`, `${generation}`, `${incarnation}` and `${revision}` are
    /// replaced here and in `args` and `working_directory`.
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
}

/// What differs on one host. An absent field means "as in the spec"; `env` and `limits` are merged key by key.
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
}

/// When a process that ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// After every end.
    #[n(0)]
    Always,
    /// After every end but a clean one (exit 0 or a success code, or HUP, INT, TERM, PIPE).
    #[default]
    #[n(1)]
    OnFailure,
    /// Never.
    #[n(2)]
    Never,
}

/// What happens when a process ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Which ends are followed by a start.
    #[n(0)]
    pub policy: RestartPolicy,
    /// Wait before the first restart.
    #[n(1)]
    pub delay: Millis,
    /// Each further wait is this many times the one before, in percent: 200 doubles, 100 keeps it constant.
    #[n(2)]
    #[serde(with = "factor")]
    pub factor: u32,
    /// The longest wait.
    #[n(3)]
    pub delay_max: Millis,
    /// Random part of each wait, in percent up and down, so that a fleet does not restart in step.
    #[n(4)]
    pub jitter_percent: u32,
    /// Restarts allowed within `window`; 0 means no limit.
    #[n(5)]
    pub limit: u32,
    /// The window the limit counts over; absent means for ever, until an operator's retry.
    #[n(6)]
    #[serde(deserialize_with = "forever_or_duration", serialize_with = "forever_or_text")]
    pub window: Option<Millis>,
    /// Having run this long, the wait starts over at `delay`.
    #[n(7)]
    pub reset_after: Millis,
    /// Exit codes that count as clean, beside 0.
    #[n(8)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub success_exit_codes: Vec<u8>,
    /// Exit codes after which nothing is tried again until an operator says so.
    #[n(9)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fatal_exit_codes: Vec<u8>,
    /// After the limit: one try each time this has passed; absent means no further try.
    #[n(10)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_retry: Option<Millis>,
}

impl Default for Restart {
    /// The defaults of systemd's and supervisord's users, without their traps: see design.md 6.
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            delay: Millis::from_secs(1),
            factor: 200,
            delay_max: Millis::from_secs(60),
            jitter_percent: 20,
            limit: 10,
            window: Some(Millis::from_secs(600)),
            reset_after: Millis::from_secs(60),
            success_exit_codes: Vec::new(),
            fatal_exit_codes: Vec::new(),
            slow_retry: Some(Millis::from_secs(600)),
        }
    }
}

/// Whom the stop signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum StopScope {
    /// The main process alone.
    #[default]
    #[n(0)]
    Main,
    /// Its process group.
    #[n(1)]
    Group,
    /// Every process of the incarnation.
    #[n(2)]
    All,
}

/// How a process is stopped. After the grace the whole tree is killed, always.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The polite signal; CONT follows it, so that a stopped program sees it.
    #[n(0)]
    pub signal: Signal,
    /// Whom it goes to.
    #[n(1)]
    pub scope: StopScope,
    /// How long the process may take.
    #[n(2)]
    pub grace: Millis,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::TERM, scope: StopScope::Main, grace: Millis::from_secs(10) }
    }
}

/// When a started process counts as running.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// STARTING becomes RUNNING after being alive this long.
    #[n(0)]
    pub healthy_after: Millis,
}

impl Default for Start {
    fn default() -> Self {
        Self { healthy_after: Millis::from_secs(1) }
    }
}

/// A program that puts itself into the background: its launcher exits 0 and something stays.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// File the program writes its main pid to; without it the oldest process that stays is the main one.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// How long the launcher may take to exit and the daemon to appear.
    #[n(1)]
    pub launch_timeout: Millis,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { pid_file: None, launch_timeout: Millis::from_secs(10) }
    }
}

/// What happens to output that cannot be written as fast as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum LogFull {
    /// It is counted and dropped; the program never waits.
    #[default]
    #[n(0)]
    Drop,
    /// The program waits.
    #[n(1)]
    Block,
}

/// What is kept of a process's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Size at which a stream's active file is rotated.
    #[n(0)]
    pub max_size: Bytes,
    /// Files kept per stream, the active one included.
    #[n(1)]
    pub max_files: u32,
    /// What happens when the disk does not take it.
    #[n(2)]
    pub on_full: LogFull,
    /// Standard error goes into the same file as standard output.
    #[n(3)]
    pub combine: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: Bytes::from_mib(10), max_files: 5, on_full: LogFull::Drop, combine: false }
    }
}

/// One resource limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Limit {
    /// What the program gets.
    #[n(0)]
    pub soft: Option<u64>,
    /// What it may raise it to.
    #[n(1)]
    pub hard: Option<u64>,
}

impl Limit {
    /// Reads `1024`, `unlimited`, `1024:4096`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let one = |part: &str| match part.trim() {
            "unlimited" | "infinity" => Ok(None),
            number => number
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("{text:?} is no limit; write a number, \"unlimited\" or \"SOFT:HARD\"")),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { soft: one(soft)?, hard: one(hard)? })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |value: Option<u64>| value.map_or_else(|| String::from("unlimited"), |value| format!("{value}"));
        if self.soft == self.hard { f.pad(&one(self.soft)) } else { write!(f, "{}:{}", one(self.soft), one(self.hard)) }
    }
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
    /// policy changed (restart, stop, start) and the running process stays.
    pub fn launch_digest(&self) -> Digest {
        let launch =
            Spec { restart: Restart::default(), stop: Stop::default(), start: Start::default(), ..self.spec.clone() };
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
        }
    }

    /// Whether it runs on a host with this name and these labels.
    pub fn places_on(&self, host: &HostName, labels: &BTreeMap<String, String>) -> bool {
        let by_name = self.hosts.contains(host);
        let by_label =
            !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        by_name || by_label
    }

    /// How many instances run on this host, if it is placed there.
    pub fn instances_on(&self, host: &HostName) -> u32 {
        self.overrides.get(host).and_then(|over| over.instances).unwrap_or(self.instances)
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
            if let Some(command) = &over.command {
                spec.command.clone_from(command);
            }
            if let Some(args) = &over.args {
                spec.args.clone_from(args);
            }
            spec.env.extend(over.env.iter().map(|(key, value)| (key.clone(), value.clone())));
            spec.limits.extend(over.limits.iter().map(|(key, limit)| (key.clone(), *limit)));
            spec.working_directory = over.working_directory.clone().or(spec.working_directory);
            spec.user = over.user.clone().or(spec.user);
        }
        RunSpec { spec }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).and_then(|scalar| Limit::parse(&scalar.text()).map_err(de::Error::custom))
    }
}

/// Text, or a number or truth value that documents allow in place of text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text or a number")]
enum Scalar {
    Integer(i64),
    Truth(bool),
    Fraction(f64),
    Text(String),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Integer(number) => format!("{number}"),
            Self::Truth(truth) => format!("{truth}"),
            Self::Fraction(number) => format!("{number}"),
            Self::Text(text) => text,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of texts, or one text that is split as a shell would")]
enum ListOrText {
    List(Vec<Scalar>),
    Text(String),
}

impl ListOrText {
    fn words<E: de::Error>(self) -> Result<Vec<String>, E> {
        match self {
            Self::List(items) => Ok(items.into_iter().map(Scalar::text).collect()),
            Self::Text(text) => shell_words::split(&text)
                .map_err(|_| E::custom(format!("{text:?} cannot be split into words: a quote is not closed"))),
        }
    }
}

fn list_or_shell_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    ListOrText::deserialize(deserializer)?.words()
}

fn some_list_or_shell_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::<ListOrText>::deserialize(deserializer)?.map(ListOrText::words).transpose()
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(Scalar::text))
}

fn text_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(key, value)| (key, value.text())).collect())
}

/// A window that may be `"forever"`.
fn forever_or_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    match Option::<Scalar>::deserialize(deserializer)?.map(Scalar::text).as_deref() {
        None | Some("forever") => Ok(None),
        Some(text) => Millis::parse(text).map(Some).map_err(de::Error::custom),
    }
}

fn forever_or_text<S: Serializer>(window: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    match window {
        None => serializer.serialize_str("forever"),
        Some(window) => serializer.collect_str(window),
    }
}

/// A factor such as `2` or `1.5` in documents, whole percent inside.
mod factor {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let factor = f64::deserialize(deserializer)?;
        if !(1.0..=100.0).contains(&factor) {
            return Err(de::Error::custom("a factor is a number from 1 to 100"));
        }
        Ok((factor * 100.0 + 0.5) as u32)
    }

    pub fn serialize<S: Serializer>(percent: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        if percent.is_multiple_of(100) {
            serializer.serialize_u32(percent / 100)
        } else {
            serializer.serialize_f64(f64::from(*percent) / 100.0)
        }
    }
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut spec = read("{name: web, command: x, args: [a, 'b c'], hosts: [h1, h2], overrides: {h2: {env: {A: 1}, instances: 3}}, restart: {factor: 1.5, limit: 3, window: 1m, fatal_exit_codes: [3]}, daemon: {pid_file: /run/x.pid}, logs: {max_size: 1MiB, on_full: block}}").unwrap();
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
        let patient = read("{name: web, command: x, hosts: [h1], stop: {grace: 1m}}").unwrap();
        assert_ne!(patient.resolve(&host).digest(), one.resolve(&host).digest());
        assert_eq!(patient.resolve(&host).launch_digest(), one.resolve(&host).launch_digest());
    }
}
