//! What a spec must satisfy beyond its types. Every complaint names the field by its path and says what is allowed.

mod field_error;
mod files;
mod groups;
mod order;

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt::Display;

pub use self::{
    field_error::{FieldError, FieldErrors},
    order::{check_order, ring, said},
};
use crate::{
    duration::Millis,
    limits::*,
    signal::Signal,
    spec::{OnUnhealthy, Probe, Spec},
};

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

/// Paths are made into text only where there is something to complain about: a thousand specs come in one request.
struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn that(&mut self, holds: bool, path: impl Display + Copy, message: impl FnOnce() -> String) {
        if !holds {
            self.errors.push(FieldError::new(format!("spec.{path}"), message()));
        }
    }

    fn text(&mut self, path: impl Display + Copy, text: &str, bytes_max: usize) {
        self.that(!text.contains('\0'), path, || String::from("must not contain a NUL character"));
        self.that(text.len() <= bytes_max, path, || format!("has {} bytes, the limit is {bytes_max}", text.len()));
    }

    fn absolute(&mut self, path: impl Display + Copy, text: &str) {
        self.that(text.starts_with('/') || text.starts_with("${"), path, || {
            format!("{text:?} is not an absolute path; write it from the root, starting with '/'")
        });
    }

    fn duration(&mut self, path: impl Display + Copy, value: Millis, ms_max: u64) {
        self.that(value.0 <= ms_max, path, || format!("{value} is too long, the limit is {}", Millis(ms_max)));
    }

    fn command(&mut self, path: impl Display + Copy, command: &str) {
        self.that(!command.is_empty(), path, || String::from("is empty; name the program to run"));
        self.text(path, command, ARG_BYTES_MAX);
    }

    fn args(&mut self, path: impl Display + Copy, args: &[String]) {
        self.that(args.len() <= ARGS_MAX, path, || format!("has {} arguments, the limit is {ARGS_MAX}", args.len()));
        for (at, arg) in args.iter().enumerate() {
            self.text(format_args!("{path}[{at}]"), arg, ARG_BYTES_MAX);
        }
    }

    fn env(&mut self, path: impl Display + Copy, env: &BTreeMap<String, String>) {
        self.that(env.len() <= ENV_MAX, path, || format!("has {} variables, the limit is {ENV_MAX}", env.len()));
        for (key, value) in env {
            self.that(!key.is_empty() && !key.contains(['=', '\0']), path, || {
                format!("{key:?} is no variable name: it must not be empty nor contain '='")
            });
            self.text(format_args!("{path}.{key}"), value, ENV_BYTES_MAX);
        }
    }

    fn env_files(&mut self, path: impl Display + Copy, files: &[String]) {
        self.that(files.len() <= ENV_FILES_MAX, path, || {
            format!("has {} files, the limit is {ENV_FILES_MAX}", files.len())
        });
        for (at, file) in files.iter().enumerate() {
            let path = format_args!("{path}[{at}]");
            self.text(path, file, ARG_BYTES_MAX);
            self.absolute(path, file.strip_prefix('-').unwrap_or(file));
        }
    }

    fn labels(&mut self, path: impl Display + Copy, labels: &BTreeMap<String, String>) {
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

    fn probe(&mut self, path: impl Display + Copy, probe: &Probe, interval: Millis, timeout: Millis, threshold: u32) {
        let at = format!("{path}.{}", probe.word());
        match probe {
            Probe::Exec(words) => self.args(&at, words),
            Probe::Tcp(text) | Probe::Http(text) | Probe::Grpc(text) => self.text(&at, text, ARG_BYTES_MAX),
        }
        // Variables are filled in on the host; here a digit stands for each, which fits a port as well as a path.
        if let Err(message) = probe.map(with_digits).target() {
            self.errors.push(FieldError::new(format!("spec.{at}"), message));
        }
        self.duration(format_args!("{path}.interval"), interval, DURATION_MS_MAX);
        self.that(interval.0 >= PROBE_INTERVAL_MS_MIN, format_args!("{path}.interval"), || {
            format!("{interval} is shorter than {}", Millis(PROBE_INTERVAL_MS_MIN))
        });
        self.duration(format_args!("{path}.timeout"), timeout, PROBE_TIMEOUT_MS_MAX);
        self.that(timeout.0 > 0, format_args!("{path}.timeout"), || {
            String::from("is zero; nothing answers in no time")
        });
        self.that((1..=PROBE_THRESHOLD_MAX).contains(&threshold), format_args!("{path}.threshold"), || {
            format!("{threshold} is not within 1 to {PROBE_THRESHOLD_MAX}")
        });
    }

    fn limits(&mut self, path: impl Display + Copy, limits: &BTreeMap<String, crate::Limit>) {
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

/// The text with a digit for each `${variable}`.
fn with_digits(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        filled.push('1');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    filled + rest
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
    files::check_files(&mut check, "files", &spec.files, &spec.files);
    check_placement(&mut check, spec);
    check_policies(&mut check, spec);
    check_probes(&mut check, spec);
    check_hooks(&mut check, spec);
    order::check_names(&mut check, spec);
    let files = files::check_size(&mut check, spec);
    let size = minicbor::len(spec) - files;
    check.that(size <= SPEC_BYTES_MAX, "name", || {
        format!("the whole spec has {size} bytes, the limit is {SPEC_BYTES_MAX}")
    });
    if check.errors.is_empty() { Ok(()) } else { Err(FieldErrors(check.errors)) }
}

fn check_launch(check: &mut Check, spec: &Spec) {
    check.command("command", &spec.command);
    check.args("args", &spec.args);
    check.env("env", &spec.env);
    check.env_files("env_files", &spec.env_files);
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
    check_resources(check, "resources", spec.resources.unwrap_or_default());
    let logs = &spec.logs;
    check.that((LOG_BYTES_MIN..=LOG_BYTES_MAX).contains(&logs.max_size.0), "logs.max_size", || {
        format!("{} is not within {LOG_BYTES_MIN} bytes to {LOG_BYTES_MAX} bytes", logs.max_size)
    });
    check.that((1..=LOG_FILES_MAX).contains(&logs.max_files), "logs.max_files", || {
        format!("{} is not within 1 to {LOG_FILES_MAX}", logs.max_files)
    });
}

fn check_resources(check: &mut Check, base: impl Display + Copy, resources: crate::Resources) {
    if let Some(memory) = resources.memory {
        check.that(memory.0 >= MEMORY_LIMIT_BYTES_MIN, format_args!("{base}.memory"), || {
            format!("{memory} is below {}, with which no program gets far", crate::Bytes(MEMORY_LIMIT_BYTES_MIN))
        });
    }
    if let Some(cpu) = resources.cpu {
        let (least, most) = (crate::Cores(CPU_LIMIT_MILLICORES_MIN), crate::Cores(CPU_LIMIT_MILLICORES_MAX));
        check.that((least..=most).contains(&cpu), format_args!("{base}.cpu"), || {
            format!("{cpu} is not within {least} to {most} cores")
        });
    }
    if let Some(pids) = resources.pids {
        check.that((1..=PIDS_LIMIT_MAX).contains(&pids), format_args!("{base}.pids"), || {
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
            check.command(format_args!("{path}.command"), command);
        }
        check.args(format_args!("{path}.args"), over.args.as_deref().unwrap_or_default());
        check.env(format_args!("{path}.env"), &over.env);
        check.limits(format_args!("{path}.limits"), &over.limits);
        check_resources(check, format_args!("{path}.resources"), over.resources.unwrap_or_default());
        check.env_files(format_args!("{path}.env_files"), over.env_files.as_deref().unwrap_or_default());
        files::check_files(check, format_args!("{path}.files"), &over.files, &over.files(&spec.files));
        if let Some(directory) = &over.working_directory {
            check.absolute(format_args!("{path}.working_directory"), directory);
        }
        let instances = over.instances.unwrap_or(1);
        check.that(instances <= INSTANCES_PER_HOST_MAX, format_args!("{path}.instances"), || {
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
    check_escalation(check, &spec.stop);
    check.duration("start.healthy_after", spec.start.healthy_after, DURATION_MS_MAX);
    if let Some(timeout) = spec.start.timeout {
        check.duration("start.timeout", timeout, DURATION_MS_MAX);
        check.that(timeout > spec.start.healthy_after, "start.timeout", || {
            format!("{timeout} is not longer than start.healthy_after, {}", spec.start.healthy_after)
        });
    }
}

fn check_hooks(check: &mut Check, spec: &Spec) {
    for (name, hook) in spec.hooks.named() {
        let path = format!("hooks.{name}");
        check.command(format_args!("{path}.command"), &hook.command);
        check.args(format_args!("{path}.args"), &hook.args);
        check.duration(format_args!("{path}.timeout"), hook.timeout, HOOK_TIMEOUT_MS_MAX);
        check.that(hook.timeout.0 > 0, format_args!("{path}.timeout"), || {
            String::from("is zero; nothing ends in no time")
        });
    }
    if let Some(crate::Reload::Exec(words)) = &spec.reload {
        check.command("reload.exec", words.first().map_or("", String::as_str));
        check.args("reload.exec", words);
    }
    let never = spec.hooks.pre_stop.is_some() && spec.stop.signal == crate::Signal::KILL;
    check.that(!never, "hooks.pre_stop", || {
        String::from("never runs, because stop.signal is KILL, which waits for nothing; say another signal")
    });
}

fn check_probes(check: &mut Check, spec: &Spec) {
    if let Some(health) = &spec.health {
        check.probe("health", &health.probe, health.interval, health.timeout, health.threshold);
        check.duration("health.start_grace", health.start_grace, DURATION_MS_MAX);
    }
    if let Some(ready) = &spec.ready {
        check.probe("ready", &ready.probe, ready.interval, ready.timeout, ready.threshold);
    }
}

fn check_escalation(check: &mut Check, stop: &crate::Stop) {
    let steps = &stop.escalation;
    check.that(steps.len() <= STOP_STEPS_MAX, "stop.escalation", || {
        format!("has {} steps, the limit is {STOP_STEPS_MAX}", steps.len())
    });
    check.that(steps.is_empty() || stop.signal != Signal::KILL, "stop.escalation", || {
        String::from("stands beside signal KILL, which ends everything at once")
    });
    let mut before = Millis(0);
    for (at, step) in steps.iter().enumerate() {
        let path = format!("stop.escalation[{at}]");
        check.that(step.signal != Signal::KILL, format_args!("{path}.signal"), || {
            String::from("KILL comes by itself, to every process, when the grace is over; shorten stop.grace instead")
        });
        check.that(step.after > before, format_args!("{path}.after"), || {
            format!("{} does not come after {before}, where the step before it is", step.after)
        });
        check.that(step.after < stop.grace, format_args!("{path}.after"), || {
            format!("{} is not within stop.grace, {}, when everything is killed", step.after, stop.grace)
        });
        before = step.after;
    }
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
    let ends_unhealthy = spec.health.as_ref().is_some_and(|health| health.on_failure == OnUnhealthy::Restart);
    if ends_unhealthy && restart.policy == crate::RestartPolicy::Never {
        found.push(String::from(
            "spec.health.on_failure: with restart.policy never an unhealthy process is stopped and not started again; \
             say mark to leave it running",
        ));
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
        assert!(check(|s| s.env_files = alloc::vec!["/etc/app".into(), "-/etc/${name}".into()]).is_empty());
        assert_eq!(check(|s| s.env_files = alloc::vec!["/a".into(), "-b".into()]), ["spec.env_files[1]"]);
        assert_eq!(check(|s| s.env_files = alloc::vec!["/a".into(); 33]), ["spec.env_files"]);
        assert_eq!(check(|s| s.umask = Some("9".into())), ["spec.umask"]);
        assert_eq!(check(|s| s.nice = Some(40)), ["spec.nice"]);
        let few = crate::Resources { memory: Some(crate::Bytes(1)), cpu: Some(crate::Cores(9)), pids: Some(0) };
        let paths = ["spec.resources.memory", "spec.resources.cpu", "spec.resources.pids"];
        assert_eq!(check(|s| s.resources = Some(few)), paths);
        assert_eq!(check(|s| s.reload = Some(crate::Reload::Exec(Vec::new()))), ["spec.reload.exec"]);
        assert_eq!(check(|s| s.instances = 0), ["spec.instances"]);
        assert_eq!(check(|s| s.instances = 4_000_000), ["spec.instances"]);
        assert_eq!(check(|s| s.restart.delay = Millis(u64::MAX)), ["spec.restart.delay", "spec.restart.delay_max"]);
        assert_eq!(check(|s| s.restart.window = Some(Millis(0))), ["spec.restart.window"]);
        assert_eq!(check(|s| s.env = [(String::from("A=B"), String::new())].into()), ["spec.env"]);
        let steps = |steps: &[(Signal, u64)]| {
            let steps = steps.iter().map(|(signal, ms)| crate::StopStep { signal: *signal, after: Millis(*ms) });
            let steps: Vec<_> = steps.collect();
            check(|s| s.stop.escalation = steps)
        };
        assert!(steps(&[(Signal::HUP, 1), (Signal::TERM, 9_999)]).is_empty());
        assert_eq!(steps(&[(Signal::HUP, 0)]), ["spec.stop.escalation[0].after"]);
        assert_eq!(steps(&[(Signal::HUP, 5), (Signal::TERM, 5)]), ["spec.stop.escalation[1].after"]);
        assert_eq!(steps(&[(Signal::HUP, 10_000)]), ["spec.stop.escalation[0].after"]);
        assert_eq!(steps(&[(Signal::KILL, 5)]), ["spec.stop.escalation[0].signal"]);
        let many: Vec<_> = (1..10).map(|ms| (Signal::HUP, ms)).collect();
        assert_eq!(steps(&many), ["spec.stop.escalation"]);
        assert_eq!(check(|s| s.labels = [(String::from("a b"), String::new())].into()), ["spec.labels"]);
        assert_eq!(
            check(|s| s.limits = [(String::from("nofiles"), Limit { soft: None, hard: None })].into()),
            ["spec.limits.nofiles"]
        );
        assert_eq!(
            check(|s| s.limits = [(String::from("nofile"), Limit { soft: None, hard: Some(1) })].into()),
            ["spec.limits.nofile"]
        );
        assert_eq!(check(|s| s.start.timeout = Some(Millis(5))), ["spec.start.timeout"]);
        let health = |text: &str| Some(crate::Health::new(Probe::Tcp(text.into())));
        assert!(check(|s| s.health = health("127.0.0.1:80${instance}")).is_empty());
        assert_eq!(check(|s| s.health = health("${host}:80")), ["spec.health.tcp"]);
        let ready = |change: fn(&mut crate::Ready)| {
            let mut ready = crate::Ready::new(Probe::Tcp("80".into()));
            change(&mut ready);
            check(|s| s.ready = Some(ready))
        };
        assert_eq!(ready(|r| r.interval = Millis(1)), ["spec.ready.interval"]);
        assert_eq!(ready(|r| r.timeout = Millis(0)), ["spec.ready.timeout"]);
        assert_eq!(ready(|r| r.threshold = 0), ["spec.ready.threshold"]);
        let hook = |command: &str| Some(crate::Hook::new(command, Vec::new()));
        assert_eq!(check(|s| s.hooks.pre_start = hook("")), ["spec.hooks.pre_start.command"]);
        let killed = check(|s| (s.hooks.pre_stop, s.stop.signal) = (hook("x"), crate::Signal::KILL));
        assert_eq!(killed, ["spec.hooks.pre_stop"]);
        let files = |files: &[(&str, usize, &str)]| {
            let file = |(path, bytes, mode): &(&str, usize, &str)| crate::File {
                path: String::from(*path),
                content: "x".repeat(*bytes),
                mode: (!mode.is_empty()).then(|| String::from(*mode)),
                owner: None,
                group: None,
                expand: false,
            };
            let files: Vec<_> = files.iter().map(file).collect();
            check(|s| s.files = files)
        };
        const WHOLE: usize = FILE_BYTES_MAX;
        assert!(files(&[("a", WHOLE, "0600"), ("b/c", WHOLE, ""), ("b/d", WHOLE, ""), ("b.c", WHOLE, "")]).is_empty());
        for path in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0"] {
            assert_eq!(files(&[(path, 1, "")]), ["spec.files[0].path"], "{path:?}");
        }
        for (one, other) in [("a", "a"), ("a", "a/b"), ("a/b", "a")] {
            assert_eq!(files(&[(one, 1, ""), (other, 1, "")]), ["spec.files[1].path"], "{one} {other}");
        }
        assert_eq!(files(&[("a", 1, "9")]), ["spec.files[0].mode"]);
        assert_eq!(files(&[("a", 1, "4755")]), ["spec.files[0].mode"]);
        assert_eq!(files(&[("a", WHOLE + 1, "")]), ["spec.files[0].content"]);
        let whole = |path| (path, WHOLE, "");
        assert_eq!(files(&[whole("a"), whole("b"), whole("c"), whole("d"), ("e", 1, "")]), ["spec.files"]);
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
