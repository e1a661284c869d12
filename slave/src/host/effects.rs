//! What supervisors ask for, carried out after the sync: starts, signals, kills.

use std::os::unix::net::UnixStream;

use minder_model::{Generation, Incarnation, InstanceKey, RunSpec, Signal, Spec, StopScope};
use minder_shim::{
    fail_point,
    protocol::{Request, Scope},
};
use minder_supervisor::Effect;

use super::{Host, Owed};
use crate::os::{
    files::{RenderedFile, render},
    hook,
    incarnation::{Attendant, News, What, let_go},
    launch::{Place, launch},
    stray::StrayPlace,
};

/// A start that waits for the sync. Dropped, its shim ends without having started anything.
pub(super) struct Start {
    attendant: Attendant,
    /// What has to be ended before.
    strays: Vec<StrayPlace>,
    files: Vec<RenderedFile>,
    /// Born already, where nothing has to come before.
    shim: Option<UnixStream>,
}

impl Start {
    /// The ledger is durable: lets it go.
    pub(super) fn begin(self) {
        fail_point!("intent-synced");
        let Self { attendant, strays, files, shim } = self;
        if let Some(shim) = &shim {
            let_go(shim);
            fail_point!("shim-let-go");
        }
        tokio::spawn(attendant.start(strays, files, shim));
    }
}

impl Host {
    /// Does what a supervisor asks for, once what it rests on is durable.
    pub(super) fn carry_out(&mut self, key: &InstanceKey, effect: Effect) {
        match effect {
            Effect::Spawn { incarnation, generation, run_spec } => {
                if let Some(start) = self.prepare_start(key, incarnation, generation, &run_spec) {
                    start.begin();
                }
            }
            Effect::Signal { incarnation, signal, scope, then_continue: false } => {
                self.request(key, incarnation, signal_request(signal, scope));
            }
            // So a stop begins.
            Effect::Signal { incarnation, signal, scope, then_continue: true } => {
                fail_point!("stop-recorded");
                let requests = [signal, Signal::CONT].map(|signal| signal_request(signal, scope));
                self.ask_to_end(key, incarnation, requests.into());
            }
            Effect::Reload { incarnation } => self.reload(key, incarnation),
            Effect::KillTree { incarnation } => {
                fail_point!("kill-due");
                self.request(key, incarnation, Request::KillTree);
            }
            Effect::Forget => {
                fail_point!("removal-recorded");
                self.units.remove(key);
                self.changed.insert(key.clone());
                self.folders.forget(key);
                fail_point!("instance-forgotten");
            }
            // Done when the step gave them.
            Effect::Save | Effect::WakeAt(_) | Effect::Probe { .. } | Effect::Tell(_) => {}
        }
    }

    /// Gives what fills the variables of an incarnation's spec.
    pub(super) fn placed<T>(
        &self,
        key: &InstanceKey,
        generation: Generation,
        incarnation: Incarnation,
        spec: &Spec,
        fill: impl FnOnce(&Place<'_>) -> T,
    ) -> T {
        let files = self.folders.bundle(key, incarnation).files();
        fill(&Place {
            host: &self.settings.name,
            key,
            generation,
            incarnation,
            revision: self.ledger.assignment().revision,
            files: Some(files.as_path()).filter(|_| !spec.files.is_empty()),
        })
    }

    /// Takes the starts out of what is owed and prepares them. Not beside instances that are forgotten in the same turn,
    /// which clears their folders.
    pub(super) fn prepare_starts(&mut self, owed: &mut Owed) -> Vec<Start> {
        if owed.iter().any(|(_, effect)| matches!(effect, Effect::Forget)) {
            return Vec::new();
        }
        let mut starts = Vec::new();
        for (key, effect) in std::mem::take(owed) {
            match effect {
                Effect::Spawn { incarnation, generation, run_spec } => {
                    starts.extend(self.prepare_start(&key, incarnation, generation, &run_spec));
                }
                _ => owed.push_back((key, effect)),
            }
        }
        starts
    }

    /// Makes bundle and cgroup, and has a shim born where nothing has to come before that. What fails becomes news.
    fn prepare_start(
        &mut self,
        key: &InstanceKey,
        incarnation: Incarnation,
        generation: Generation,
        run_spec: &RunSpec,
    ) -> Option<Start> {
        let leaf = self.cgroups.leaf(key, incarnation);
        let spec = run_spec.spec();
        let (launch, hooks, files) = self.placed(key, generation, incarnation, spec, |place| {
            let launch = launch(run_spec, place, &self.folders.logs(key), &leaf);
            (launch, hook::all_filled(&spec.hooks, place), render(spec, place))
        });
        let resources = spec.resources.unwrap_or_default();
        let strays = self.strays_of(key, incarnation);
        let waits = !strays.is_empty() || !files.is_empty() || hooks.pre_start.is_some();
        let (sender, attendant) = self.attendant(key, incarnation, leaf.clone(), hooks);
        let (bundle, launch) = (&attendant.bundle, launch.encode());
        let born = if waits {
            bundle.create(&launch).map(|()| None).map_err(|error| bundle.failure_to_start(&error))
        } else {
            self.nursery.birth_with(bundle, &launch).map(Some)
        };
        fail_point!("shim-born");
        // The cgroup last: a shim looks for it only when it is let go.
        let prepared = born.and_then(|shim| self.cgroups.create(&leaf, &resources).map(|()| shim));
        fail_point!("cgroup-made");
        if let Some(unit) = self.units.get_mut(key) {
            unit.requests = Some(sender);
        }
        match prepared {
            Ok(shim) => Some(Start { attendant, strays, files, shim }),
            Err(failure) => {
                let news = News { key: key.clone(), incarnation, what: What::NoShim(failure) };
                let sender = self.news_sender.clone();
                // Sent from a task of its own: this one empties the queue.
                tokio::spawn(async move { sender.send(news).await });
                None
            }
        }
    }

    pub(super) fn request(&self, key: &InstanceKey, incarnation: Incarnation, request: Request) {
        let Some(unit) = self.units.get(key) else { return };
        let same = unit.supervisor.live() == Some(incarnation);
        if let Some(requests) = unit.requests.as_ref().filter(|_| same)
            && requests.try_send(request).is_err()
        {
            tracing::warn!(instance = %key, "its shim takes no requests");
        }
    }
}

fn signal_request(signal: Signal, scope: StopScope) -> Request {
    let scope = match scope {
        StopScope::Main => Scope::Main,
        StopScope::Group => Scope::Group,
        StopScope::All => Scope::All,
    };
    Request::Signal { signal: signal.number(), scope }
}
