use std::collections::BTreeSet;

use minder_client::{Streaming, v1};
use tokio::time::{Instant, timeout_at};

use super::order::{self, Order};
use crate::{
    context::{Context, some},
    failure::{FAILED, Failure, TIMED_OUT},
    waiting::{self, NAMED_MAX},
    words::{count, full},
};

/// What events of a reload by a command begin with: it went well, it failed, there was nothing to run.
const WELL: &str = "reloaded";
const FAILED_WORDS: [&str; 2] = ["reload failed", "not reloaded"];

/// Gives the order and, where a command of the spec does it, waits for how that went.
pub async fn run(context: &Context, command: Order) -> Result<u8, Failure> {
    if command.change.dry_run || !waiting::wanted(&command.wait, true) {
        return order::run(context, v1::OrderKind::Reload, command).await;
    }
    let selection = some(&command.select)?;
    // Opened before the order, so that nothing is missed.
    let outcomes = Outcomes::open(context, &selection).await?;
    let code = order::run(context, v1::OrderKind::Reload, command).await?;
    match outcomes {
        Some(outcomes) => outcomes.all(context).await.map(|()| code),
        None => Ok(code),
    }
}

/// How the commands of a reload went, as events tell it.
struct Outcomes {
    events: Streaming<v1::Event>,
    awaited: BTreeSet<(String, String, u32)>,
}

impl Outcomes {
    /// Of the selected instances whose specs reload by a command; none when there are none.
    async fn open(context: &Context, selection: &v1::Selection) -> Result<Option<Self>, Failure> {
        let processes = context.client.processes(selection.clone(), false).await?.processes;
        let specs = processes.into_iter().filter_map(|process| process.spec);
        let by_command: BTreeSet<String> = specs.filter(is_by_command).map(|spec| spec.name).collect();
        if by_command.is_empty() {
            return Ok(None);
        }
        let request = v1::EventsRequest { selection: Some(selection.clone()), tail: 0, follow: true, only_new: true };
        let events = context.client.events(request).await?;
        let instances = context.client.instances(selection.clone()).await?.instances;
        let names = instances.into_iter().filter_map(|instance| instance.name);
        let awaited = names.filter(|name| by_command.contains(&name.process));
        let awaited = awaited.map(|name| (name.host, name.process, name.index)).collect();
        Ok(Some(Self { events, awaited }))
    }

    async fn all(mut self, context: &Context) -> Result<(), Failure> {
        let deadline = Instant::now() + context.wait_limit;
        let mut failed = Vec::new();
        while !self.awaited.is_empty() {
            let event = match timeout_at(deadline, self.events.message()).await {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None) | Err(_)) => return Err(self.unheard(FAILED, "the events ended")),
                Err(_) => return Err(self.unheard(TIMED_OUT, "timed out")),
            };
            let index = event.index.max(1);
            let begins = |words: &&str| event.text.starts_with(*words);
            let tells = begins(&WELL) || FAILED_WORDS.iter().any(begins);
            if tells && self.awaited.remove(&(event.host.clone(), event.process.clone(), index)) && !begins(&WELL) {
                let name = v1::InstanceName { host: event.host, process: event.process, index };
                failed.push(format!("{}: {}", full(&name), event.text));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => {
                let failure = Failure::new(FAILED, format!("{} not reloaded", count(failed.len() as u64, "instance")));
                Err(failed.into_iter().take(NAMED_MAX).fold(failure, Failure::cause))
            }
        }
    }

    fn unheard(&self, code: u8, why: &str) -> Failure {
        let what = count(self.awaited.len() as u64, "instance");
        Failure::new(code, format!("{why} before {what} had said how the reload went; it may still go on"))
            .hint("`minderctl events` shows it when it is known")
    }
}

fn is_by_command(spec: &v1::ProcessSpec) -> bool {
    use v1::reload_spec::How;
    matches!(spec.reload.as_ref().and_then(|reload| reload.how.as_ref()), Some(How::Exec(_)))
}
