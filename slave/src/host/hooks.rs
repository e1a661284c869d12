//! Hooks of an incarnation that runs: after its start, and before it is asked to end. Those before its start and after
//! its end are its attendant's, for nothing else happens to it then.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use minder_model::{Hook, Hooks, Incarnation, InstanceKey, RELOAD_TIMEOUT_MS, Reload, Spec};
use minder_shim::protocol::Request;
use tokio_util::task::AbortOnDropHandle;

use super::Host;
use crate::os::{hook, launch::Place};

impl Host {
    /// Runs `post_start` once for an incarnation. One that a slave's end interrupted is run again by the next slave.
    pub(super) fn post_start(&mut self, key: &InstanceKey, incarnation: Incarnation) {
        let Some((hook, bundle)) = self.hook(key, incarnation, |hooks| hooks.post_start) else { return };
        let done = bundle.join(hook::POST_START_DONE);
        let Some(unit) = self.units.get_mut(key).filter(|unit| unit.post_start.is_none()) else { return };
        if done.exists() {
            return;
        }
        let (shim, events, key) = (self.shim.clone(), self.events.clone(), key.clone());
        unit.post_start = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let limit = Duration::from_millis(hook.timeout.0);
            if let Err(message) = hook::run(&shim, &bundle, "post_start", &hook, limit).await {
                events.tell(&key, message);
            }
            // Without the mark the next slave runs it once more; the incarnation has nothing from a full disk here.
            let _ = File::create(done);
        })));
    }

    /// Asks an incarnation to end, after its `pre_stop` if it has one. The grace goes on meanwhile: when it is over the
    /// tree is killed, and the hook with it.
    pub(super) fn ask_to_end(&mut self, key: &InstanceKey, incarnation: Incarnation, requests: Vec<Request>) {
        let found = self.hook(key, incarnation, |hooks| hooks.pre_stop);
        let first = self.units.get(key).is_some_and(|unit| unit.pre_stop.is_none());
        let Some((hook, bundle)) = found.filter(|_| first) else {
            requests.into_iter().for_each(|request| self.request(key, incarnation, request));
            return;
        };
        let (shim, events, name) = (self.shim.clone(), self.events.clone(), key.clone());
        let Some(unit) = self.units.get_mut(key) else { return };
        let shim_requests = unit.requests.clone();
        unit.pre_stop = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let limit = Duration::from_millis(hook.timeout.0);
            if let Err(message) = hook::run(&shim, &bundle, "pre_stop", &hook, limit).await {
                events.tell(&name, message);
            }
            for request in requests {
                if let Some(shim_requests) = &shim_requests {
                    // A closed queue belongs to an incarnation that has ended by itself.
                    let _ = shim_requests.send(request).await;
                }
            }
        })));
    }

    /// Runs the command of a reload. A later reload takes the place of one that is under way; a slave's end ends it, and
    /// it is not run again, as no signal is sent twice.
    pub(super) fn reload(&mut self, key: &InstanceKey, incarnation: Incarnation) {
        let command = |spec: &Spec, place: &Place<'_>| match &spec.reload {
            Some(Reload::Exec(words)) => {
                let (command, args) = words.split_first()?;
                Some(hook::filled(&Hook::new(command, args.to_vec()), place))
            }
            Some(Reload::Signal(_)) | None => None,
        };
        let Some(hook) = self.filled(key, incarnation, command).flatten() else { return };
        let bundle: Arc<Path> = self.folders.bundle(key, incarnation).path().into();
        let (shim, events, name) = (self.shim.clone(), self.events.clone(), key.clone());
        let Some(unit) = self.units.get_mut(key) else { return };
        unit.reload = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let limit = Duration::from_millis(RELOAD_TIMEOUT_MS);
            match hook::run(&shim, &bundle, hook::RELOAD, &hook, limit).await {
                Ok(()) => events.tell(&name, "reloaded".into()),
                Err(message) => events.tell(&name, message),
            }
        })));
    }

    /// All hooks of a live incarnation with their variables filled in; none when its spec is lost.
    pub(super) fn hooks_of(&self, key: &InstanceKey, incarnation: Incarnation) -> Hooks {
        self.filled(key, incarnation, |spec, place| hook::all_filled(&spec.hooks, place)).unwrap_or_default()
    }

    /// Something of a live incarnation's spec, with its variables filled in; nothing when the spec is lost.
    pub(super) fn filled<T>(
        &self,
        key: &InstanceKey,
        incarnation: Incarnation,
        fill: impl FnOnce(&Spec, &Place<'_>) -> T,
    ) -> Option<T> {
        let live = self.ledger.record(key)?.live.filter(|live| live.incarnation == incarnation)?;
        let spec = self.ledger.run_spec(&live.spec)?.spec();
        Some(self.placed(key, live.generation, incarnation, spec, |place| fill(spec, place)))
    }

    /// One of them, and where its bundle lies.
    fn hook(
        &self,
        key: &InstanceKey,
        incarnation: Incarnation,
        choose: impl FnOnce(Hooks) -> Option<Hook>,
    ) -> Option<(Hook, Arc<Path>)> {
        let hook = choose(self.hooks_of(key, incarnation))?;
        Some((hook, self.folders.bundle(key, incarnation).path().into()))
    }
}
