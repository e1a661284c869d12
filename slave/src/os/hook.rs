//! Hooks: commands of a spec around its program's life, run beside it. Two of one incarnation are never under way at a
//! time: each holds the bundle's hook lock, and the end of its slave ends it.

use std::{path::Path, time::Duration};

use minder_model::{Hook, Hooks};

use super::{
    command::{self, How},
    launch::{Place, expand},
};

/// Name under which the command of a reload is run.
pub const RELOAD: &str = "reload";
/// Stands in a bundle once its `post_start` was run.
pub const POST_START_DONE: &str = "post_start.done";

/// One with its variables filled in.
pub fn filled(hook: &Hook, place: &Place<'_>) -> Hook {
    let args = hook.args.iter().map(|arg| expand(arg, place)).collect();
    Hook { command: expand(&hook.command, place), args, timeout: hook.timeout }
}

/// All of them with their variables filled in.
pub fn all_filled(hooks: &Hooks, place: &Place<'_>) -> Hooks {
    let fill = |hook: &Option<Hook>| hook.as_ref().map(|hook| filled(hook, place));
    Hooks {
        pre_start: fill(&hooks.pre_start),
        post_start: fill(&hooks.post_start),
        pre_stop: fill(&hooks.pre_stop),
        post_stop: fill(&hooks.post_stop),
    }
}

/// Runs a hook beside the program of a bundle. The error is a sentence that names it. Dropped, it is ended.
pub async fn run(shim: &Path, bundle: &Path, name: &'static str, hook: &Hook, limit: Duration) -> Result<(), String> {
    let words: Vec<String> = std::iter::once(&hook.command).chain(&hook.args).cloned().collect();
    let ran = command::run(shim, bundle, How::Hook(name), &words, limit).await;
    // A reload is run as hooks are and is none.
    let what = if name == RELOAD { name.into() } else { format!("{name} hook") };
    ran.and_then(|ran| ran.success(&hook.command, limit)).map_err(|why| format!("{what} failed: {why}"))
}
