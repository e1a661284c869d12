//! Asking before much is touched.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use minder_client::v1;

use crate::{
    context::Context,
    failure::{FAILED, Failure},
    flags::Change,
    screen::Screen,
    words::count,
};

/// Up to here a selection is taken as meant.
pub const INSTANCES_UNASKED_MAX: usize = 20;
/// And up to here.
const HOSTS_UNASKED_MAX: usize = 5;

/// Goes on when what the selection touches is small, or whoever typed it means it.
pub async fn confirm(context: &Context, verb: &str, selection: &v1::Selection, change: &Change) -> Result<(), Failure> {
    if change.yes || change.dry_run {
        return Ok(());
    }
    let instances = context.client.instances(selection.clone()).await?.instances;
    if instances.is_empty() {
        return Err(Failure::nothing_matched(selection));
    }
    let hosts: BTreeSet<&str> =
        instances.iter().filter_map(|instance| instance.name.as_ref()).map(|name| name.host.as_str()).collect();
    if instances.len() <= INSTANCES_UNASKED_MAX && hosts.len() <= HOSTS_UNASKED_MAX {
        return Ok(());
    }
    let plan = format!("{verb} {} on {}", count(instances.len() as u64, "instance"), count(hosts.len() as u64, "host"));
    consent(&context.screen, &plan)
}

/// Asks whether the plan is meant, where there is somebody to ask.
pub fn consent(screen: &Screen, plan: &str) -> Result<(), Failure> {
    if !screen.asks {
        return Err(Failure::usage(format!("this would {plan}")).hint("add --yes if that is meant"));
    }
    eprint!("This will {plan}. Go on? [y/N] ");
    let mut answer = String::new();
    // A terminal that gives no answer gives no consent.
    let answered = io::stderr().flush().and_then(|()| io::stdin().read_line(&mut answer)).is_ok();
    match answered && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new(FAILED, "not confirmed; nothing was changed")),
    }
}
