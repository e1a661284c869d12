//! What supervisors ask for, carried out after the sync: starts, signals, kills.

use std::{io, path::Path};

use minder_model::{Generation, Hooks, Incarnation, InstanceKey, Resources, Signal, Spec, StartFailure, StopScope};
use minder_shim::{
    fail_point,
    protocol::{Request, Scope},
};
use minder_supervisor::Effect;

use super::Host;
use crate::os::{
    files::{RenderedFile, render},
    hook,
    incarnation::{News, What},
    launch::{Place, launch},
};

impl Host {
    /// Does what a supervisor asks for, once what it rests on is durable.
    pub(super) fn carry_out(&mut self, key: &InstanceKey, effect: Effect) {
        match effect {
            Effect::Spawn { incarnation, generation, run_spec } => {
                fail_point!("intent-synced");
                let leaf = self.cgroups.leaf(key, incarnation);
                let spec = run_spec.spec();
                let (launch, hooks, files) = self.placed(key, generation, incarnation, spec, |place| {
                    let launch = launch(&run_spec, place, &self.folders.logs(key), &leaf);
                    (launch, hook::all_filled(&spec.hooks, place), render(spec, place))
                });
                let resources = run_spec.spec().resources.unwrap_or_default();
                self.spawn(key, incarnation, &launch.encode(), (&leaf, &resources), hooks, files);
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

    fn spawn(
        &mut self,
        key: &InstanceKey,
        incarnation: Incarnation,
        launch: &[u8],
        (leaf, resources): (&Path, &Resources),
        hooks: Hooks,
        files: Vec<RenderedFile>,
    ) {
        let (sender, attendant) = self.attendant(key, incarnation, leaf.into(), hooks);
        let no_bundle = |error: io::Error| StartFailure {
            step: "bundle".into(),
            errno: error.raw_os_error().unwrap_or_default(),
            message: format!("cannot prepare {}: {error}", attendant.bundle.path().display()),
        };
        let prepared = attendant.bundle.create(launch).map_err(no_bundle).and_then(|()| {
            fail_point!("bundle-written");
            self.cgroups.create(leaf, resources)
        });
        fail_point!("cgroup-made");
        if let Some(unit) = self.units.get_mut(key) {
            unit.requests = Some(sender);
        }
        match prepared {
            Ok(()) => drop(tokio::spawn(attendant.start(self.strays_of(key, incarnation), files))),
            Err(failure) => {
                let news = News { key: key.clone(), incarnation, what: What::NoShim(failure) };
                let sender = self.news_sender.clone();
                // Sent from a task of its own: this one empties the queue.
                tokio::spawn(async move { sender.send(news).await });
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
