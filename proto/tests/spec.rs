//! Any valid spec comes back from the wire as it went, and nothing on the wire makes the conversion panic.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use minder_model::{
    Bytes, Cores, Daemon, File, Health, Hook, Hooks, HostName, Limit, LogFull, Logs, Millis, OnUnhealthy, Override,
    Probe, ProcessName, Ready, Reload, Resources, Restart, RestartPolicy, Signal, Spec, Start, Stop, StopScope,
    StopStep,
};
use minder_proto::{
    convert::spec::{spec_from_wire, spec_to_wire},
    v1,
};
use proptest::{collection::btree_map, collection::vec, option, prelude::*};
use prost::Message;

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Z]{1,4}", ".{0,6}", 0..3)
}

fn limits() -> impl Strategy<Value = BTreeMap<String, Limit>> {
    let limit = (any::<Option<u64>>(), any::<Option<u64>>()).prop_map(|(soft, hard)| Limit { soft, hard });
    btree_map("[a-z]{1,6}", limit, 0..3)
}

fn host() -> impl Strategy<Value = HostName> {
    "[a-z][a-z0-9-]{0,6}".prop_map(|name| HostName::new(name).unwrap())
}

fn files() -> impl Strategy<Value = Vec<File>> {
    let file = (".{0,6}", ".{0,6}", option::of(".{0,4}"), option::of(".{0,4}"), any::<bool>());
    let file = file.prop_map(|(path, content, mode, owner, expand)| File {
        path,
        content,
        group: mode.clone(),
        mode,
        owner,
        expand,
    });
    vec(file, 0..3)
}

fn resources() -> impl Strategy<Value = Resources> {
    any::<(Option<u64>, Option<u32>, Option<u32>)>().prop_map(|(memory, cpu, pids)| Resources {
        memory: memory.map(Bytes),
        cpu: cpu.map(Cores),
        pids,
    })
}

fn overrides() -> impl Strategy<Value = BTreeMap<HostName, Override>> {
    let strings = || option::of(vec(".{0,6}", 0..3));
    let over = (
        (option::of(".{0,6}"), strings(), texts(), limits(), any::<Option<u32>>()),
        (option::of(resources()), strings(), files()),
    )
        .prop_map(|((command, args, env, limits, instances), (resources, env_files, files))| Override {
            command,
            args,
            env,
            limits,
            instances,
            resources,
            env_files,
            files,
            ..Override::default()
        });
    btree_map(host(), over, 0..3)
}

/// Zero stands for "none" on the wire, and no valid spec has a window or slow retry of nothing.
fn some_time() -> impl Strategy<Value = Option<Millis>> {
    option::of((1..u64::MAX).prop_map(Millis))
}

fn restart() -> impl Strategy<Value = Restart> {
    let policy = prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)];
    (
        policy,
        any::<[u64; 3]>(),
        any::<[u32; 3]>(),
        some_time(),
        some_time(),
        vec(any::<u8>(), 0..3),
        vec(any::<u8>(), 0..3),
    )
        .prop_map(|(policy, times, numbers, window, slow_retry, success_exit_codes, fatal_exit_codes)| Restart {
            policy,
            delay: Millis(times[0]),
            factor: numbers[0],
            delay_max: Millis(times[1]),
            jitter_percent: numbers[1],
            limit: numbers[2],
            window,
            reset_after: Millis(times[2]),
            success_exit_codes,
            fatal_exit_codes,
            slow_retry,
        })
}

fn stop() -> impl Strategy<Value = Stop> {
    let scope = prop_oneof![Just(StopScope::Main), Just(StopScope::Group), Just(StopScope::All)];
    let signal = || (1..=64_i64).prop_map(|number| Signal::from_number(number).unwrap());
    let step = (signal(), any::<u64>()).prop_map(|(signal, after)| StopStep { signal, after: Millis(after) });
    (signal(), scope, any::<u64>(), vec(step, 0..3)).prop_map(|(signal, scope, grace, escalation)| Stop {
        signal,
        scope,
        grace: Millis(grace),
        escalation,
    })
}

fn logs() -> impl Strategy<Value = Logs> {
    (any::<u64>(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(size, max_files, block, combine)| Logs {
        max_size: Bytes(size),
        max_files,
        on_full: if block { LogFull::Block } else { LogFull::Drop },
        combine,
    })
}

fn hooks() -> impl Strategy<Value = Hooks> {
    let hook = || {
        let hook = (".{0,6}", vec(".{0,6}", 0..3), any::<u64>());
        option::of(hook.prop_map(|(command, args, ms)| Hook { timeout: Millis(ms), ..Hook::new(command, args) }))
    };
    (hook(), hook(), hook(), hook()).prop_map(|(pre_start, post_start, pre_stop, post_stop)| Hooks {
        pre_start,
        post_start,
        pre_stop,
        post_stop,
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        vec(".{0,6}", 0..3).prop_map(Probe::Exec),
        ".{0,6}".prop_map(Probe::Tcp),
        ".{0,6}".prop_map(Probe::Http),
        ".{0,6}".prop_map(Probe::Grpc),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    (probe(), any::<[u64; 3]>(), any::<u32>(), any::<bool>()).prop_map(|(probe, times, threshold, mark)| Health {
        probe,
        interval: Millis(times[0]),
        timeout: Millis(times[1]),
        start_grace: Millis(times[2]),
        threshold,
        on_failure: if mark { OnUnhealthy::Mark } else { OnUnhealthy::Restart },
    })
}

fn ready() -> impl Strategy<Value = Ready> {
    (probe(), any::<[u64; 2]>(), any::<u32>()).prop_map(|(probe, times, threshold)| Ready {
        probe,
        interval: Millis(times[0]),
        timeout: Millis(times[1]),
        threshold,
    })
}

prop_compose! {
    fn spec()(
        name in "[a-z][a-z0-9._-]{0,10}",
        command in ".{1,10}",
        args in vec(".{0,6}", 0..4),
        env in texts(),
        some in any::<[Option<u8>; 4]>(),
        numbers in (any::<Option<i32>>(), any::<Option<i32>>(), any::<u32>()),
        limits in limits(),
        hosts in vec(host(), 0..4),
        selector in texts(),
        overrides in overrides(),
        restart in restart(),
        stop in stop(),
        healthy_after in any::<u64>(),
        daemon in option::of((option::of(".{0,6}"), any::<u64>())),
        logs in logs(),
        (health, ready) in (option::of(health()), option::of(ready())),
        start_timeout in some_time(),
        hooks in hooks(),
        order in any::<(bool, bool)>(),
        reload in option::of(vec(".{0,6}", 0..3)),
        env_files in vec(".{0,6}", 0..3),
        files in files(),
        resources in option::of(resources()),
    ) -> Spec {
        let text = |at: usize| some[at].map(|value| value.to_string());
        Spec {
            args,
            labels: env.clone(),
            env,
            working_directory: text(0),
            user: text(1),
            group: text(2),
            umask: text(3),
            limits,
            nice: numbers.0,
            oom_score_adjust: numbers.1,
            instances: numbers.2,
            hosts,
            selector,
            overrides,
            restart,
            stop,
            start: Start { healthy_after: Millis(healthy_after), timeout: start_timeout },
            daemon: daemon.map(|(pid_file, timeout)| Daemon { pid_file, launch_timeout: Millis(timeout) }),
            logs,
            health,
            ready,
            hooks,
            reload: reload.map(|words| if words.len() == 1 { Reload::Signal(Signal::HUP) } else { Reload::Exec(words) }),
            after: order.0.then(|| ProcessName::new("db").unwrap()).into_iter().collect(),
            requires: order.1.then(|| ProcessName::new("net").unwrap()).into_iter().collect(),
            no_new_privileges: !env_files.is_empty(),
            env_files,
            files,
            resources,
            ..Spec::new(ProcessName::new(name).unwrap(), command)
        }
    }
}

proptest! {
    #[test]
    fn a_spec_comes_back_as_it_went(spec in spec()) {
        let bytes = spec_to_wire(&spec).encode_to_vec();
        let wire = v1::ProcessSpec::decode(&bytes[..]).unwrap();
        prop_assert_eq!(spec_from_wire(wire).unwrap(), spec);
    }

    /// A spec whose bytes were damaged is read or refused by path.
    #[test]
    fn nothing_on_the_wire_panics(spec in spec(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = spec_to_wire(&spec).encode_to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(wire) = v1::ProcessSpec::decode(&bytes[..]) {
            match spec_from_wire(wire) {
                Ok(_) => {}
                Err(errors) => {
                    prop_assert!(!errors.0.is_empty());
                    prop_assert!(errors.0.iter().all(|error| error.path.starts_with("spec.")));
                }
            }
        }
    }
}
