//! Harm on purpose: a leader or a slave that is killed, a manager that is cut off. Each manager and slave answers for
//! itself, and does nothing of the kind unless its settings allow it.

use std::time::Duration;

use minder_model::DRILL_MS_MAX;
use minder_proto::{
    isolation,
    v1::{self, DrillKind},
    vanish,
};
use tonic::{Request, Status};

use super::hosts;
use crate::{
    core::Core,
    forward::{is_forwarded, leader_elsewhere, mark_forwarded, no_leader},
    raft::Member,
};

/// The answer has left by then: what is done next ends the connection it goes through.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The manager that it is done to answers within this, or does not live.
const PASSED_ON_DEADLINE: Duration = Duration::from_secs(2);

pub async fn drill(core: &Core, request: Request<v1::DrillRequest>) -> Result<v1::DrillReply, Status> {
    let forwarded = is_forwarded(&request);
    let request = request.into_inner();
    if request.duration_ms > DRILL_MS_MAX {
        let ms = request.duration_ms;
        return Err(Status::invalid_argument(format!("duration_ms: {ms} is above the limit of {DRILL_MS_MAX}")));
    }
    let own = own(core).ok_or_else(|| no_leader(core))?;
    let target = match request.kind() {
        DrillKind::Unspecified => return Err(Status::invalid_argument("kind: is missing")),
        DrillKind::SlaveKill => leader(core, forwarded).await?,
        DrillKind::LeaderKill | DrillKind::Partition if request.manager.is_empty() => leader(core, forwarded).await?,
        DrillKind::LeaderKill | DrillKind::Partition => find(core, &request.manager)?,
    };
    if target.id == own.id {
        return begin(core, &own, &request).await;
    }
    if forwarded {
        return Err(Status::unavailable(
            "the manager this was passed on to is not the one that is meant; nothing was changed",
        ));
    }
    let mut control = v1::control_client::ControlClient::new(core.leader.channel(&target.client_address)?);
    let mut passed_on = mark_forwarded(Request::new(v1::DrillRequest { manager: target.id.to_string(), ..request }));
    passed_on.set_timeout(PASSED_ON_DEADLINE);
    Ok(control.drill(passed_on).await?.into_inner())
}

/// This manager, once it is one of a cluster's.
fn own(core: &Core) -> Option<Member> {
    let id = core.node.identity()?.manager.0;
    core.node.leadership().borrow().managers.iter().find(|member| member.id == id).cloned()
}

async fn leader(core: &Core, forwarded: bool) -> Result<Member, Status> {
    leader_elsewhere(core, forwarded).await?;
    let leadership = core.node.leadership();
    let now = leadership.borrow();
    let leads = |member: &&Member| now.leader.as_ref().is_some_and(|leader| leader.id == member.id);
    now.managers.iter().find(leads).cloned().ok_or_else(|| no_leader(core))
}

/// The one manager that this names.
fn find(core: &Core, name: &str) -> Result<Member, Status> {
    let managers = core.node.leadership().borrow().managers.clone();
    let named: Vec<&Member> = managers.iter().filter(|member| is_named(member, name)).collect();
    match named.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let known: Vec<String> =
                managers.iter().map(|member| format!("{} ({})", member.id, member.client_address)).collect();
            Err(Status::not_found(format!("there is no manager {name} in this cluster, only {}", known.join(", "))))
        }
        [_, _, ..] => {
            Err(Status::invalid_argument(format!("manager: {name} names several managers; give the node id")))
        }
    }
}

fn is_named(member: &Member, name: &str) -> bool {
    let is_at = |address: &str| address == name || address.rsplit_once(':').is_some_and(|(host, _)| host == name);
    member.id.to_string() == name || is_at(&member.client_address) || is_at(&member.peer_address)
}

/// Does it, or says that it would be done.
async fn begin(core: &Core, own: &Member, request: &v1::DrillRequest) -> Result<v1::DrillReply, Status> {
    let (id, address) = (own.id, &own.client_address);
    if !core.drills {
        return Err(Status::failed_precondition(format!(
            "manager {id} ({address}) allows no drills: set `drills = true` in its configuration, or start it with \
             --allow-drills"
        )));
    }
    let lasts = Duration::from_millis(request.duration_ms);
    let reply = v1::DrillReply { manager_id: id, manager_address: address.clone(), ..Default::default() };
    match request.kind() {
        DrillKind::LeaderKill => {
            if !core.node.leadership().borrow().leading {
                return Err(Status::failed_precondition(format!("manager {id} ({address}) does not lead")));
            }
            if !request.check_only {
                tracing::warn!(away = ?lasts, "a drill: this manager ends now as by kill -9 and comes back");
                after_the_answer(move || vanish::vanish(lasts));
            }
        }
        DrillKind::Partition => {
            if let Some(left) = isolation::own().left() {
                return Err(Status::failed_precondition(format!(
                    "manager {id} ({address}) is cut off by another drill, for {left:.1?} still"
                )));
            }
            if !request.check_only {
                tracing::warn!(?lasts, "a drill: this manager is cut off from the others");
                after_the_answer(move || isolate(lasts));
            }
        }
        DrillKind::SlaveKill => return kill_slave(core, request, reply).await,
        DrillKind::Unspecified => return Err(Status::invalid_argument("kind: is missing")),
    }
    Ok(reply)
}

fn after_the_answer(act: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(LAST_WORDS).await;
        act();
    });
}

fn isolate(lasts: Duration) {
    if !isolation::own().begin(lasts) {
        return;
    }
    tokio::spawn(async {
        isolation::own().over().await;
        tracing::warn!("the drill is over: this manager reaches the others again");
    });
}

/// The leader tells the slave, which looks at its own settings once more.
async fn kill_slave(core: &Core, request: &v1::DrillRequest, reply: v1::DrillReply) -> Result<v1::DrillReply, Status> {
    let (state, _) = core.node.snapshot_state();
    let host = hosts::find(&state, request.host.clone())?;
    let session = core.fleet.session(&host).ok_or_else(|| {
        Status::failed_precondition(format!("host {host} has no session with the leader, so its slave cannot be told"))
    })?;
    if !session.drills {
        return Err(Status::failed_precondition(format!(
            "the slave of host {host} allows no drills: set `drills = true` in its configuration, or start it with \
             --allow-drills"
        )));
    }
    if !request.check_only {
        let kill = v1::KillDrill { away_ms: request.duration_ms };
        let order = Box::new(v1::ToSlave { message: Some(v1::to_slave::Message::Kill(kill)) });
        session.orders.try_send(order).map_err(|_| {
            Status::unavailable(format!("the session of host {host} takes no orders now; nothing was changed"))
        })?;
        core.host_event(&host, "its slave is killed for a drill");
    }
    Ok(v1::DrillReply { host: host.to_string(), ..reply })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_named_by_id_address_or_machine() {
        let member =
            Member { id: 12, peer_address: "m1:7702".into(), client_address: "10.0.0.1:7701".into(), voter: true };
        for (name, expected) in [
            ("12", true),
            ("m1:7702", true),
            ("m1", true),
            ("10.0.0.1", true),
            ("10.0.0.1:7701", true),
            ("1", false),
            ("m1:7701", false),
            ("", false),
        ] {
            assert_eq!(is_named(&member, name), expected, "{name}");
        }
    }
}
