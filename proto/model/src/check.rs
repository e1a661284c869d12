//! What a spec must satisfy beyond its types. Every complaint names the field by its path and says what is allowed.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt;

use crate::{digest::encode, duration::Millis, limits::*, spec::Spec};

/// One complaint about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, for example `spec.restart.delay`.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl FieldError {
    /// A complaint about `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Every complaint about one document, never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl core::error::Error for FieldErrors {}

/// The names of resource limits that Linux knows (setrlimit(2)).
const LIMIT_NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn that(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.errors.push(FieldError::new(format!("spec.{path}"), message()));
        }
    }

    fn text(&mut self, path: &str, text: &str, bytes_max: usize) {
        self.that(!text.contains('\0'), path, || String::from("must not contain a NUL character"));
        self.that(text.len() <= bytes_max, path, || format!("has {} bytes, the limit is {bytes_max}", text.len()));
    }

    fn absolute(&mut self, path: &str, text: &str) {
        self.that(text.starts_with('/') || text.starts_with("${"), path, || {
            format!("{text:?} is not an absolute path; write it from the root, starting with '/'")
        });
    }

    fn duration(&mut self, path: &str, value: Millis, ms_max: u64) {
        self.that(value.0 <= ms_max, path, || format!("{value} is too long, the limit is {}", Millis(ms_max)));
    }

    fn command(&mut self, path: &str, command: &str) {
        self.that(!command.is_empty(), path, || String::from("is empty; name the program to run"));
        self.text(path, command, ARG_BYTES_MAX);
    }

    fn args(&mut self, path: &str, args: &[String]) {
        self.that(args.len() <= ARGS_MAX, path, || format!("has {} arguments, the limit is {ARGS_MAX}", args.len()));
        for (at, arg) in args.iter().enumerate() {
            self.text(&format!("{path}[{at}]"), arg, ARG_BYTES_MAX);
        }
    }

    fn env(&mut self, path: &str, env: &BTreeMap<String, String>) {
        self.that(env.len() <= ENV_MAX, path, || format!("has {} variables, the limit is {ENV_MAX}", env.len()));
        for (key, value) in env {
            self.that(!key.is_empty() && !key.contains(['=', '\0']), path, || {
                format!("{key:?} is no variable name: it must not be empty nor contain '='")
            });
            self.text(&format!("{path}.{key}"), value, ENV_BYTES_MAX);
        }
    }

    fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        self.that(labels.len() <= LABELS_MAX, path, || {
            format!("has {} labels, the limit is {LABELS_MAX}", labels.len())
        });
        for (key, value) in labels {
            let odd = |text: &str| text.contains(|c: char| c.is_control() || matches!(c, '=' | ',' | ' '));
            self.that(!key.is_empty() && !odd(key) && !odd(value), path, || {
                format!("{key:?}={value:?} is no label: no blanks, commas, '=' or control characters, and a key")
            });
            self.that(key.len().max(value.len()) <= LABEL_BYTES_MAX, path, || {
                format!("label {key:?} is too long, the limit is {LABEL_BYTES_MAX} bytes for key and value each")
            });
        }
    }

    fn limits(&mut self, path: &str, limits: &BTreeMap<String, crate::Limit>) {
        for (name, limit) in limits {
            let path = format!("{path}.{name}");
            self.that(LIMIT_NAMES.contains(&name.as_str()), &path, || {
                format!("is no limit that Linux knows; there are {}", LIMIT_NAMES.join(", "))
            });
            let soft_fits = limit.hard.is_none_or(|hard| limit.soft.is_some_and(|soft| soft <= hard));
            self.that(soft_fits, &path, || format!("{limit}: the soft limit is above the hard one"));
        }
    }
}

/// Checks labels that are not part of a spec, such as a host's. `path` names where they stand.
pub fn check_labels(path: &str, labels: &BTreeMap<String, String>) -> Result<(), FieldErrors> {
    let mut check = Check { errors: Vec::new() };
    check.labels(path, labels);
    if check.errors.is_empty() { Ok(()) } else { Err(FieldErrors(check.errors)) }
}

/// Checks everything a type cannot. All complaints are returned together, so that one round mends them all.
pub fn check_spec(spec: &Spec) -> Result<(), FieldErrors> {
    let mut check = Check { errors: Vec::new() };
    check_launch(&mut check, spec);
    check_placement(&mut check, spec);
    check_policies(&mut check, spec);
    let size = encode(spec).len();
    check.that(size <= SPEC_BYTES_MAX, "name", || {
        format!("the whole spec has {size} bytes, the limit is {SPEC_BYTES_MAX}")
    });
    if check.errors.is_empty() { Ok(()) } else { Err(FieldErrors(check.errors)) }
}

fn check_launch(check: &mut Check, spec: &Spec) {
    check.command("command", &spec.command);
    check.args("args", &spec.args);
    check.env("env", &spec.env);
    if let Some(directory) = &spec.working_directory {
        check.text("working_directory", directory, ARG_BYTES_MAX);
        check.absolute("working_directory", directory);
    }
    if let Some(umask) = &spec.umask {
        let octal = u32::from_str_radix(umask, 8).is_ok_and(|mask| mask <= 0o777);
        check.that(octal, "umask", || format!("{umask:?} is no file mode mask; write octal text such as \"022\""));
    }
    if let Some(nice) = spec.nice {
        check.that((-20..=19).contains(&nice), "nice", || format!("{nice} is not within -20 to 19"));
    }
    if let Some(score) = spec.oom_score_adjust {
        check.that((-1000..=1000).contains(&score), "oom_score_adjust", || {
            format!("{score} is not within -1000 to 1000")
        });
    }
    check.limits("limits", &spec.limits);
    if let Some(daemon) = &spec.daemon {
        check.duration("daemon.launch_timeout", daemon.launch_timeout, DURATION_MS_MAX);
        if let Some(pid_file) = &daemon.pid_file {
            check.absolute("daemon.pid_file", pid_file);
        }
    }
    check_resources(check, spec.resources.unwrap_or_default());
    let logs = &spec.logs;
    check.that((LOG_BYTES_MIN..=LOG_BYTES_MAX).contains(&logs.max_size.0), "logs.max_size", || {
        format!("{} is not within {LOG_BYTES_MIN} bytes to {LOG_BYTES_MAX} bytes", logs.max_size)
    });
    check.that((1..=LOG_FILES_MAX).contains(&logs.max_files), "logs.max_files", || {
        format!("{} is not within 1 to {LOG_FILES_MAX}", logs.max_files)
    });
}

fn check_resources(check: &mut Check, resources: crate::Resources) {
    if let Some(memory) = resources.memory {
        check.that(memory.0 >= MEMORY_LIMIT_BYTES_MIN, "resources.memory", || {
            format!("{memory} is below {}, with which no program gets far", crate::Bytes(MEMORY_LIMIT_BYTES_MIN))
        });
    }
    if let Some(cpu) = resources.cpu {
        let (least, most) = (crate::Cores(CPU_LIMIT_MILLICORES_MIN), crate::Cores(CPU_LIMIT_MILLICORES_MAX));
        check.that((least..=most).contains(&cpu), "resources.cpu", || {
            format!("{cpu} is not within {least} to {most} cores")
        });
    }
    if let Some(pids) = resources.pids {
        check.that((1..=PIDS_LIMIT_MAX).contains(&pids), "resources.pids", || {
            format!("{pids} is not within 1 to {PIDS_LIMIT_MAX}")
        });
    }
}

fn check_placement(check: &mut Check, spec: &Spec) {
    check.that(spec.hosts.len() <= SPEC_HOSTS_MAX, "hosts", || {
        format!("names {} hosts, the limit is {SPEC_HOSTS_MAX}; use a selector", spec.hosts.len())
    });
    let mut sorted = spec.hosts.clone();
    sorted.sort();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        check.that(false, "hosts", || format!("names {} twice", twice[0]));
    }
    check.that(spec.hosts.is_empty() || spec.selector.is_empty(), "selector", || {
        String::from("stands beside `hosts`; say where it runs in one way only")
    });
    check.labels("selector", &spec.selector);
    check.labels("labels", &spec.labels);
    check.that((1..=INSTANCES_PER_HOST_MAX).contains(&spec.instances), "instances", || {
        format!("{} is not within 1 to {INSTANCES_PER_HOST_MAX} per host", spec.instances)
    });
    for (host, over) in &spec.overrides {
        let path = format!("overrides.{host}");
        if let Some(command) = &over.command {
            check.command(&format!("{path}.command"), command);
        }
        check.args(&format!("{path}.args"), over.args.as_deref().unwrap_or_default());
        check.env(&format!("{path}.env"), &over.env);
        check.limits(&format!("{path}.limits"), &over.limits);
        if let Some(directory) = &over.working_directory {
            check.absolute(&format!("{path}.working_directory"), directory);
        }
        let instances = over.instances.unwrap_or(1);
        check.that(instances <= INSTANCES_PER_HOST_MAX, &format!("{path}.instances"), || {
            format!("{instances} is above the limit of {INSTANCES_PER_HOST_MAX} per host")
        });
    }
}

fn check_policies(check: &mut Check, spec: &Spec) {
    let restart = &spec.restart;
    check.duration("restart.delay", restart.delay, DURATION_MS_MAX);
    check.duration("restart.delay_max", restart.delay_max, DURATION_MS_MAX);
    check.duration("restart.reset_after", restart.reset_after, DURATION_MS_MAX);
    check.that(restart.delay_max >= restart.delay, "restart.delay_max", || {
        format!("{} is shorter than restart.delay, {}", restart.delay_max, restart.delay)
    });
    check.that((100..=10_000).contains(&restart.factor), "restart.factor", || {
        format!("{}.{:02} is not within 1 to 100", restart.factor / 100, restart.factor % 100)
    });
    check.that(restart.jitter_percent <= 50, "restart.jitter_percent", || {
        format!("{} is above 50", restart.jitter_percent)
    });
    check.that(restart.limit <= RESTART_LIMIT_MAX, "restart.limit", || {
        format!("{} is above the limit of {RESTART_LIMIT_MAX}", restart.limit)
    });
    if let Some(window) = restart.window {
        check.duration("restart.window", window, WINDOW_MS_MAX);
        check.that(window.0 > 0, "restart.window", || String::from("is zero; use \"forever\" or limit: 0"));
    }
    if let Some(slow_retry) = restart.slow_retry {
        check.duration("restart.slow_retry", slow_retry, DURATION_MS_MAX);
        check.that(slow_retry.0 >= 1_000, "restart.slow_retry", || String::from("is below one second"));
    }
    check.duration("stop.grace", spec.stop.grace, DURATION_MS_MAX);
    check.duration("start.healthy_after", spec.start.healthy_after, DURATION_MS_MAX);
}

/// What is allowed but surely not meant, one sentence each.
pub fn warnings(spec: &Spec) -> Vec<String> {
    let mut found = Vec::new();
    let restart = &spec.restart;
    if let (Some(window), true) = (restart.window, restart.limit > 0 && restart.policy != crate::RestartPolicy::Never) {
        let mut delay = restart.delay.0;
        let mut spent = 0_u64;
        for _ in 0..restart.limit.min(10_000) {
            spent = spent.saturating_add(delay);
            delay = (delay.saturating_mul(u64::from(restart.factor)) / 100).min(restart.delay_max.0);
        }
        if spent > window.0 {
            found.push(format!(
                "spec.restart.limit: {} restarts take at least {}, longer than the window of {window}, so the limit is never reached",
                restart.limit,
                Millis(spent)
            ));
        }
    }
    if spec.hosts.is_empty() && spec.selector.is_empty() {
        found.push(String::from("spec.hosts: neither hosts nor a selector, so it runs nowhere"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostName, Limit, ProcessName};

    fn check(change: impl FnOnce(&mut Spec)) -> Vec<String> {
        let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/true");
        change(&mut spec);
        check_spec(&spec).err().map(|errors| errors.0.into_iter().map(|e| e.path).collect()).unwrap_or_default()
    }

    #[test]
    fn every_complaint_names_its_field() {
        assert!(check(|_| ()).is_empty());
        assert_eq!(check(|s| s.command.clear()), ["spec.command"]);
        assert_eq!(check(|s| s.args = alloc::vec![String::from("a\0b")]), ["spec.args[0]"]);
        assert_eq!(check(|s| s.working_directory = Some("here".into())), ["spec.working_directory"]);
        assert_eq!(check(|s| s.umask = Some("9".into())), ["spec.umask"]);
        assert_eq!(check(|s| s.nice = Some(40)), ["spec.nice"]);
        let few = crate::Resources { memory: Some(crate::Bytes(1)), cpu: Some(crate::Cores(9)), pids: Some(0) };
        let paths = ["spec.resources.memory", "spec.resources.cpu", "spec.resources.pids"];
        assert_eq!(check(|s| s.resources = Some(few)), paths);
        assert_eq!(check(|s| s.instances = 0), ["spec.instances"]);
        assert_eq!(check(|s| s.instances = 4_000_000), ["spec.instances"]);
        assert_eq!(check(|s| s.restart.delay = Millis(u64::MAX)), ["spec.restart.delay", "spec.restart.delay_max"]);
        assert_eq!(check(|s| s.restart.window = Some(Millis(0))), ["spec.restart.window"]);
        assert_eq!(check(|s| s.env = [(String::from("A=B"), String::new())].into()), ["spec.env"]);
        assert_eq!(check(|s| s.labels = [(String::from("a b"), String::new())].into()), ["spec.labels"]);
        assert_eq!(
            check(|s| s.limits = [(String::from("nofiles"), Limit { soft: None, hard: None })].into()),
            ["spec.limits.nofiles"]
        );
        assert_eq!(
            check(|s| s.limits = [(String::from("nofile"), Limit { soft: None, hard: Some(1) })].into()),
            ["spec.limits.nofile"]
        );
        let host = HostName::new("h").unwrap();
        assert_eq!(check(|s| s.hosts = alloc::vec![host.clone(), host.clone()]), ["spec.hosts"]);
        assert_eq!(check(|s| s.args = alloc::vec!["x".repeat(60_000), "x".repeat(60_000)]), ["spec.name"]);
    }

    #[test]
    fn a_limit_that_can_never_be_reached_is_pointed_out() {
        let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/true");
        spec.hosts = alloc::vec![HostName::new("h").unwrap()];
        assert!(warnings(&spec).is_empty(), "{:?}", warnings(&spec));
        spec.restart.delay = Millis::from_secs(60);
        spec.restart.limit = 20;
        assert_eq!(warnings(&spec).len(), 1);
    }
}
