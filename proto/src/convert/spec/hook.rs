//! Hooks and reloads.

use minder_model::{Hook, Hooks, Reload};

use super::{Errors, millis, signal_from_wire};
use crate::v1;

pub(super) fn hooks_from_wire(wire: v1::HooksSpec) -> Hooks {
    let hook = |wire: Option<v1::Hook>| {
        wire.map(|wire| {
            let default = Hook::new(wire.command, wire.args);
            Hook { timeout: millis(wire.timeout_ms, default.timeout), ..default }
        })
    };
    Hooks {
        pre_start: hook(wire.pre_start),
        post_start: hook(wire.post_start),
        pre_stop: hook(wire.pre_stop),
        post_stop: hook(wire.post_stop),
    }
}

pub(super) fn hooks_to_wire(hooks: &Hooks) -> v1::HooksSpec {
    let hook = |hook: &Option<Hook>| {
        hook.as_ref().map(|hook| v1::Hook {
            command: hook.command.clone(),
            args: hook.args.clone(),
            timeout_ms: Some(hook.timeout.0),
        })
    };
    v1::HooksSpec {
        pre_start: hook(&hooks.pre_start),
        post_start: hook(&hooks.post_start),
        pre_stop: hook(&hooks.pre_stop),
        post_stop: hook(&hooks.post_stop),
    }
}

pub(super) fn reload_from_wire(errors: &mut Errors, wire: v1::ReloadSpec) -> Option<Reload> {
    use v1::reload_spec::How;
    match wire.how {
        Some(How::Signal(number)) => signal_from_wire(errors, "reload.signal", number).map(Reload::Signal),
        Some(How::Exec(args)) => Some(Reload::Exec(args.items)),
        None => {
            errors.add("reload", String::from("say one of signal and exec"));
            None
        }
    }
}

pub(super) fn reload_to_wire(reload: &Reload) -> v1::ReloadSpec {
    use v1::reload_spec::How;
    let how = match reload {
        Reload::Signal(signal) => How::Signal(signal.number().unsigned_abs()),
        Reload::Exec(words) => How::Exec(v1::Args { items: words.clone() }),
    };
    v1::ReloadSpec { how: Some(how) }
}
