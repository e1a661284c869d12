//! The way of every write: options checked, time stamped, proposed, answered.

use minder_model::{COMMAND_BYTES_MAX, CommandVersion, REQUEST_INSTANCES_MAX, RequestId, Revision};
use minder_proto::v1;
use minder_raft_store::SharedProposal;
use minder_state::{Command, Expect, Outcome, ProcessChangeKind, ProcessCounts, Proposal, Reply, State};
use tonic::Status;

use super::{linearize, version::gate, wire};
use crate::{clock::wall_ms, core::Core};

/// Longest name of a person or program that asks.
const ACTOR_BYTES_MAX: usize = 256;

/// Writes `command`, or says what it would do.
pub async fn write(core: &Core, options: Option<v1::WriteOptions>, command: Command) -> Result<v1::WriteReply, Status> {
    let options = options.unwrap_or_default();
    let dry_run = options.dry_run;
    let proposal = proposal(options, command)?;
    check_reach(core, &proposal)?;
    let reply = if dry_run { rehearse(core, &proposal).await? } else { propose(core, proposal).await? };
    to_wire(core, reply, dry_run)
}

/// Refuses what would keep every manager busy for too long in one step. What is said again has its answer, however much the
/// table has grown since.
fn check_reach(core: &Core, proposal: &Proposal) -> Result<(), Status> {
    let Proposal { request, command, .. } = proposal;
    if core.node.outline(|outline| outline.reach_at_most(command)) <= REQUEST_INSTANCES_MAX {
        return Ok(());
    }
    let reach = |state: &State| match state.remembered(request) {
        Some(_) => 0,
        None => state.reach(command, REQUEST_INSTANCES_MAX + 1),
    };
    match core.node.look(reach) {
        0..=REQUEST_INSTANCES_MAX => Ok(()),
        _ => Err(wire::too_large(format!(
            "this request reaches more than {REQUEST_INSTANCES_MAX} instances, the limit of one request; \
             write fewer processes at a time, or select fewer hosts"
        ))),
    }
}

fn proposal(options: v1::WriteOptions, command: Command) -> Result<Proposal, Status> {
    let id = match options.request_id {
        id if id.is_empty() => uuid::Uuid::now_v7().to_string(),
        id => id,
    };
    let request =
        RequestId::new(id).map_err(|error| Status::invalid_argument(format!("options.request_id: {error}")))?;
    if options.actor.len() > ACTOR_BYTES_MAX {
        return Err(Status::invalid_argument(format!("options.actor: longer than {ACTOR_BYTES_MAX} bytes")));
    }
    let expect = options.expect_revision.map_or(Expect::Anything, |revision| Expect::Revision(Revision(revision)));
    Ok(Proposal { request, time_ms: wall_ms(), actor: options.actor, expect, command })
}

async fn propose(core: &Core, proposal: Proposal) -> Result<Reply, Status> {
    let proposal = SharedProposal::from(proposal);
    let bytes = proposal.bytes().len();
    if bytes > COMMAND_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "this request has {bytes} bytes in its stored form, the limit is {COMMAND_BYTES_MAX}; split it"
        )));
    }
    gate(core, proposal.proposal().command.needs()).await?;
    if bytes > core.node.version().command_bytes_max() {
        gate(core, CommandVersion::LARGE_APPLIES).await?;
    }
    let _room = match core.room.take(core.node.disk_free_bytes(), bytes as u64) {
        Ok(room) => room,
        Err(full) => return first_answer(core, &proposal.proposal().request).await?.ok_or(full),
    };
    core.node.propose(proposal).await.map_err(|error| wire::propose_error(core, &error))
}

/// The answer of a request that was carried out already. Who refused it for want of room would say that it was not.
async fn first_answer(core: &Core, request: &RequestId) -> Result<Option<Reply>, Status> {
    linearize(core).await?;
    Ok(core.node.look(|state| state.remembered(request)))
}

/// What the write would do now, on a copy of the state.
async fn rehearse(core: &Core, proposal: &Proposal) -> Result<Reply, Status> {
    linearize(core).await?;
    let (mut state, applied) = core.node.snapshot_state();
    let reply = state.apply(applied.next(), proposal).reply;
    Ok(Reply { revision: applied, ..reply })
}

fn to_wire(core: &Core, reply: Reply, dry_run: bool) -> Result<v1::WriteReply, Status> {
    let mut answer = v1::WriteReply { position: Some(core.position(reply.revision)), dry_run, ..Default::default() };
    match reply.outcome {
        Outcome::Done => {}
        Outcome::Processes(changes) => answer.processes = changes.into_iter().map(process_change).collect(),
        Outcome::Instances(count, listed) => {
            answer.instance_count = count;
            answer.instances = listed.iter().map(|(host, key)| wire::instance_name(host, key)).collect();
        }
        Outcome::Counted(counts) => answer.counts = Some(process_counts(counts)),
        Outcome::Refused(refusal) => return Err(wire::refusal(&refusal)),
    }
    Ok(answer)
}

fn process_counts(counts: ProcessCounts) -> v1::ProcessCounts {
    let ProcessCounts { created, changed, unchanged, deleted, instances } = counts;
    v1::ProcessCounts { created, changed, unchanged, deleted, instances }
}

fn process_change(change: minder_state::ProcessChange) -> v1::ProcessChange {
    let kind = match change.kind {
        ProcessChangeKind::Created => v1::ProcessChangeKind::Created,
        ProcessChangeKind::Changed => v1::ProcessChangeKind::Changed,
        ProcessChangeKind::Unchanged => v1::ProcessChangeKind::Unchanged,
        ProcessChangeKind::Deleted => v1::ProcessChangeKind::Deleted,
    };
    v1::ProcessChange {
        name: change.name.to_string(),
        kind: kind.into(),
        generation: change.generation.0,
        instances: change.instances,
    }
}
