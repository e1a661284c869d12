//! The managers themselves: how each stands, and who leads.

use std::time::{Duration, Instant};

use futures::future::join_all;
use minder_proto::v1;
use tonic::Status;

use super::wire;
use crate::{clock::wall_ms, core::Core, raft::Member};

/// A manager that does not answer within this is shown as unreachable; a person is waiting.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

pub async fn get(core: &Core, request: v1::GetManagersRequest) -> Result<v1::GetManagersReply, Status> {
    let others = if request.local { Vec::new() } else { core.node.others() };
    let mut managers = vec![own_status(core)];
    managers.extend(join_all(others.iter().map(|member| ask(core, member))).await);
    managers.sort_by_key(|manager| manager.member.as_ref().map_or(0, |member| member.id));
    let last = managers.iter().map(|manager| manager.last_log_index).max().unwrap_or_default();
    for manager in managers.iter_mut().filter(|manager| manager.role != "unreachable") {
        manager.lag = last.saturating_sub(manager.last_log_index);
    }
    relate_clocks(&mut managers);
    let applied = core.node.applied();
    let cluster_id = core.cluster_id().map(|id| id.to_string()).unwrap_or_default();
    let cluster_version = core.node.version().to_wire();
    Ok(v1::GetManagersReply { position: Some(core.position(applied)), cluster_id, managers, cluster_version })
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
        disk_floor_bytes: core.room.floor_bytes(),
        wall_ms: wall_ms(),
        clock_offset_ms: Some(0),
        ..core.node.status()
    }
}

async fn ask(core: &Core, member: &Member) -> v1::ManagerStatus {
    let asked = async {
        let channel = core.leader.channel(&member.client_address)?;
        let request = v1::GetManagersRequest { local: true };
        v1::control_client::ControlClient::new(channel).get_managers(request).await
    };
    let (began, before_ms) = (Instant::now(), wall_ms());
    let answer = tokio::time::timeout(ASK_DEADLINE, asked).await;
    let took = began.elapsed();
    let status = answer.ok().and_then(Result::ok).and_then(|reply| reply.into_inner().managers.into_iter().next());
    let status = status.map(|status| v1::ManagerStatus {
        clock_offset_ms: Some(offset_ms(status.wall_ms, before_ms, took)),
        answered_in_us: Some(took.as_micros() as u64),
        ..status
    });
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

/// How far the clock that said `theirs_ms` was ahead of this one, if it said so half-way through the call.
fn offset_ms(theirs_ms: u64, before_ms: u64, took: Duration) -> i64 {
    theirs_ms as i64 - (before_ms as i64 + took.as_millis() as i64 / 2)
}

/// Makes offsets from this manager's clock into offsets from the leader's, if one of them leads.
fn relate_clocks(managers: &mut [v1::ManagerStatus]) {
    let leader = managers.iter().find(|manager| manager.role == "leader");
    let Some(base) = leader.and_then(|leader| leader.clock_offset_ms) else { return };
    for offset in managers.iter_mut().filter_map(|manager| manager.clock_offset_ms.as_mut()) {
        *offset -= base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_the_leaders() {
        assert_eq!(offset_ms(10_500, 10_000, Duration::from_millis(200)), 400);
        assert_eq!(offset_ms(9_000, 10_000, Duration::from_millis(1)), -1_000);
        let manager = |role: &str, clock_offset_ms| v1::ManagerStatus {
            role: role.into(),
            clock_offset_ms,
            ..Default::default()
        };
        let offsets =
            |managers: &[v1::ManagerStatus]| managers.iter().map(|one| one.clock_offset_ms).collect::<Vec<_>>();
        let mut all = [manager("follower", Some(0)), manager("leader", Some(30)), manager("unreachable", None)];
        relate_clocks(&mut all);
        assert_eq!(offsets(&all), [Some(-30), Some(0), None]);
        let mut nobody_leads = [manager("candidate", Some(0)), manager("follower", Some(7))];
        relate_clocks(&mut nobody_leads);
        assert_eq!(offsets(&nobody_leads), [Some(0), Some(7)]);
    }
}
