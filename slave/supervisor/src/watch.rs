//! One check of a running process: when it is asked next, and what its answers add up to.

use alloc::{string::String, vec::Vec};

use minder_model::{Millis, ProbeState, ProbeStatus};

use crate::event::{Effect, Now};

/// Until the first success questions come quickly, at growing intervals, so that a start is seen soon.
const QUICK_MS_MIN: u64 = 100;

/// What a spec says about a check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Wait between an answer and the next question.
    pub interval: Millis,
    /// Failures in a row that count.
    pub threshold: u32,
    /// Until the first success failures do not count before this time.
    pub lenient_until_mono_ms: u64,
    /// Whether the first success is looked for quickly, however long it takes.
    pub quick: bool,
}

/// How a check stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    status: ProbeStatus,
    /// The question that is under way, by its number.
    asked: Option<u64>,
    /// Number of the last question.
    number: u64,
    /// The next question is asked then.
    next_mono_ms: u64,
    /// The last quick wait.
    quick_ms: u64,
    passed_once: bool,
    /// The first of the failures in a row.
    failing_since_mono_ms: Option<u64>,
}

impl Watch {
    /// How it stands, for users.
    pub fn status(&self) -> &ProbeStatus {
        &self.status
    }

    /// Whether it passes now.
    pub fn passes(&self) -> bool {
        self.status.state == ProbeState::Passing
    }

    /// Whether it failed as often in a row as counts.
    pub fn fails(&self) -> bool {
        self.status.state == ProbeState::Failing
    }

    /// Whether it ever passed.
    pub fn passed_once(&self) -> bool {
        self.passed_once
    }

    /// The first of the failures in a row.
    pub fn failing_since_mono_ms(&self) -> Option<u64> {
        self.failing_since_mono_ms
    }

    /// Asks when it is time, one question at a time; else says when to look again. `question` makes the effect for
    /// a number.
    pub fn ask(&mut self, rules: Rules, now: Now, question: impl FnOnce(u64) -> Effect) -> Vec<Effect> {
        if self.asked.is_some() {
            return Vec::new();
        }
        if self.next_mono_ms == 0 && !self.is_quick(rules, now) {
            // Nobody expects an answer from a program that has just been executed.
            self.next_mono_ms = now.mono_ms + rules.interval.0;
        }
        if now.mono_ms < self.next_mono_ms {
            return Vec::from([Effect::WakeAt(self.next_mono_ms)]);
        }
        self.number += 1;
        self.asked = Some(self.number);
        Vec::from([question(self.number)])
    }

    /// Takes the answer to a question; to none but the last one.
    pub fn answer(&mut self, number: u64, answer: Result<(), String>, rules: Rules, now: Now) {
        if self.asked != Some(number) {
            return;
        }
        self.asked = None;
        let state = match answer {
            Ok(()) => {
                self.passed_once = true;
                self.failing_since_mono_ms = None;
                self.status.failures = 0;
                self.status.message.clear();
                ProbeState::Passing
            }
            Err(message) => {
                self.status.message = message;
                self.failed(rules, now)
            }
        };
        self.next_mono_ms = now.mono_ms + self.wait_ms(rules, now);
        if self.status.state != state {
            self.status.state = state;
            self.status.since_ms = now.wall_ms;
        }
    }

    fn failed(&mut self, rules: Rules, now: Now) -> ProbeState {
        if !self.passed_once && now.mono_ms < rules.lenient_until_mono_ms {
            return self.status.state;
        }
        self.failing_since_mono_ms.get_or_insert(now.mono_ms);
        self.status.failures = self.status.failures.saturating_add(1).min(rules.threshold);
        if self.status.failures >= rules.threshold { ProbeState::Failing } else { self.status.state }
    }

    fn wait_ms(&mut self, rules: Rules, now: Now) -> u64 {
        if !self.is_quick(rules, now) {
            return rules.interval.0;
        }
        self.quick_ms = (self.quick_ms * 2).clamp(QUICK_MS_MIN, rules.interval.0.max(QUICK_MS_MIN));
        self.quick_ms
    }

    fn is_quick(&self, rules: Rules, now: Now) -> bool {
        !self.passed_once && (rules.quick || now.mono_ms < rules.lenient_until_mono_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 1_000_000 + mono_ms, random: 0 }
    }

    /// Lets time pass to `end` and gives the times at which it was asked; each answer comes after 10 ms.
    fn run(watch: &mut Watch, rules: Rules, from: u64, end: u64, answers: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut asked = Vec::new();
        for mono_ms in (from..end).step_by(10) {
            if let [Effect::WakeAt(number)] =
                watch.ask(rules, at(mono_ms), |number| Effect::WakeAt(u64::MAX - number))[..]
                && number > end * 2
            {
                asked.push(mono_ms);
                let answer = if answers(mono_ms) { Ok(()) } else { Err("no".into()) };
                watch.answer(u64::MAX - number, answer, rules, at(mono_ms + 10));
            }
        }
        asked
    }

    #[test]
    fn a_first_success_is_looked_for_quickly_and_then_at_the_interval() {
        let rules = Rules { interval: Millis(1_000), threshold: 2, lenient_until_mono_ms: 0, quick: true };
        let mut watch = Watch::default();
        let asked = run(&mut watch, rules, 0, 4_000, |at| at >= 700);
        assert_eq!(asked, [0, 110, 320, 730, 1_740, 2_750, 3_760]);
        assert!(watch.passes() && watch.passed_once());
        // One failure of two is none; the second is.
        let asked = run(&mut watch, rules, 4_000, 5_000, |_| false);
        assert_eq!((asked.len(), watch.passes(), watch.status().failures), (1, true, 1));
        run(&mut watch, rules, 5_000, 6_000, |_| false);
        assert_eq!((watch.fails(), watch.failing_since_mono_ms()), (true, Some(4_780)));
        run(&mut watch, rules, 6_000, 7_000, |_| true);
        assert!(watch.passes() && watch.failing_since_mono_ms().is_none());
    }

    #[test]
    fn failures_within_the_grace_do_not_count_before_the_first_success() {
        let rules = Rules { interval: Millis(500), threshold: 2, lenient_until_mono_ms: 3_000, quick: false };
        let mut watch = Watch::default();
        run(&mut watch, rules, 0, 3_000, |_| false);
        assert_eq!((watch.status().state, watch.status().failures), (ProbeState::Pending, 0));
        let mut late = watch.clone();
        run(&mut late, rules, 3_000, 4_200, |_| false);
        assert!(late.fails());
        let mut early = Watch::default();
        run(&mut early, rules, 0, 100, |_| true);
        run(&mut early, rules, 100, 1_600, |_| false);
        assert!(early.fails(), "after a success the grace is over");
    }

    #[test]
    fn without_a_grace_the_first_question_waits_an_interval_and_never_two_are_under_way() {
        let rules = Rules { interval: Millis(500), threshold: 1, lenient_until_mono_ms: 0, quick: false };
        let mut watch = Watch::default();
        let question = |number| Effect::WakeAt(10_000 + number);
        assert_eq!(watch.ask(rules, at(5), question), [Effect::WakeAt(505)]);
        assert_eq!(watch.ask(rules, at(505), question), [Effect::WakeAt(10_001)]);
        assert!(watch.ask(rules, at(90_000), question).is_empty());
        watch.answer(7, Err("stale".into()), rules, at(90_000));
        assert!(watch.ask(rules, at(90_000), question).is_empty() && !watch.fails());
        watch.answer(1, Err("no".into()), rules, at(90_000));
        assert!(watch.fails());
        assert_eq!(watch.ask(rules, at(90_001), question), [Effect::WakeAt(90_500)]);
    }
}
