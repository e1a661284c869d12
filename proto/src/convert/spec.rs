//! The process spec.

mod hook;
mod probe;

use std::{collections::BTreeMap, fmt::Display};

use minder_model::{
    Bytes, Cores, Daemon, FieldError, FieldErrors, File, HostName, Limit, LogFull, Logs, Millis, Override, ProcessName,
    Resources, Restart, RestartPolicy, Signal, Spec, Start, Stop, StopScope, StopStep,
};

use self::{
    hook::{hooks_from_wire, hooks_to_wire, reload_from_wire, reload_to_wire},
    probe::{health_from_wire, health_to_wire, ready_from_wire, ready_to_wire},
};
use crate::v1;

/// The checked types of a spec on the wire; absent fields get their defaults. What needs no types is checked by
/// [`minder_model::check_spec`].
pub fn spec_from_wire(wire: v1::ProcessSpec) -> Result<Spec, FieldErrors> {
    let mut errors = Errors::default();
    let name = errors.note("name", ProcessName::new(wire.name.clone()));
    let hosts = wire
        .hosts
        .iter()
        .enumerate()
        .filter_map(|(at, host)| errors.note(format_args!("hosts[{at}]"), HostName::new(host.clone())));
    let hosts: Vec<HostName> = hosts.collect();
    let reload = wire.reload.and_then(|reload| reload_from_wire(&mut errors, reload));
    let after = names_from_wire(&mut errors, "after", wire.after);
    let requires = names_from_wire(&mut errors, "requires", wire.requires);
    let overrides = overrides_from_wire(&mut errors, wire.overrides);
    let restart = restart_from_wire(&mut errors, wire.restart.unwrap_or_default());
    let stop = stop_from_wire(&mut errors, wire.stop.unwrap_or_default());
    let logs = logs_from_wire(&mut errors, wire.logs.unwrap_or_default());
    let limits = limits_from_wire(&mut errors, "limits", wire.limits);
    let start = wire.start.unwrap_or_default();
    let health = wire.health.and_then(|health| health_from_wire(&mut errors, health));
    let ready = wire.ready.and_then(|ready| ready_from_wire(&mut errors, ready));
    match name {
        Some(name) if errors.0.is_empty() => Ok(Spec {
            args: wire.args,
            env: wire.env,
            working_directory: wire.working_directory,
            user: wire.user,
            group: wire.group,
            umask: wire.umask,
            limits,
            nice: wire.nice,
            oom_score_adjust: wire.oom_score_adjust,
            instances: wire.instances.unwrap_or(1),
            hosts,
            selector: wire.selector,
            overrides,
            labels: wire.labels,
            restart,
            stop,
            start: Start {
                healthy_after: millis(start.healthy_after_ms, Start::default().healthy_after),
                timeout: start.timeout_ms.map(Millis),
            },
            daemon: wire.daemon.map(|daemon| Daemon {
                pid_file: daemon.pid_file,
                launch_timeout: millis(daemon.launch_timeout_ms, Daemon::default().launch_timeout),
            }),
            logs,
            env_files: wire.env_files,
            health,
            ready,
            hooks: hooks_from_wire(wire.hooks.unwrap_or_default()),
            reload,
            after,
            requires,
            files: wire.files.into_iter().map(file_from_wire).collect(),
            no_new_privileges: wire.no_new_privileges,
            resources: wire.resources.map(resources_from_wire),
            ..Spec::new(name, wire.command)
        }),
        Some(_) | None => Err(FieldErrors(errors.0)),
    }
}

/// A spec on the wire, every default written out.
pub fn spec_to_wire(spec: &Spec) -> v1::ProcessSpec {
    v1::ProcessSpec {
        name: spec.name.to_string(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        working_directory: spec.working_directory.clone(),
        user: spec.user.clone(),
        group: spec.group.clone(),
        umask: spec.umask.clone(),
        limits: limits_to_wire(&spec.limits),
        nice: spec.nice,
        oom_score_adjust: spec.oom_score_adjust,
        instances: Some(spec.instances),
        hosts: spec.hosts.iter().map(ToString::to_string).collect(),
        selector: spec.selector.clone(),
        overrides: spec.overrides.iter().map(|(host, over)| (host.to_string(), override_to_wire(over))).collect(),
        labels: spec.labels.clone(),
        restart: Some(restart_to_wire(&spec.restart)),
        stop: Some(stop_to_wire(&spec.stop)),
        start: Some(v1::StartSpec {
            healthy_after_ms: Some(spec.start.healthy_after.0),
            timeout_ms: spec.start.timeout.map(|timeout| timeout.0),
        }),
        daemon: spec.daemon.as_ref().map(|daemon| v1::DaemonSpec {
            pid_file: daemon.pid_file.clone(),
            launch_timeout_ms: Some(daemon.launch_timeout.0),
        }),
        logs: Some(logs_to_wire(&spec.logs)),
        env_files: spec.env_files.clone(),
        health: spec.health.as_ref().map(health_to_wire),
        ready: spec.ready.as_ref().map(ready_to_wire),
        hooks: Some(hooks_to_wire(&spec.hooks)),
        reload: spec.reload.as_ref().map(reload_to_wire),
        after: spec.after.iter().map(ToString::to_string).collect(),
        requires: spec.requires.iter().map(ToString::to_string).collect(),
        files: spec.files.iter().map(file_to_wire).collect(),
        no_new_privileges: spec.no_new_privileges,
        resources: spec.resources.map(resources_to_wire),
    }
}

/// Complaints gathered on the way, each under `spec.`.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn note<T, E: ToString>(&mut self, path: impl Display, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(&path.to_string(), error.to_string())).ok()
    }

    fn add(&mut self, path: &str, message: String) {
        self.0.push(FieldError::new(format!("spec.{path}"), message));
    }
}

fn millis(wire: Option<u64>, default: Millis) -> Millis {
    wire.map_or(default, Millis)
}

fn names_from_wire(errors: &mut Errors, path: &str, wire: Vec<String>) -> Vec<ProcessName> {
    let named = |(at, name)| errors.note(format_args!("{path}[{at}]"), ProcessName::new(name));
    wire.into_iter().enumerate().filter_map(named).collect()
}

fn overrides_from_wire(errors: &mut Errors, wire: BTreeMap<String, v1::HostOverride>) -> BTreeMap<HostName, Override> {
    let mut overrides = BTreeMap::new();
    for (host, over) in wire {
        let path = format!("overrides.{host}");
        let limits = limits_from_wire(errors, &format!("{path}.limits"), over.limits);
        if let Some(host) = errors.note(&path, HostName::new(host)) {
            let over = Override {
                command: over.command,
                args: over.args.map(|args| args.items),
                env: over.env,
                working_directory: over.working_directory,
                user: over.user,
                limits,
                instances: over.instances,
                resources: over.resources.map(resources_from_wire),
                env_files: over.env_files.map(|files| files.items),
                files: over.files.into_iter().map(file_from_wire).collect(),
            };
            overrides.insert(host, over);
        }
    }
    overrides
}

fn override_to_wire(over: &Override) -> v1::HostOverride {
    v1::HostOverride {
        command: over.command.clone(),
        args: over.args.clone().map(|items| v1::Args { items }),
        env: over.env.clone(),
        working_directory: over.working_directory.clone(),
        user: over.user.clone(),
        limits: limits_to_wire(&over.limits),
        instances: over.instances,
        resources: over.resources.map(resources_to_wire),
        env_files: over.env_files.clone().map(|items| v1::Args { items }),
        files: over.files.iter().map(file_to_wire).collect(),
    }
}

fn resources_from_wire(wire: v1::ResourcesSpec) -> Resources {
    Resources { memory: wire.memory_bytes.map(Bytes), cpu: wire.cpu_millicores.map(Cores), pids: wire.pids }
}

fn resources_to_wire(resources: Resources) -> v1::ResourcesSpec {
    v1::ResourcesSpec {
        memory_bytes: resources.memory.map(|memory| memory.0),
        cpu_millicores: resources.cpu.map(|cpu| cpu.0),
        pids: resources.pids,
    }
}

fn limits_from_wire(errors: &mut Errors, path: &str, wire: BTreeMap<String, String>) -> BTreeMap<String, Limit> {
    wire.into_iter()
        .filter_map(|(name, text)| {
            Some((name.clone(), errors.note(format_args!("{path}.{name}"), Limit::parse(&text))?))
        })
        .collect()
}

fn limits_to_wire(limits: &BTreeMap<String, Limit>) -> BTreeMap<String, String> {
    limits.iter().map(|(name, limit)| (name.clone(), limit.to_string())).collect()
}

fn restart_from_wire(errors: &mut Errors, wire: v1::RestartSpec) -> Restart {
    let default = Restart::default();
    let policy = match v1::RestartPolicy::try_from(wire.policy) {
        Ok(v1::RestartPolicy::Unspecified) => default.policy,
        Ok(v1::RestartPolicy::Always) => RestartPolicy::Always,
        Ok(v1::RestartPolicy::OnFailure) => RestartPolicy::OnFailure,
        Ok(v1::RestartPolicy::Never) => RestartPolicy::Never,
        Err(_) => {
            errors.add("restart.policy", format!("{} is no policy", wire.policy));
            default.policy
        }
    };
    let mut codes = |path: &str, codes: Vec<u32>| -> Vec<u8> {
        let code = |code: u32| {
            errors.note(path, u8::try_from(code).map_err(|_| format!("{code} is no exit code, there are 0 to 255")))
        };
        codes.into_iter().filter_map(code).collect()
    };
    Restart {
        policy,
        success_exit_codes: codes("restart.success_exit_codes", wire.success_exit_codes),
        fatal_exit_codes: codes("restart.fatal_exit_codes", wire.fatal_exit_codes),
        delay: millis(wire.delay_ms, default.delay),
        factor: wire.factor_percent.unwrap_or(default.factor),
        delay_max: millis(wire.delay_max_ms, default.delay_max),
        jitter_percent: wire.jitter_percent.unwrap_or(default.jitter_percent),
        limit: wire.limit.unwrap_or(default.limit),
        window: none_is_zero(wire.window_ms, default.window),
        reset_after: millis(wire.reset_after_ms, default.reset_after),
        slow_retry: none_is_zero(wire.slow_retry_ms, default.slow_retry),
    }
}

/// Absent means the default, 0 means none.
fn none_is_zero(wire: Option<u64>, default: Option<Millis>) -> Option<Millis> {
    match wire {
        None => default,
        Some(0) => None,
        Some(ms) => Some(Millis(ms)),
    }
}

fn restart_to_wire(restart: &Restart) -> v1::RestartSpec {
    let policy = match restart.policy {
        RestartPolicy::Always => v1::RestartPolicy::Always,
        RestartPolicy::OnFailure => v1::RestartPolicy::OnFailure,
        RestartPolicy::Never => v1::RestartPolicy::Never,
    };
    v1::RestartSpec {
        policy: policy.into(),
        delay_ms: Some(restart.delay.0),
        factor_percent: Some(restart.factor),
        delay_max_ms: Some(restart.delay_max.0),
        jitter_percent: Some(restart.jitter_percent),
        limit: Some(restart.limit),
        window_ms: Some(restart.window.map_or(0, |window| window.0)),
        reset_after_ms: Some(restart.reset_after.0),
        success_exit_codes: restart.success_exit_codes.iter().copied().map(u32::from).collect(),
        fatal_exit_codes: restart.fatal_exit_codes.iter().copied().map(u32::from).collect(),
        slow_retry_ms: Some(restart.slow_retry.map_or(0, |slow_retry| slow_retry.0)),
    }
}

fn stop_from_wire(errors: &mut Errors, wire: v1::StopSpec) -> Stop {
    let default = Stop::default();
    let signal = match wire.signal {
        0 => default.signal,
        number => signal_from_wire(errors, "stop.signal", number).unwrap_or(default.signal),
    };
    let steps = wire.escalation.iter().enumerate().filter_map(|(at, step)| {
        let signal = signal_from_wire(errors, &format!("stop.escalation[{at}].signal"), step.signal)?;
        Some(StopStep { signal, after: Millis(step.after_ms) })
    });
    let escalation = steps.collect();
    let scope = match v1::StopScope::try_from(wire.scope) {
        Ok(v1::StopScope::Unspecified) => default.scope,
        Ok(v1::StopScope::Main) => StopScope::Main,
        Ok(v1::StopScope::Group) => StopScope::Group,
        Ok(v1::StopScope::All) => StopScope::All,
        Err(_) => {
            errors.add("stop.scope", format!("{} is no scope", wire.scope));
            default.scope
        }
    };
    Stop { signal, scope, grace: millis(wire.grace_ms, default.grace), escalation }
}

fn signal_from_wire(errors: &mut Errors, path: &str, number: u32) -> Option<Signal> {
    let signal = Signal::from_number(i64::from(number));
    errors.note(path, signal.ok_or_else(|| format!("{number} is no signal, there are 1 to 64")))
}

fn stop_to_wire(stop: &Stop) -> v1::StopSpec {
    let scope = match stop.scope {
        StopScope::Main => v1::StopScope::Main,
        StopScope::Group => v1::StopScope::Group,
        StopScope::All => v1::StopScope::All,
    };
    let step = |step: &StopStep| v1::StopStep { signal: step.signal.number().unsigned_abs(), after_ms: step.after.0 };
    v1::StopSpec {
        signal: stop.signal.number().unsigned_abs(),
        scope: scope.into(),
        grace_ms: Some(stop.grace.0),
        escalation: stop.escalation.iter().map(step).collect(),
    }
}

fn logs_from_wire(errors: &mut Errors, wire: v1::LogsSpec) -> Logs {
    let default = Logs::default();
    let on_full = match v1::LogFull::try_from(wire.on_full) {
        Ok(v1::LogFull::Unspecified) => default.on_full,
        Ok(v1::LogFull::Drop) => LogFull::Drop,
        Ok(v1::LogFull::Block) => LogFull::Block,
        Err(_) => {
            errors.add("logs.on_full", format!("{} is no choice", wire.on_full));
            default.on_full
        }
    };
    Logs {
        max_size: wire.max_size_bytes.map_or(default.max_size, Bytes),
        max_files: wire.max_files.unwrap_or(default.max_files),
        on_full,
        combine: wire.combine,
    }
}

fn logs_to_wire(logs: &Logs) -> v1::LogsSpec {
    let on_full = match logs.on_full {
        LogFull::Drop => v1::LogFull::Drop,
        LogFull::Block => v1::LogFull::Block,
    };
    v1::LogsSpec {
        max_size_bytes: Some(logs.max_size.0),
        max_files: Some(logs.max_files),
        on_full: on_full.into(),
        combine: logs.combine,
    }
}

fn file_from_wire(wire: v1::SmallFile) -> File {
    let v1::SmallFile { path, content, mode, owner, group, expand } = wire;
    File { path, content, mode, owner, group, expand }
}

fn file_to_wire(file: &File) -> v1::SmallFile {
    let File { path, content, mode, owner, group, expand } = file.clone();
    v1::SmallFile { path, content, mode, owner, group, expand }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_comes_back_as_it_went() {
        let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/app");
        spec.args = vec!["a b".into()];
        spec.hosts = vec![HostName::new("h1").unwrap()];
        spec.limits.insert("nofile".into(), Limit { soft: Some(1), hard: None });
        spec.overrides.insert(
            HostName::new("h1").unwrap(),
            Override { args: Some(vec![]), instances: Some(0), ..Override::default() },
        );
        spec.restart.window = None;
        spec.restart.slow_retry = None;
        spec.restart.fatal_exit_codes = vec![255];
        let escalation = vec![StopStep { signal: Signal::HUP, after: Millis(3) }];
        spec.stop = Stop { signal: Signal::TERM, scope: StopScope::All, grace: Millis(5), escalation };
        spec.daemon = Some(Daemon { pid_file: Some("/run/x".into()), launch_timeout: Millis(7) });
        spec.logs = Logs { max_size: Bytes(5000), max_files: 2, on_full: LogFull::Block, combine: true };
        spec.nice = Some(-3);
        spec.after = vec![ProcessName::new("db").unwrap()];
        spec.requires = vec![ProcessName::new("net").unwrap()];
        spec.resources = Some(Resources { memory: Some(Bytes(1 << 20)), cpu: Some(Cores(1_500)), pids: None });
        assert_eq!(spec_from_wire(spec_to_wire(&spec)).unwrap(), spec);
    }

    #[test]
    fn absent_fields_get_defaults_and_bad_ones_are_named() {
        let small = v1::ProcessSpec { name: "app".into(), command: "x".into(), ..Default::default() };
        assert_eq!(spec_from_wire(small.clone()).unwrap(), Spec::new(ProcessName::new("app").unwrap(), "x"));
        let bad = v1::ProcessSpec {
            name: "a/b".into(),
            hosts: vec!["ok".into(), "not ok".into()],
            limits: [("nofile".to_string(), "many".to_string())].into(),
            restart: Some(v1::RestartSpec { policy: 9, fatal_exit_codes: vec![256], ..Default::default() }),
            stop: Some(v1::StopSpec { signal: 99, ..Default::default() }),
            ..small
        };
        let paths: Vec<String> = spec_from_wire(bad).unwrap_err().0.into_iter().map(|error| error.path).collect();
        assert_eq!(
            paths,
            [
                "spec.name",
                "spec.hosts[1]",
                "spec.restart.policy",
                "spec.restart.fatal_exit_codes",
                "spec.stop.signal",
                "spec.limits.nofile"
            ]
        );
    }
}
