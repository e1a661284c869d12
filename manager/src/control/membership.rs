//! Changes of the managers: added, removed, promoted, demoted, moved. The steps are told while they are done.

use std::sync::Arc;

use minder_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Status;

use super::Answers;
use crate::{
    core::Core,
    forward::mark_forwarded,
    raft::{Changed, MembershipError, Step},
};

/// Steps on their way to whoever asked. There are a handful; a listener that is slower than that misses some.
const QUEUE: usize = 64;

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Change {
    Add(v1::AddManagerRequest),
    Remove(v1::RemoveManagerRequest),
    Promote(v1::PromoteManagerRequest),
    Demote(v1::DemoteManagerRequest),
    SetAddress(v1::SetManagerAddressRequest),
}

type Told = mpsc::Sender<Result<v1::MembershipProgress, Status>>;

/// Begins the change and gives its steps. It goes on when nobody listens any more.
pub fn change(core: &Arc<Core>, change: Change) -> Result<Answers<v1::MembershipProgress>, Status> {
    check(&change)?;
    let (told, steps) = mpsc::channel(QUEUE);
    tokio::spawn(carry_out(core.clone(), change, told));
    Ok(Box::pin(ReceiverStream::new(steps)))
}

fn check(change: &Change) -> Result<(), Status> {
    let named = |field: &str, text: &str| match text.is_empty() {
        true => Err(Status::invalid_argument(format!("{field}: is missing"))),
        false => Ok(()),
    };
    match change {
        Change::Add(request) => named("peer_address", &request.peer_address),
        Change::Remove(v1::RemoveManagerRequest { manager })
        | Change::Promote(v1::PromoteManagerRequest { manager })
        | Change::Demote(v1::DemoteManagerRequest { manager }) => named("manager", manager),
        Change::SetAddress(request) => named("peer_address", &request.peer_address),
    }
}

async fn carry_out(core: Arc<Core>, change: Change, told: Told) {
    let last = match begin(&core, change.clone(), &told).await {
        Ok(changed) => Ok(done(&core, changed)),
        Err(MembershipError::Leads(_)) => match hand_over(&core, change, &told).await {
            Ok(()) => return,
            Err(status) => Err(status),
        },
        Err(error) => Err(super::wire::with_position(&core, status(&error))),
    };
    // Nobody listens any more, which changes nothing.
    let _ = told.send(last).await;
}

async fn begin(core: &Core, change: Change, told: &Told) -> Result<Changed, MembershipError> {
    let tell = |step: Step| {
        if let Step::Did(text) = &step {
            tracing::info!("{text}");
        }
        !matches!(told.try_send(Ok(progress(core, step))), Err(mpsc::error::TrySendError::Closed(_)))
    };
    match change {
        Change::Add(request) => {
            let replaces = Some(request.replaces.as_str()).filter(|name| !name.is_empty());
            core.node.add_manager(request.peer_address, replaces, &tell).await
        }
        Change::Remove(request) => core.node.remove_manager(&request.manager, &tell).await,
        Change::Promote(request) => core.node.promote_manager(&request.manager, &tell).await,
        Change::Demote(request) => core.node.demote_manager(&request.manager, &tell).await,
        Change::SetAddress(request) => core.node.set_manager_address(request.id, request.peer_address, &tell).await,
    }
}

/// The leader is the one to go: it hands over, and its successor carries the change out.
async fn hand_over(core: &Core, change: Change, told: &Told) -> Result<(), Status> {
    let to = core.node.transfer(None).await.map_err(|error| super::wire::transfer_error(&error))?;
    let handed = progress(core, Step::Did(format!("manager {to} leads now")));
    let _ = told.send(Ok(handed)).await;
    let managers = core.node.leadership().borrow().managers.clone();
    let address = managers.into_iter().find(|member| member.id == to).map(|member| member.client_address);
    let channel = core.leader.channel(&address.unwrap_or_default())?;
    let mut client = v1::control_client::ControlClient::new(channel);
    let answer = match change {
        Change::Add(request) => client.add_manager(mark_forwarded(tonic::Request::new(request))).await,
        Change::Remove(request) => client.remove_manager(mark_forwarded(tonic::Request::new(request))).await,
        Change::Promote(request) => client.promote_manager(mark_forwarded(tonic::Request::new(request))).await,
        Change::Demote(request) => client.demote_manager(mark_forwarded(tonic::Request::new(request))).await,
        Change::SetAddress(request) => client.set_manager_address(mark_forwarded(tonic::Request::new(request))).await,
    };
    let mut steps = answer?.into_inner();
    while let Some(step) = steps.next().await {
        if told.send(step).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn progress(core: &Core, step: Step) -> v1::MembershipProgress {
    let (_, applied) = core.node.snapshot_state();
    let position = Some(core.position(applied));
    match step {
        Step::Did(step) => v1::MembershipProgress { position, step, ..Default::default() },
        Step::CatchingUp(entries, entries_total) => v1::MembershipProgress {
            position,
            step: "the new manager catches up".into(),
            entries,
            entries_total,
            ..Default::default()
        },
    }
}

fn done(core: &Core, changed: Changed) -> v1::MembershipProgress {
    let (_, applied) = core.node.snapshot_state();
    let voter = changed.member.as_ref().is_some_and(|(_, _, voter)| *voter);
    let member = changed.member.map(|(id, node, _)| v1::ManagerMember {
        id,
        peer_address: node.peer_address,
        client_address: node.client_address,
    });
    v1::MembershipProgress {
        position: Some(core.position(applied)),
        done: true,
        warnings: changed.warnings,
        member,
        voter,
        ..Default::default()
    }
}

pub(super) fn status(error: &MembershipError) -> Status {
    let text = error.to_string();
    match error {
        MembershipError::NotLeader | MembershipError::Leads(_) | MembershipError::Unsure(_) => {
            Status::unavailable(text)
        }
        MembershipError::NoSuchManager(_) => Status::not_found(text),
        MembershipError::Refused(_) => Status::failed_precondition(text),
        MembershipError::TwoOfOne(_) => Status::already_exists(text),
    }
}
