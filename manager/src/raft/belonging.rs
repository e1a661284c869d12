//! Whether this manager still belongs to its cluster, and is known where it runs.
//!
//! A manager that has been removed is told by nobody: its leader does not know it any more. So one that hears no leader
//! asks. A manager that has moved tells where it runs, for nobody could find it.

use std::time::{Duration, Instant};

use minder_proto::v1::{self, control_client::ControlClient, peer_client::PeerClient};
use minder_raft_store::ExitReason;
use tonic::Code;

use super::{error::Fatal, init::describe, leadership::Member, node::Node};

/// Longer than an election: a manager without a leader for so long may be the reason itself.
const SILENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at its own address: a manager that is known by another name asks itself each time.
const TELL_INTERVAL: Duration = Duration::from_secs(3);
/// One manager answers within this or the next one is asked.
const ASK_DEADLINE: Duration = Duration::from_secs(1);
/// Asks the manager where this one runs now, and commits the change.
const MOVE_DEADLINE: Duration = Duration::from_secs(5);

/// Looks for as long as the node lives.
pub(super) async fn look_after(node: Node) {
    let mut tell_at = Instant::now();
    loop {
        if Instant::now() >= tell_at && node.is_known() {
            tell_at = Instant::now() + TELL_INTERVAL;
            if let Some(address) = node.moved_to().await {
                node.tell_where(&address).await;
            }
        }
        if node.heard_nothing_for(SILENCE) {
            node.ask_whether_removed().await;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl Node {
    fn own_id(&self) -> u64 {
        self.identity().map_or(0, |identity| identity.manager.0)
    }

    /// The other managers, the leader first, if one is known.
    pub fn others(&self) -> Vec<Member> {
        let own = self.own_id();
        let leadership = self.leadership();
        let now = leadership.borrow();
        let leads = |member: &Member| now.leader.as_ref().is_some_and(|leader| leader.id == member.id);
        let mut others: Vec<Member> = now.managers.iter().filter(|member| member.id != own).cloned().collect();
        others.sort_by_key(|member| !leads(member));
        others
    }

    fn is_known(&self) -> bool {
        let own = self.own_id();
        self.leadership().borrow().managers.iter().any(|member| member.id == own)
    }

    /// The peer address at which the cluster does not know this manager, but should. A manager may be known by another
    /// name than it has for itself, so it looks whether that name leads to it.
    async fn moved_to(&self) -> Option<String> {
        let (own, addresses) = (self.own_id(), self.addresses());
        let known = self.leadership().borrow().managers.iter().find(|member| member.id == own).cloned()?;
        if known.peer_address == addresses.peer && known.client_address == addresses.client {
            return None;
        }
        let there = describe(known.peer_address.clone()).await.ok().map(|peer| peer.description);
        match there.filter(|there| there.node_id == own) {
            Some(there) if there.instance == self.inner.instance => {
                (known.client_address != addresses.client).then_some(known.peer_address)
            }
            Some(_) => {
                self.fail(Fatal {
                    exit_code: ExitReason::Duplicate.code(),
                    message: format!(
                        "manager {own} runs at {} already: two processes run with copies of one data folder. Stop the one \
                         that is wrong and remove its folder",
                        known.peer_address
                    ),
                });
                None
            }
            None => Some(addresses.peer.clone()),
        }
    }

    /// Says at one manager after the other where this one runs. A leader asks back before it believes it.
    async fn tell_where(&self, peer_address: &str) {
        let request = v1::SetManagerAddressRequest { id: self.own_id(), peer_address: peer_address.to_owned() };
        let others = self.others().into_iter().map(|member| member.client_address);
        for address in others.chain([self.addresses().client.clone()]) {
            let told = tokio::time::timeout(MOVE_DEADLINE, set_address(&address, request.clone())).await;
            match told {
                Ok(Ok(())) => {
                    tracing::info!(addresses = ?self.addresses(), "the cluster knows where this manager runs now");
                    return;
                }
                Ok(Err(status)) if status.code() == Code::AlreadyExists => {
                    return self
                        .fail(Fatal { exit_code: ExitReason::Duplicate.code(), message: status.message().to_owned() });
                }
                Ok(Err(status)) => tracing::warn!(
                    asked = address,
                    why = status.message(),
                    "the cluster does not know yet where this manager runs now"
                ),
                Err(_) => tracing::warn!(asked = address, "no answer to where this manager runs now"),
            }
        }
    }

    /// Ends this process when a committed change that is later than any known here has left this manager out. Ids are
    /// never used again, so there is no way back in.
    async fn ask_whether_removed(&self) {
        let Some((known, own)) = self.membership_index().zip(self.identity()) else { return };
        for other in self.others() {
            let asked = tokio::time::timeout(ASK_DEADLINE, membership(&other.peer_address)).await;
            let Ok(Ok(reply)) = asked else { continue };
            let later = reply.cluster_id == own.cluster.as_str() && reply.index > known;
            if later && !reply.managers.contains(&own.manager.0) {
                return self.fail(Fatal {
                    exit_code: ExitReason::Removed.code(),
                    message: format!(
                        "manager {} has been removed from cluster {} (manager {} says so, log index {}); it votes and \
                         serves no more. To let this machine in again, empty the data folder, start it, and add it",
                        own.manager, own.cluster, other.id, reply.index
                    ),
                });
            }
        }
    }

    /// Log index of the latest change of managers known here, committed or not.
    fn membership_index(&self) -> Option<u64> {
        self.metrics()?.membership_config.log_id().as_ref().map(|log_id| log_id.index)
    }

    pub(super) fn committed_membership(&self) -> v1::GetMembershipReply {
        let Some((metrics, own)) = self.metrics().zip(self.identity()) else {
            return v1::GetMembershipReply::default();
        };
        let committed = &metrics.committed_membership_config;
        v1::GetMembershipReply {
            cluster_id: own.cluster.to_string(),
            index: committed.log_id().as_ref().map_or(0, |log_id| log_id.index),
            managers: committed.membership().nodes().map(|(id, _)| *id).collect(),
            term: metrics.current_term,
            leads: self.leadership().borrow().leading,
        }
    }
}

/// Asks a manager who takes part, and whether it leads.
pub(super) async fn membership(peer_address: &str) -> Result<v1::GetMembershipReply, tonic::Status> {
    let channel = dial(peer_address)?;
    Ok(PeerClient::new(channel).get_membership(v1::GetMembershipRequest {}).await?.into_inner())
}

async fn set_address(client_address: &str, request: v1::SetManagerAddressRequest) -> Result<(), tonic::Status> {
    let channel = dial(client_address)?;
    let mut steps = ControlClient::new(channel).set_manager_address(request).await?.into_inner();
    while let Some(step) = steps.message().await? {
        if step.done {
            return Ok(());
        }
    }
    Err(tonic::Status::unavailable("the answer ended in the middle"))
}

fn dial(address: &str) -> Result<tonic::transport::Channel, tonic::Status> {
    let endpoint = minder_proto::dial::endpoint(address)
        .map_err(|error| tonic::Status::internal(format!("{address:?} is no address: {error}")))?;
    Ok(minder_proto::dial::lazy(&endpoint))
}
