//! The operator: forms the cluster, hands leadership over, adds managers and removes them.

use std::{sync::Arc, time::Duration};

use minder_proto::v1;
use minder_sim::Chance;
use tonic::{Code, Response, Status, Streaming};

use crate::shared::{Control, Shared};

const PATIENCE: Duration = Duration::from_secs(3);
const CHANGE_PATIENCE: Duration = Duration::from_secs(6);
/// Places of managers and whether each votes.
type Members = Vec<(usize, bool)>;

const AGAIN: Duration = Duration::from_millis(200);

/// What the operator does beside forming the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Duties {
    /// Managers of the cluster at its begin.
    pub managers: usize,
    /// Managers come and go.
    pub membership: bool,
    /// Leadership is handed over.
    pub transfers: bool,
    /// From one of it to the next, about, in milliseconds.
    pub every_ms: u64,
}

/// Operates for as long as the simulation lasts.
pub async fn operate(shared: Arc<Shared>, duties: Duties, mut chance: Chance) -> turmoil::Result {
    form(&shared, duties.managers).await?;
    let mut unfinished = None;
    loop {
        let pause = chance.of(duties.every_ms / 2..duties.every_ms * 3 / 2);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let owes_transfer = duties.transfers && shared.transfers() == 0;
        let owes_change = duties.membership && shared.changes() == 0;
        // What did not work while things went wrong is made up for.
        if shared.changes_are_over() && !owes_transfer && !owes_change && unfinished.is_none() {
            shared.operator_rests();
            continue;
        }
        let transfers = match shared.changes_are_over() {
            true => owes_transfer,
            false => duties.transfers && (!duties.membership || chance.percent(50)),
        };
        match transfers {
            true => transfer(&shared, &mut chance).await?,
            false if duties.membership => change(&shared, &duties, &mut chance, &mut unfinished).await?,
            false => {}
        }
    }
}

async fn form(shared: &Shared, managers: usize) -> turmoil::Result {
    let peer_addresses: Vec<String> = shared.places[..managers].iter().map(|place| place.peer_address()).collect();
    let mut control = shared.control(0)?;
    loop {
        let asked = control.init(v1::InitRequest { peer_addresses: peer_addresses.clone() });
        if tokio::time::timeout(PATIENCE, asked).await.is_ok_and(|formed| formed.is_ok()) {
            shared.formed();
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One after the other is asked until somebody belongs to the cluster.
async fn transfer(shared: &Shared, chance: &mut Chance) -> turmoil::Result {
    let first = chance.below(shared.places.len());
    for at in first..first + shared.places.len() {
        let mut control = shared.control(at)?;
        let asked = control.transfer_leader(v1::TransferLeaderRequest { to: 0 });
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => {
                shared.transferred();
                return Ok(());
            }
            Ok(Err(status)) if status.code() == Code::Unavailable => {}
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// One change, by what the cluster says there is. A manager whose coming was cut off is told to come again, as whoever is
/// left with half of it would do; nothing else is said twice.
async fn change(
    shared: &Shared,
    duties: &Duties,
    chance: &mut Chance,
    unfinished: &mut Option<v1::AddManagerRequest>,
) -> turmoil::Result {
    let first = chance.below(shared.places.len());
    let Some((mut control, members)) = members(shared, first).await? else { return Ok(()) };
    if let Some(request) = unfinished.clone() {
        tracing::info!(?request, "the operator adds a manager once more");
        if carried_out(shared, control.add_manager(request)).await != Said::Again {
            *unfinished = None;
        }
        return Ok(());
    }
    let (voters, learners): (Members, Members) = members.iter().partition(|(_, voter)| *voter);
    let outside: Vec<usize> =
        (0..shared.places.len()).filter(|at| !members.iter().any(|(member, _)| member == at)).collect();
    let name = |at: usize| shared.places[at].peer_address();
    if members.len() <= duties.managers && !outside.is_empty() && chance.percent(70) {
        let at = *chance.pick(&outside);
        let replaces = if chance.percent(25) { name(chance.pick(&members).0) } else { String::new() };
        if let Some((old, _)) = members.iter().find(|(member, _)| name(*member) == replaces) {
            shared.remove(*old);
        }
        let request = v1::AddManagerRequest { peer_address: name(at), replaces };
        tracing::info!(?request, "the operator adds a manager");
        if carried_out(shared, control.add_manager(request.clone())).await == Said::Again {
            *unfinished = Some(request);
        }
        return Ok(());
    }
    if !learners.is_empty() && chance.percent(50) {
        let manager = name(chance.pick(&learners).0);
        carried_out(shared, control.promote_manager(v1::PromoteManagerRequest { manager })).await;
        return Ok(());
    }
    let at = chance.pick(&voters).0;
    let manager = name(at);
    if chance.percent(30) {
        tracing::info!(manager, "the operator demotes a manager");
        carried_out(shared, control.demote_manager(v1::DemoteManagerRequest { manager })).await;
        return Ok(());
    }
    if members.len() >= duties.managers {
        shared.remove(at);
        tracing::info!(manager, "the operator removes a manager");
        carried_out(shared, control.remove_manager(v1::RemoveManagerRequest { manager })).await;
    }
    Ok(())
}

/// The manager that says it leads, and the members as it has them: what others know may be old.
async fn members(shared: &Shared, first: usize) -> Result<Option<(Control, Members)>, tonic::transport::Error> {
    for at in (first..first + shared.places.len()).map(|at| at % shared.places.len()) {
        let mut control = shared.control(at)?;
        let asked = control.get_managers(v1::GetManagersRequest { local: false });
        let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, asked).await else { continue };
        let place = |status: &v1::ManagerStatus| {
            let address = &status.member.as_ref()?.peer_address;
            shared.places.iter().position(|place| place.peer_address() == *address)
        };
        let managers = reply.into_inner().managers;
        let members: Members = managers.iter().filter_map(|status| Some((place(status)?, status.voter))).collect();
        let leads = |status: &v1::ManagerStatus| status.role == "leader" && place(status) == Some(at);
        if managers.iter().any(leads) {
            return Ok(Some((control, members)));
        }
    }
    Ok(None)
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It is done, or refused for good.
    Once,
    /// It was cut off.
    Again,
}

async fn carried_out(
    shared: &Shared,
    begun: impl Future<Output = Result<Response<Streaming<v1::MembershipProgress>>, Status>>,
) -> Said {
    let done = async {
        let mut steps = begun.await?.into_inner();
        while let Some(step) = steps.message().await? {
            if step.done {
                return Ok(true);
            }
        }
        Ok::<_, Status>(false)
    };
    match tokio::time::timeout(CHANGE_PATIENCE, done).await {
        Ok(Ok(true)) => {
            tracing::info!("the change of managers is done");
            shared.changed();
            Said::Once
        }
        Ok(Err(status)) => {
            tracing::info!(why = status.message(), "no change of managers");
            // What tonic says of a connection that ended in the middle of an answer has the latter two.
            match status.code() {
                Code::Unavailable | Code::Unknown | Code::Internal => Said::Again,
                _ => Said::Once,
            }
        }
        Ok(Ok(false)) | Err(_) => {
            tracing::info!("whether managers were changed is not known");
            Said::Again
        }
    }
}
