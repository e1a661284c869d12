//! Why an instance is in its state, what comes next and when, and what a person can do, as sentences.

use alloc::{format, string::String, vec::Vec};

use minder_model::{
    Cause, InstanceRef, InstanceStatus, Item, Millis, OwedWhy, Phase, ProbeState, ProbeStatus, Spec, Wanted,
};

use crate::view::Shown;

/// Explains one instance. `warnings` are what [`minder_model::host_warnings`] and the like say of it; `now_ms` is the wall clock to
/// count from, milliseconds since 1970.
pub fn explain(
    instance: &InstanceRef,
    item: &Item,
    status: Option<&InstanceStatus>,
    spec: &Spec,
    shown: &Shown,
    warnings: &[String],
    now_ms: u64,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let wish = match item.wanted {
        Wanted::Running => "should be running",
        Wanted::Stopped => "should be stopped",
    };
    sentences.push(format!("{instance} {wish} (generation {}) and is {}.", item.generation, shown.phase));
    if !shown.why.is_empty() {
        sentences.push(format!("Reason: {}.", shown.why));
    }
    if let Some(status) = status {
        // Of a process that nobody can see now, its last answers say nothing.
        if matches!(shown.phase, Phase::Starting | Phase::Running | Phase::Ready) {
            let checks = [("health", &status.health), ("ready", &status.ready)];
            sentences.extend(checks.into_iter().filter_map(|(name, probe)| Some(check(name, probe.as_ref()?, now_ms))));
        }
        sentences.extend(history(status, spec, now_ms));
    }
    sentences.extend(warnings.iter().map(|warning| format!("Warning: {warning}.")));
    sentences.push(next_step(instance, item, status, shown, now_ms));
    sentences
}

/// How one check stands, with the last answer that was none.
fn check(name: &str, probe: &ProbeStatus, now_ms: u64) -> String {
    let since = Millis(now_ms.saturating_sub(probe.since_ms) / 1_000 * 1_000);
    let answer = match (probe.message.as_str(), probe.failures) {
        ("", _) => String::new(),
        (message, 0 | 1) => format!(", last answer: {message}"),
        (message, failures) => format!(", last answer: {message} ({failures} in a row)"),
    };
    match probe.state {
        ProbeState::Pending => format!("Its {name} check has not passed yet{answer}."),
        ProbeState::Passing => format!("Its {name} check has passed for {since}{answer}."),
        ProbeState::Failing => format!("Its {name} check has failed for {since}{answer}."),
    }
}

fn history(status: &InstanceStatus, spec: &Spec, now_ms: u64) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(exit) = status.exits.last() {
        let ago = Millis(now_ms.saturating_sub(exit.ended_at_ms) / 1_000 * 1_000);
        let lived = match exit.start_failure {
            Some(_) => String::new(),
            None => format!(" after {}", Millis(exit.lived_ms())),
        };
        sentences.push(format!("Its incarnation {} ended{lived}, {ago} ago: {exit}.", exit.incarnation));
        if let Some(line) = exit.last_output.last_line().filter(|_| !exit.requested) {
            sentences.push(format!("The last it said was {line:?}."));
        }
    }
    if status.restarts > 0 {
        let limit = spec.restart.limit;
        let allowed = match (limit, spec.restart.window) {
            (0, _) => String::from("no limit is set"),
            (limit, None) => format!("{limit} are allowed"),
            (limit, Some(window)) => format!("{} of {limit} allowed within {window}", status.restarts_in_window),
        };
        sentences.push(format!("It was restarted {} times by its policy; {allowed}.", status.restarts));
    }
    sentences
}

fn next_step(
    instance: &InstanceRef,
    item: &Item,
    status: Option<&InstanceStatus>,
    shown: &Shown,
    now_ms: u64,
) -> String {
    let next_start = status.map(|status| status.next_start_ms).filter(|at| *at > 0);
    let within = |at: u64| Millis(at.saturating_sub(now_ms) / 100 * 100);
    match (shown.phase, next_start) {
        (Phase::Lost | Phase::Unknown, _) => format!(
            "Next: nothing is done to it while nobody can see it; look at the host with `minderctl host info {}`.",
            instance.host
        ),
        (Phase::Backoff, Some(at)) => format!("Next: it is started again in {}.", within(at)),
        (Phase::Fatal, Some(at)) => {
            format!("Next: one more try in {}, or at once with `minderctl retry {instance}`.", within(at))
        }
        (Phase::Fatal, None) => {
            format!("Next: nothing by itself; mend the cause, then `minderctl retry {instance}`.")
        }
        (Phase::Exited, _) => {
            format!("Next: its policy wants no restart; `minderctl start {instance}` runs it again.")
        }
        (Phase::Stopped | Phase::Stopping, _) if shown.owed == OwedWhy::LocalStop.word() => format!(
            "Next: it stays stopped until `minderctl start {instance}`, or `minderctl local start {}` on its machine.",
            instance.key
        ),
        (Phase::Stopped, _) if item.wanted == Wanted::Stopped => {
            format!("Next: it stays stopped until `minderctl start {instance}`.")
        }
        (Phase::Stopping, _) => String::from("Next: when its grace is over the whole tree is killed."),
        (Phase::Pending, _) if shown.owed == "assign" => {
            String::from("Next: its slave gets the assignment as soon as it is connected.")
        }
        (Phase::Pending, _) if status.is_some_and(|status| matches!(status.cause, Cause::Waiting(_))) => String::from(
            "Next: it starts as soon as it need not wait; `after` and `requires` of its spec say what comes first.",
        ),
        (Phase::Running, _) if shown.owed == "ready" => {
            String::from("Next: it is READY as soon as its ready check passes; it is not restarted for it.")
        }
        _ if shown.owed.is_empty() => String::from("Nothing is owed."),
        _ => format!("Next: {}.", shown.owed),
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Digest, Generation, HostName, Incarnation, InstanceKey, ProcessName, Revision, Wanted};

    use super::*;
    use crate::{
        condition::{Condition, Standing},
        view::show,
    };

    #[test]
    fn checks_are_explained_while_the_process_can_be_seen_and_what_it_waits_for() {
        let key = InstanceKey::parse("app").unwrap();
        let zero = Revision::ZERO;
        let item = Item {
            generation: Generation(1),
            spec: Digest::default(),
            wanted: Wanted::Running,
            restart_at: zero,
            retry_at: zero,
            signal: None,
            start_at: zero,
        };
        let failing = ProbeStatus {
            state: ProbeState::Failing,
            failures: 3,
            message: String::from("connection refused"),
            since_ms: 10_000,
        };
        let status = InstanceStatus {
            key: key.clone(),
            phase: Phase::Running,
            cause: Cause::NotReady(String::from("connection refused")),
            since_ms: 0,
            generation: Generation(1),
            spec: Digest::default(),
            incarnation: Incarnation(1),
            pid: 7,
            started_at_ms: 0,
            restarts: 0,
            restarts_in_window: 0,
            next_start_ms: 0,
            restart_at: zero,
            retry_at: zero,
            signal_at: zero,
            exits: Vec::new(),
            health: None,
            ready: Some(failing),
        };
        let instance = InstanceRef { host: HostName::new("h").unwrap(), key };
        let spec = Spec::new(ProcessName::new("app").unwrap(), "x");
        let explained = |condition: Condition| {
            let standing = Standing { condition, silent_ms: Some(20_000), doubt: None };
            let shown = show(&item, Some(&status), &standing, true, true, true);
            explain(&instance, &item, Some(&status), &spec, &shown, &[], 15_000).join("\n")
        };
        let seen = explained(Condition::Connected);
        assert!(seen.contains("Reason: not ready: connection refused."), "{seen}");
        assert!(
            seen.contains("Its ready check has failed for 5s, last answer: connection refused (3 in a row)."),
            "{seen}"
        );
        assert!(seen.ends_with("it is not restarted for it."), "{seen}");
        assert!(!explained(Condition::Lost).contains("ready check"));

        let waiting = InstanceStatus {
            phase: Phase::Pending,
            cause: Cause::Waiting(String::from("waits for db, which is not assigned to this host")),
            ready: None,
            ..status.clone()
        };
        let standing = Standing { condition: Condition::Connected, ..Standing::default() };
        let shown = show(&item, Some(&waiting), &standing, true, true, true);
        let seen = explain(&instance, &item, Some(&waiting), &spec, &shown, &[], 15_000).join("\n");
        assert!(seen.contains("Reason: waits for db, which is not assigned to this host."), "{seen}");
        assert!(seen.contains("Next: it starts as soon as it need not wait"), "{seen}");
    }
}
