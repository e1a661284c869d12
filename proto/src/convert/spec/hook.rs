//! Hooks.

use minder_model::{Hook, Hooks};

use super::millis;
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
