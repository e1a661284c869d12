//! The gate of new commands, as callers meet it: what is refused and why, and the step that ends an upgrade.

use minder_model::CommandVersion;
use minder_proto::v1;
use tonic::Status;

use super::wire;
use crate::{
    core::Core,
    raft::{Knows, RaiseError, in_the_way},
};

/// Refuses what needs a later version than the cluster is at, naming the managers that are too old for it.
pub async fn gate(core: &Core, needed: CommandVersion) -> Result<(), Status> {
    let version = core.node.version();
    if needed <= version {
        return Ok(());
    }
    let why = match in_the_way(&core.node.known_versions().await, needed) {
        old if old.is_empty() => String::from(
            "every manager knows them: say `minderctl manager upgrade --finalize` once there is no going back to the \
             programs of before",
        ),
        old => format!("{old}; upgrade what is too old, then say `minderctl manager upgrade --finalize`"),
    };
    Err(Status::failed_precondition(format!(
        "this needs commands of version {needed} and the cluster takes those up to {version}: {why}"
    )))
}

pub async fn upgrade(core: &Core, request: v1::UpgradeManagersRequest) -> Result<v1::UpgradeManagersReply, Status> {
    let version = match request.finalize {
        true => core.node.raise_version(request.actor).await.map_err(|error| refused(core, &error))?,
        false => core.node.version(),
    };
    let managers = core.node.known_versions().await.into_iter().map(to_wire).collect();
    let position = Some(core.position(core.node.applied()));
    Ok(v1::UpgradeManagersReply { position, version: version.to_wire(), managers })
}

fn refused(core: &Core, error: &RaiseError) -> Status {
    match error {
        RaiseError::Membership(error) => super::membership::status(error),
        RaiseError::InTheWay(_) => {
            Status::failed_precondition(format!("the upgrade is not finished: {error}; nothing was changed"))
        }
        RaiseError::Propose(error) => wire::propose_error(core, error),
    }
}

fn to_wire(knows: Knows) -> v1::ManagerVersion {
    let Knows { member, version } = knows;
    v1::ManagerVersion {
        member: Some(v1::ManagerMember {
            id: member.id,
            peer_address: member.peer_address,
            client_address: member.client_address,
        }),
        command_version: version.map_or(0, CommandVersion::to_wire),
    }
}
