//! Instances as they are wanted and seen: listed, explained, watched.

use std::{sync::Arc, time::Duration};

use minder_fleet::show;
use minder_model::{HostName, InstanceKey, InstanceRef, Item, Resources, Selection, Wanted, host_warnings};
use minder_proto::{convert, v1};
use minder_state::State;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, linearize, wire};
use crate::{clock::wall_ms, core::Core, fleet::HostView};

/// A watch repaints at most this often: faster than a person sees, slow enough that a storm costs little.
const WATCH_PACE: Duration = Duration::from_millis(20);
/// A watch also looks without a change, for silence is no event.
const WATCH_LOOK: Duration = Duration::from_secs(1);
/// Answers waiting for one watcher; the next look is taken when it has room again.
const WATCH_QUEUE: usize = 1;

pub async fn list(core: &Core, request: v1::ListInstancesRequest) -> Result<v1::ListInstancesReply, Status> {
    let selection = wire::selection(request.selection, true)?;
    linearize(core).await?;
    Ok(look(core, &selection))
}

pub async fn watch(
    core: &Arc<Core>,
    request: v1::WatchInstancesRequest,
) -> Result<Answers<v1::ListInstancesReply>, Status> {
    let selection = wire::selection(request.selection, true)?;
    linearize(core).await?;
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    tokio::spawn(keep_looking(core.clone(), selection, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

pub async fn explain(core: &Core, request: v1::ExplainRequest) -> Result<v1::ExplainReply, Status> {
    let name = request.instance.ok_or_else(|| Status::invalid_argument("instance: is missing"))?;
    let host = wire::host_name("instance.host", name.host)?;
    let process = wire::process_name("instance.process", name.process)?;
    linearize(core).await?;
    let (state, applied) = core.node.snapshot_state();
    let key = InstanceKey::new(process, name.index.max(1));
    let instance = InstanceRef { host, key };
    let item = state
        .item(&instance.host, &instance.key)
        .ok_or_else(|| Status::not_found(format!("there is no instance {instance}")))?;
    let run_spec = state.run_spec(&item.spec);
    let spec = run_spec.as_ref().map(minder_model::RunSpec::spec);
    let view = core.fleet.view(&instance.host);
    let status = view.observed.statuses.get(&instance.key);
    let shown = shown(&state, &instance.host, &instance.key, item, &view);
    let sentences = match spec {
        Some(spec) => {
            let warnings = warnings(&instance.key, spec.resources, &view);
            minder_fleet::explain(&instance, item, status, spec, &shown, &warnings, wall_ms())
        }
        None => Vec::new(),
    };
    Ok(v1::ExplainReply {
        position: Some(core.position(applied)),
        instance: Some(to_wire(&state, &instance.host, &instance.key, item, &view, applied.0)),
        sentences,
        spec: spec.map(convert::spec::spec_to_wire),
    })
}

/// Looks whenever something changed, and sends what it sees when that is something else than before. Ends with the
/// watcher or with this manager's leadership.
async fn keep_looking(
    core: Arc<Core>,
    selection: Selection,
    sender: mpsc::Sender<Result<v1::ListInstancesReply, Status>>,
) {
    let mut version = core.fleet.version();
    let mut applied = core.history.newest();
    let leadership = core.node.leadership();
    let mut last: Option<Vec<v1::Instance>> = None;
    loop {
        version.mark_unchanged();
        applied.mark_unchanged();
        let Ok(permit) = sender.reserve().await else { return };
        if !leadership.borrow().leading {
            permit.send(Err(Status::unavailable("this manager does not lead any more; watch again")));
            return;
        }
        let reply = look(&core, &selection);
        if last.as_ref() != Some(&reply.instances) {
            last = Some(reply.instances.clone());
            permit.send(Ok(reply));
            tokio::time::sleep(WATCH_PACE).await;
        }
        // All may be dropped at their await: both watches keep their value.
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            changed = applied.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(WATCH_LOOK) => {}
            () = sender.closed() => return,
        }
    }
}

fn look(core: &Core, selection: &Selection) -> v1::ListInstancesReply {
    let (state, applied) = core.node.snapshot_state();
    let mut view: Option<(HostName, HostView)> = None;
    let mut instances = Vec::new();
    for (InstanceRef { host, key }, item) in state.selected(selection) {
        // Instances come host by host, so each host is looked at once.
        let view = match &mut view {
            Some((seen, view)) if *seen == host => &*view,
            other => &other.insert((host.clone(), core.fleet.view(&host))).1,
        };
        instances.push(to_wire(&state, &host, &key, item, view, applied.0));
    }
    v1::ListInstancesReply { position: Some(core.position(applied)), instances }
}

fn shown(state: &State, host: &HostName, key: &InstanceKey, item: &Item, view: &HostView) -> minder_fleet::Shown {
    show(
        item,
        view.observed.statuses.get(key),
        &view.standing,
        view.observed.revision >= state.assignment_revision(host),
        view.observed.complete,
        state.host(host).is_some(),
    )
}

/// How old a host's report is; 0 while it is connected.
fn age_ms(view: &HostView) -> u64 {
    let connected = view.standing.condition == minder_fleet::Condition::Connected;
    view.standing.silent_ms.filter(|_| !connected).unwrap_or_default()
}

/// What a process asks for and its host cannot give.
fn warnings(key: &InstanceKey, resources: Option<Resources>, view: &HostView) -> Vec<String> {
    let strays = view.usage.as_ref().map(|(usage, _)| usage.strays.as_slice()).unwrap_or_default();
    host_warnings(key, resources, &view.facts, strays)
}

fn to_wire(
    state: &State,
    host: &HostName,
    key: &InstanceKey,
    item: &Item,
    view: &HostView,
    applied: u64,
) -> v1::Instance {
    let shown = shown(state, host, key, item, view);
    let status = view.observed.statuses.get(key);
    let taken = view.observed.revision >= state.assignment_revision(host);
    let text = key.to_string();
    // The last sample may be of a process that has ended since.
    let sample = view.usage.as_ref().filter(|_| status.is_some_and(|status| status.pid > 0));
    let usage = sample.and_then(|(usage, _)| usage.processes.iter().find(|usage| usage.instance == text));
    let spec = state.process(&key.process).map(|record| &*record.spec);
    let labels = spec.map(|spec| spec.labels.clone()).unwrap_or_default();
    v1::Instance {
        name: Some(wire::instance_name(host, key)),
        wanted_running: item.wanted == Wanted::Running,
        generation_wanted: item.generation.0,
        status: Some(match status {
            Some(status) => v1::InstanceStatus {
                phase: convert::status::phase_to_wire(shown.phase).into(),
                ..convert::status::instance_status_to_wire(status)
            },
            None => v1::InstanceStatus {
                process: key.process.to_string(),
                index: key.index,
                phase: convert::status::phase_to_wire(shown.phase).into(),
                ..Default::default()
            },
        }),
        owed: shown.owed.into(),
        age_ms: age_ms(view),
        why: shown.why,
        usage: usage.map(convert::status::process_usage_to_wire),
        labels,
        warnings: spec.map(|spec| warnings(key, spec.resources_on(host), view)).unwrap_or_default(),
        // A slave that has its host's latest assignment has everything up to what is applied here.
        assignment_revision_seen: if taken { applied } else { view.observed.revision.0 },
    }
}
