//! The restart policy: what follows an end that nobody asked for.

use alloc::format;

use minder_model::{Cause, ExitStatus, Restart, RestartPolicy, Signal, StartFailure};

use crate::{
    event::Now,
    record::{Outcome, Record, Unhealthy},
};

/// Signals that end a program as cleanly as exit 0: somebody closed its terminal, its pipe, or asked it to go.
const CLEAN_SIGNALS: [i32; 4] = [1, 2, 13, 15];

/// What an unrequested end leads to. Counts the restart when there is one.
pub(crate) fn after_end(
    record: &mut Record,
    policy: &Restart,
    status: ExitStatus,
    failure: Option<&StartFailure>,
    unhealthy: Option<&Unhealthy>,
    ran_ms: u64,
    now: Now,
) -> (Outcome, Cause) {
    let cause = match (failure, unhealthy) {
        (Some(failure), _) => Cause::StartFailed(failure.clone()),
        (None, Some(unhealthy)) => Cause::Unhealthy(unhealthy.sentence.clone()),
        (None, None) => Cause::Ended(status),
    };
    if let (None, None, ExitStatus::Code(code)) = (failure, unhealthy, status)
        && policy.fatal_exit_codes.contains(&code)
    {
        return (Outcome::Fatal(0), Cause::FatalCode(code));
    }
    let clean = failure.is_none() && unhealthy.is_none() && is_clean(policy, status);
    let wants_restart = match policy.policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !clean,
        RestartPolicy::Never => false,
    };
    if !wants_restart {
        return (Outcome::Exited, cause);
    }
    let ran_ms = unhealthy.map_or(ran_ms, |unhealthy| unhealthy.ran_ms);
    let good_run = ran_ms >= policy.reset_after.0 && failure.is_none();
    if good_run {
        record.delay_ms = 0;
        record.slow = false;
    }
    if record.slow || limit_reached(record, policy, now) {
        record.slow = true;
        let next = policy.slow_retry.map_or(0, |wait| now.wall_ms + wait.0);
        let cause = match cause {
            Cause::StartFailed(failure) => Cause::StartFailed(failure),
            Cause::Unhealthy(sentence) => {
                Cause::Unhealthy(format!("{sentence}; restart limit of {} reached", policy.limit))
            }
            _ => Cause::LimitReached(status, policy.limit),
        };
        return (Outcome::Fatal(next), cause);
    }
    let delay = if record.delay_ms == 0 { policy.delay.0 } else { record.delay_ms.min(policy.delay_max.0) };
    let longer = delay.saturating_mul(u64::from(policy.factor)) / 100;
    record.delay_ms = longer.min(policy.delay_max.0);
    record.restarts = record.restarts.saturating_add(1);
    if policy.limit > 0 && policy.window.is_some() {
        record.window.push(now.wall_ms);
    }
    (Outcome::Backoff(now.wall_ms + jittered(delay, policy.jitter_percent, now.random)), cause)
}

/// Restarts that count against the limit now.
pub(crate) fn in_window(record: &Record, policy: &Restart, now_wall_ms: u64) -> u32 {
    match policy.window {
        None => record.restarts,
        Some(window) => {
            let begin = now_wall_ms.saturating_sub(window.0);
            record.window.iter().filter(|at| **at > begin).count() as u32
        }
    }
}

/// When a wait is over, on the clock that only goes forward. It is never longer than it was when it began, however far
/// the wall clock was set back meanwhile.
pub(crate) fn due(record: &Record, now: Now) -> Option<u64> {
    let until = |at: u64| {
        let whole_ms = at.saturating_sub(record.since_ms);
        Some(now.mono_ms + at.saturating_sub(now.wall_ms).min(whole_ms))
    };
    match record.outcome {
        Outcome::Fatal(0) | Outcome::Exited | Outcome::Stopped => None,
        Outcome::Backoff(at) | Outcome::Fatal(at) => until(at),
        Outcome::Pending => Some(now.mono_ms),
    }
}

fn limit_reached(record: &mut Record, policy: &Restart, now: Now) -> bool {
    if let Some(window) = policy.window {
        let begin = now.wall_ms.saturating_sub(window.0);
        record.window.retain(|at| *at > begin);
    }
    policy.limit > 0 && in_window(record, policy, now.wall_ms) >= policy.limit
}

fn is_clean(policy: &Restart, status: ExitStatus) -> bool {
    match status {
        ExitStatus::Code(code) => code == 0 || policy.success_exit_codes.contains(&code),
        ExitStatus::Signal(signal, _) => CLEAN_SIGNALS.contains(&Signal::number(signal)),
        // A machine that was restarted, or an end that nobody saw: the process is wanted, so it is started again.
        ExitStatus::Unknown | ExitStatus::Reboot | ExitStatus::OutOfMemory => false,
    }
}

/// The wait, up to `percent` shorter or longer.
fn jittered(delay_ms: u64, percent: u32, random: u64) -> u64 {
    let swing = delay_ms.saturating_mul(u64::from(percent)) / 100;
    if swing == 0 {
        return delay_ms;
    }
    delay_ms - swing + random % (2 * swing + 1)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use minder_model::{InstanceKey, Millis};

    use super::*;

    fn now(wall_ms: u64) -> Now {
        Now { mono_ms: wall_ms, wall_ms, random: 0 }
    }

    fn record() -> Record {
        Record::new(InstanceKey::parse("app").unwrap(), 0)
    }

    fn steady() -> Restart {
        Restart { jitter_percent: 0, ..Restart::default() }
    }

    #[test]
    fn policies_decide_which_ends_are_followed_by_a_start() {
        let code = ExitStatus::Code;
        let signal = |name| ExitStatus::Signal(Signal::parse(name).unwrap(), false);
        for (policy, status, restarts) in [
            (RestartPolicy::OnFailure, code(0), false),
            (RestartPolicy::OnFailure, code(1), true),
            (RestartPolicy::OnFailure, code(42), false),
            (RestartPolicy::OnFailure, signal("TERM"), false),
            (RestartPolicy::OnFailure, signal("KILL"), true),
            (RestartPolicy::OnFailure, signal("SEGV"), true),
            (RestartPolicy::OnFailure, ExitStatus::Unknown, true),
            (RestartPolicy::OnFailure, ExitStatus::Reboot, true),
            (RestartPolicy::OnFailure, ExitStatus::OutOfMemory, true),
            (RestartPolicy::Always, code(0), true),
            (RestartPolicy::Always, signal("TERM"), true),
            (RestartPolicy::Never, code(1), false),
            (RestartPolicy::Never, signal("KILL"), false),
        ] {
            let policy = Restart { policy, success_exit_codes: vec![42], ..steady() };
            let (outcome, _) = after_end(&mut record(), &policy, status, None, None, 5, now(1_000));
            assert_eq!(matches!(outcome, Outcome::Backoff(_)), restarts, "{:?} {status}", policy.policy);
        }
    }

    #[test]
    fn waits_grow_to_their_cap_and_start_over_after_a_good_run() {
        let policy = Restart { limit: 0, ..steady() };
        let mut record = record();
        let mut waits = vec![];
        for ran_ms in [5, 5, 5, 5, 5, 5, 5, 5, 60_000, 5] {
            match after_end(&mut record, &policy, ExitStatus::Code(1), None, None, ran_ms, now(0)).0 {
                Outcome::Backoff(wait) => waits.push(wait / 1_000),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]);
    }

    #[test]
    fn the_limit_counts_in_its_window_and_gives_up_slowly() {
        let policy = Restart {
            limit: 3,
            window: Some(Millis(10_000)),
            delay: Millis(0),
            slow_retry: Some(Millis(60_000)),
            ..steady()
        };
        let mut record = record();
        let mut end = |at| after_end(&mut record, &policy, ExitStatus::Code(1), None, None, 0, now(at));
        for at in [1, 2, 3] {
            assert_eq!(end(at).0, Outcome::Backoff(at));
        }
        assert_eq!(end(4), (Outcome::Fatal(60_004), Cause::LimitReached(ExitStatus::Code(1), 3)));
        assert_eq!(end(9_000).0, Outcome::Fatal(69_000));
        assert_eq!(end(20_000).0, Outcome::Fatal(80_000), "a slow try that fails is followed by a slow try");
        let good = after_end(&mut record, &policy, ExitStatus::Code(1), None, None, 60_000, now(90_000)).0;
        assert_eq!(good, Outcome::Backoff(90_000), "after a good run it counts anew");
    }

    #[test]
    fn a_failed_start_is_never_a_good_run() {
        let failure = StartFailure { step: "exec".into(), errno: 2, message: "no such file".into() };
        let mut record = record();
        let mut end =
            |at| after_end(&mut record, &steady(), ExitStatus::Unknown, Some(&failure), None, 99_000, now(at)).0;
        assert_eq!([end(0), end(0), end(0)], [1_000, 2_000, 4_000].map(Outcome::Backoff));
    }

    #[test]
    fn a_window_of_for_ever_waits_for_an_operator() {
        let policy =
            Restart { limit: 2, window: None, slow_retry: None, delay: Millis(10_000), factor: 100, ..steady() };
        let mut record = record();
        let mut end = |at| after_end(&mut record, &policy, ExitStatus::Code(1), None, None, 0, now(at)).0;
        assert_eq!([end(0), end(1_000_000)], [Outcome::Backoff(10_000), Outcome::Backoff(1_010_000)]);
        assert_eq!(end(90_000_000), Outcome::Fatal(0));
    }

    #[test]
    fn fatal_codes_and_failed_starts_say_so() {
        let policy = Restart { fatal_exit_codes: vec![78], ..steady() };
        let end = after_end(&mut record(), &policy, ExitStatus::Code(78), None, None, 0, now(0));
        assert_eq!(end, (Outcome::Fatal(0), Cause::FatalCode(78)));
        let failure = StartFailure { step: "exec".into(), errno: 2, message: "no such file".into() };
        let end = after_end(&mut record(), &policy, ExitStatus::Unknown, Some(&failure), None, 0, now(0));
        assert_eq!(end, (Outcome::Backoff(1_000), Cause::StartFailed(failure)));
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        for random in 0..1_000 {
            let wait = jittered(1_000, 20, random * 7_919);
            assert!((800..=1_200).contains(&wait), "{wait}");
        }
    }
}
