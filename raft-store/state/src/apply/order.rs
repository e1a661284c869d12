//! Orders to instances: start, stop, restart, retry, signal, reload. Each is a revision, so each is fenced like everything.

use alloc::{collections::BTreeSet, format, sync::Arc, vec::Vec};

use minder_model::{InstanceRef, Item, ProcessName, Selection, Signal, SignalOrder, Wanted};

use super::{Answer, spec::check_expected};
use crate::{
    proposal::{Order, OrderKind, Proposal},
    record::ProcessRecord,
    reply::{Outcome, Refusal},
    writer::Writer,
};

pub(super) fn give(writer: &mut Writer<'_>, order: &Order, proposal: &Proposal) -> Answer {
    let selection = order.selection().map_err(|error| Refusal::Invalid(format!("{error}")))?;
    let selected: Vec<InstanceRef> = writer.state.selected(&selection).map(|(instance, _)| instance).collect();
    let unmatched = selection.unmatched(selected.iter());
    if selected.is_empty() || !unmatched.is_empty() {
        return Err(Refusal::NothingMatched(unmatched));
    }
    let processes: BTreeSet<ProcessName> = selected.iter().map(|instance| instance.key.process.clone()).collect();
    for process in &processes {
        check_expected(writer.state, process, proposal.expect)?;
    }
    if order.kind == OrderKind::Reload {
        check_reload(writer, &processes)?;
    }
    for process in &processes {
        tell_process(writer, process, &selection, order.kind);
    }
    for instance in &selected {
        tell_instance(writer, instance, order.kind);
    }
    let listed = selected.iter().take(Outcome::INSTANCES_LISTED_MAX);
    Ok(Outcome::Instances(
        selected.len() as u64,
        listed.map(|instance| (instance.host.clone(), instance.key.clone())).collect(),
    ))
}

/// A reload is for processes that say what it means for them.
fn check_reload(writer: &Writer<'_>, processes: &BTreeSet<ProcessName>) -> Result<(), Refusal> {
    let has_none =
        |process: &&ProcessName| writer.state.process(process).is_none_or(|record| record.spec.reload.is_none());
    match processes.iter().find(has_none) {
        Some(process) => Err(Refusal::Invalid(format!(
            "{process} has no reload in its spec; say `reload: HUP` or `reload: {{exec: COMMAND}}` there, or leave it out"
        ))),
        None => Ok(()),
    }
}

/// A start or stop of a whole process also speaks to instances on hosts yet to come.
fn tell_process(writer: &mut Writer<'_>, process: &ProcessName, selection: &Selection, kind: OrderKind) {
    let wanted = match kind {
        OrderKind::Start => Wanted::Running,
        OrderKind::Stop => Wanted::Stopped,
        OrderKind::Restart | OrderKind::Retry | OrderKind::Signal(_) | OrderKind::Reload => return,
    };
    let Some(before) = writer.state.process(process) else { return };
    if before.wanted != wanted && selection.matches_process(process, &before.spec.labels) {
        let revision = writer.index;
        let record = ProcessRecord { wanted, revision, ..before.clone() };
        writer.put_process(Arc::new(record));
    }
}

fn tell_instance(writer: &mut Writer<'_>, instance: &InstanceRef, kind: OrderKind) {
    let Some(before) = writer.state.item(&instance.host, &instance.key).copied() else { return };
    let now = writer.index;
    let item = match kind {
        // Starting what is given up or has ended means trying again, as with supervisorctl and systemctl.
        OrderKind::Start => Item { wanted: Wanted::Running, retry_at: now, start_at: now, ..before },
        OrderKind::Stop => Item { wanted: Wanted::Stopped, ..before },
        OrderKind::Restart => Item { wanted: Wanted::Running, restart_at: now, retry_at: now, start_at: now, ..before },
        OrderKind::Retry => Item { retry_at: now, ..before },
        OrderKind::Signal(signal) => {
            Item { signal: Some(SignalOrder { revision: now, signal, reload: false }), ..before }
        }
        OrderKind::Reload => {
            let signal = Signal::HUP;
            Item { signal: Some(SignalOrder { revision: now, signal, reload: true }), ..before }
        }
    };
    writer.put_item(&instance.host, &instance.key, item, None);
}
