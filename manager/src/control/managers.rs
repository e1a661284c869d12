//! The managers themselves: how each stands, and who leads.

use std::time::Duration;

use futures::future::join_all;
use minder_proto::v1;
use tonic::Status;

use super::wire;
use crate::{core::Core, raft::Member};

/// A manager that does not answer within this is shown as unreachable; a person is waiting.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

pub async fn get(core: &Core, request: v1::GetManagersRequest) -> Result<v1::GetManagersReply, Status> {
    let members = core.node.leadership().borrow().managers.clone();
    let own = core.node.identity().map_or(0, |identity| identity.manager.0);
    let others = members.iter().filter(|member| !request.local && member.id != own);
    let mut managers = vec![own_status(core)];
    managers.extend(join_all(others.map(|member| ask(core, member))).await);
    managers.sort_by_key(|manager| manager.member.as_ref().map_or(0, |member| member.id));
    let last = managers.iter().map(|manager| manager.last_log_index).max().unwrap_or_default();
    for manager in managers.iter_mut().filter(|manager| manager.role != "unreachable") {
        manager.lag = last.saturating_sub(manager.last_log_index);
    }
    let applied = core.node.applied();
    let cluster_id = core.cluster_id().map(|id| id.to_string()).unwrap_or_default();
    Ok(v1::GetManagersReply { position: Some(core.position(applied)), cluster_id, managers })
}

pub async fn transfer(core: &Core, request: v1::TransferLeaderRequest) -> Result<v1::TransferLeaderReply, Status> {
    let to = (request.to > 0).then_some(request.to);
    let leader_id = core.node.transfer(to).await.map_err(|error| wire::transfer_error(&error))?;
    let applied = core.node.applied();
    Ok(v1::TransferLeaderReply { position: Some(core.position(applied)), leader_id })
}

fn own_status(core: &Core) -> v1::ManagerStatus {
    v1::ManagerStatus {
        sessions: core.fleet.session_count() as u32,
        version: env!("CARGO_PKG_VERSION").into(),
        ..core.node.status()
    }
}

async fn ask(core: &Core, member: &Member) -> v1::ManagerStatus {
    let asked = async {
        let channel = core.leader.channel(&member.client_address)?;
        let request = v1::GetManagersRequest { local: true };
        v1::control_client::ControlClient::new(channel).get_managers(request).await
    };
    let answer = tokio::time::timeout(ASK_DEADLINE, asked).await;
    let status = answer.ok().and_then(Result::ok).and_then(|reply| reply.into_inner().managers.into_iter().next());
    status.unwrap_or_else(|| v1::ManagerStatus {
        member: Some(v1::ManagerMember {
            id: member.id,
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
        }),
        role: "unreachable".into(),
        voter: member.voter,
        ..Default::default()
    })
}
