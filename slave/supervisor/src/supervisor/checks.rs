//! Health and readiness of the incarnation that runs: what is asked of it, and what follows when it is not well.

use alloc::{format, string::String, vec::Vec};

use minder_model::{Cause, Incarnation, Millis, OnUnhealthy, Phase, Probe, ProbeStatus};

use super::{Fact, Supervisor, Why, Wish};
use crate::{
    event::{Effect, Now, ProbeKind},
    record::Unhealthy,
    watch::{Rules, Watch},
};

/// Both checks of one incarnation; forgotten with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    health: Watched,
    ready: Watched,
    /// The wait for it to be ready was over before this slave began.
    start_is_over: bool,
}

/// A check and the probe it asks by: with another probe it begins anew.
#[derive(Debug, Clone, Default)]
struct Watched {
    probe: Option<Probe>,
    watch: Watch,
    /// Numbers of questions go on over changes, so that an answer to an old one is known as such.
    begun: u64,
}

impl Watched {
    fn follow(&mut self, probe: Option<&Probe>) {
        if self.probe.as_ref() != probe {
            *self = Self { probe: probe.cloned(), watch: Watch::default(), begun: self.begun + 1 };
        }
    }

    /// Numbers of one probe never meet those of another.
    fn number(&self, of_watch: u64) -> u64 {
        (self.begun << 40) | of_watch
    }
}

impl Checks {
    fn of(&mut self, kind: ProbeKind) -> &mut Watched {
        match kind {
            ProbeKind::Health => &mut self.health,
            ProbeKind::Ready => &mut self.ready,
        }
    }
}

impl Supervisor {
    /// Takes an answer. Only a running incarnation's own last question counts.
    pub(super) fn on_probed(
        &mut self,
        incarnation: Incarnation,
        kind: ProbeKind,
        number: u64,
        answer: Result<(), String>,
        now: Now,
    ) {
        let running = matches!(self.fact, Fact::Up { .. }) && self.is_live(incarnation);
        let Some(rules) = self.rules(kind).filter(|_| running) else { return };
        let watched = self.checks.of(kind);
        if number >> 40 == watched.begun {
            watched.watch.answer(number & ((1 << 40) - 1), answer, rules, now);
        }
    }

    /// After a restart of the slave. What ran longer than its start may take has been ready before.
    pub(super) fn begin_checks_again(&mut self, ran_ms: u64) {
        let timeout = self.live_spec.as_ref().and_then(|spec| spec.spec().start.timeout);
        self.checks = Checks { start_is_over: timeout.is_some_and(|timeout| ran_ms >= timeout.0), ..Checks::default() };
    }

    /// What a running incarnation is asked now, or its end when its answers say so.
    pub(super) fn check(&mut self, now: Now) -> Vec<Effect> {
        let Some(live) = self.record.live else { return Vec::new() };
        let spec = self.live_spec.as_ref().map(minder_model::RunSpec::spec);
        let health = spec.and_then(|spec| spec.health.as_ref());
        let ready = spec.and_then(|spec| spec.ready.as_ref());
        self.checks.health.follow(health.map(|health| &health.probe));
        self.checks.ready.follow(ready.map(|ready| &ready.probe));
        let timeouts = [health.map(|health| health.timeout.0), ready.map(|ready| ready.timeout.0)];
        if let Some(unhealthy) = self.unhealthy(now) {
            self.record.unhealthy = Some(unhealthy);
            return self.stop(Why::Unhealthy, now);
        }
        let mut effects = self.wake_at_start_timeout(now);
        for (kind, timeout_ms) in [ProbeKind::Health, ProbeKind::Ready].into_iter().zip(timeouts) {
            let (Some(rules), Some(timeout_ms)) = (self.rules(kind), timeout_ms) else { continue };
            let watched = self.checks.of(kind);
            let Some(probe) = watched.probe.clone() else { continue };
            let (base, incarnation) = (watched.number(0), live.incarnation);
            let asked = watched.watch.ask(rules, now, |number| Effect::Probe {
                incarnation,
                kind,
                number: base | number,
                probe,
                timeout_ms,
            });
            effects.extend(asked);
        }
        effects
    }

    fn rules(&self, kind: ProbeKind) -> Option<Rules> {
        let spec = self.live_spec.as_ref()?.spec();
        let Fact::Up { since_mono_ms, .. } = self.fact else { return None };
        match kind {
            ProbeKind::Health => spec.health.as_ref().map(|health| Rules {
                interval: health.interval,
                threshold: health.threshold,
                lenient_until_mono_ms: since_mono_ms.saturating_add(health.start_grace.0),
                quick: false,
            }),
            ProbeKind::Ready => spec.ready.as_ref().map(|ready| Rules {
                interval: ready.interval,
                threshold: ready.threshold,
                lenient_until_mono_ms: 0,
                quick: true,
            }),
        }
    }

    /// Why it must end, if it must.
    fn unhealthy(&self, now: Now) -> Option<Unhealthy> {
        let Fact::Up { since_mono_ms, .. } = self.fact else { return None };
        let spec = self.live_spec.as_ref()?.spec();
        let ran_ms = |until: u64| until.saturating_sub(since_mono_ms);
        let health = &self.checks.health.watch;
        if let Some(rules) = spec.health.as_ref().filter(|_| health.fails())
            && rules.on_failure == OnUnhealthy::Restart
        {
            let well_until = health.failing_since_mono_ms().unwrap_or(now.mono_ms);
            return Some(Unhealthy { sentence: failed(health.status()), ran_ms: ran_ms(well_until) });
        }
        let late = self.start_due_mono_ms().is_some_and(|due| now.mono_ms >= due);
        let timeout = spec.start.timeout.filter(|_| late)?;
        let answer = match self.checks.ready.watch.status().message.as_str() {
            "" => String::new(),
            message => format!(": {message}"),
        };
        // Never a good run, however long it was allowed to take.
        Some(Unhealthy { sentence: format!("not ready within {timeout}{answer}"), ran_ms: 0 })
    }

    /// When a start that is not ready yet has taken too long.
    fn start_due_mono_ms(&self) -> Option<u64> {
        let Fact::Up { since_mono_ms, .. } = self.fact else { return None };
        let spec = self.live_spec.as_ref()?.spec();
        let waiting = spec.ready.is_some() && !self.checks.ready.watch.passed_once() && !self.checks.start_is_over;
        let timeout: Option<Millis> = spec.start.timeout.filter(|_| waiting);
        timeout.map(|timeout| since_mono_ms.saturating_add(timeout.0))
    }

    fn wake_at_start_timeout(&self, now: Now) -> Vec<Effect> {
        self.start_due_mono_ms().filter(|due| *due > now.mono_ms).map(Effect::WakeAt).into_iter().collect()
    }

    /// RUNNING, or READY where its ready check passes.
    pub(super) fn running_phase(&self) -> Phase {
        let ready = self.checked(ProbeKind::Ready).is_some() && self.checks.ready.watch.passes();
        if ready { Phase::Ready } else { Phase::Running }
    }

    /// Why a running instance is not as well as it might be.
    pub(super) fn running_cause(&self) -> Cause {
        match (self.checked(ProbeKind::Health), self.checked(ProbeKind::Ready)) {
            (Some(health), _) if self.checks.health.watch.fails() => Cause::Unhealthy(failed(&health)),
            (_, Some(ready)) if !self.checks.ready.watch.passes() => Cause::NotReady(ready.message),
            (_, _) => Cause::Wanted,
        }
    }

    /// It runs, and is ready where it has a ready check.
    pub(super) fn is_up(&self) -> bool {
        let runs = matches!(self.fact, Fact::Up { healthy: true, .. }) && self.left_mono_ms.is_none();
        runs && (self.rules(ProbeKind::Ready).is_none() || self.checks.ready.watch.passes())
    }

    /// In its phase since: of a running one, since its ready check last turned.
    pub(super) fn since_ms(&self) -> u64 {
        if let Some((_, since_ms)) = self.place.waits().filter(|_| self.waits_to_start()) {
            return *since_ms;
        }
        let turned = match self.fact {
            Fact::Up { healthy: true, .. } => self.checked(ProbeKind::Ready).map_or(0, |ready| ready.since_ms),
            Fact::Up { .. } | Fact::Down { .. } | Fact::Unclear | Fact::Starting | Fact::Stopping { .. } => 0,
        };
        self.record.since_ms.max(turned)
    }

    /// How a check stands; of an incarnation that runs and has one.
    pub(super) fn checked(&self, kind: ProbeKind) -> Option<ProbeStatus> {
        if self.left_mono_ms.is_some() || !matches!(self.fact, Fact::Up { .. }) || matches!(self.wish, Wish::Gone) {
            return None;
        }
        let watched = match kind {
            ProbeKind::Health => &self.checks.health,
            ProbeKind::Ready => &self.checks.ready,
        };
        self.rules(kind).map(|_| watched.watch.status().clone())
    }
}

fn failed(health: &ProbeStatus) -> String {
    match health.failures {
        0 | 1 => format!("health check failed: {}", health.message),
        failures => format!("health check failed: {} ({failures} in a row)", health.message),
    }
}
