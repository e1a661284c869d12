//! The birth of a cluster: one explicit `init` at one manager. It asks every peer who it is, refuses any that belongs
//! to a cluster already, gives each an id, and begins. Died half-way, it is simply said again.

use std::{collections::BTreeMap, time::Duration};

use minder_model::{ClusterId, ManagerId};
use minder_proto::v1::{self, peer_client::PeerClient};
use minder_raft_store::{Identity, ManagerNode};
use tonic::transport::Channel;

use super::node::Node;

/// One peer answers within this or init says which one does not.
const PEER_DEADLINE: Duration = Duration::from_secs(3);
/// The first election and the first write take well under a second.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no new cluster.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The request itself is wrong.
    #[error("peer_addresses: {0}")]
    Usage(String),
    /// Somebody belongs to a cluster.
    #[error("{0}")]
    Exists(String),
    /// It did not work out; saying it again goes on where it stood.
    #[error("{0}; nothing is lost, say init again")]
    Failed(String),
}

/// A manager that was asked who it is.
pub(super) struct Peer {
    /// Its peer address, as it was asked.
    pub(super) address: String,
    client: PeerClient<Channel>,
    /// What it says of itself.
    pub(super) description: v1::DescribeReply,
}

impl Node {
    /// Forms a cluster of the managers at these peer addresses, this one among them.
    pub async fn init(&self, peer_addresses: Vec<String>) -> Result<v1::InitReply, InitError> {
        let _one_at_a_time = self
            .inner
            .initialising
            .try_lock()
            .map_err(|_| InitError::Failed("another init is under way at this manager".into()))?;
        self.check_addresses(&peer_addresses)?;
        let mut peers = Vec::new();
        for address in peer_addresses {
            peers.push(ask(address).await?);
        }
        self.check_begun(&peers)?;
        self.check_rebuilt(&peers)?;
        let rebuilt = self.rebuilt_cluster();
        let (cluster, ids) = identities(&peers, rebuilt.as_ref())?;
        let mut members = BTreeMap::new();
        let mut own_id = 0;
        for (peer, id) in peers.iter_mut().zip(ids) {
            if rebuilt.is_some() && peer.address == self.addresses().peer {
                own_id = id;
            } else {
                adopt(peer, &cluster, id).await?;
            }
            members.insert(
                id,
                ManagerNode {
                    peer_address: peer.address.clone(),
                    client_address: peer.description.client_address.clone(),
                },
            );
        }
        if rebuilt.is_some() {
            let identity = Identity { cluster: cluster.clone(), manager: ManagerId(own_id) };
            let begun = self.begin_rebuilt(identity, &members).await;
            begun.map_err(|error| InitError::Failed(format!("the rebuilt cluster does not begin: {error:#}")))?;
        }
        self.begin(&members).await?;
        let managers = members.iter().map(|(id, node)| v1::ManagerMember {
            id: *id,
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
        });
        Ok(v1::InitReply { cluster_id: cluster.to_string(), managers: managers.collect() })
    }

    fn check_addresses(&self, addresses: &[String]) -> Result<(), InitError> {
        if !matches!(addresses.len(), 1 | 3 | 5) {
            let count = addresses.len();
            return Err(InitError::Usage(format!("names {count} managers; a cluster has 1, 3 or 5")));
        }
        if let Some(twice) = addresses.iter().enumerate().find(|(at, address)| addresses[..*at].contains(address)) {
            return Err(InitError::Usage(format!("names {} twice", twice.1)));
        }
        let own = &self.addresses().peer;
        if !addresses.contains(own) {
            return Err(InitError::Usage(format!("does not name this manager, {own}")));
        }
        Ok(())
    }

    /// Refuses when somebody takes part in a cluster that has begun. Only an init that was cut off after its own
    /// beginning may go on: then this manager takes part too, with exactly these peers, and has no first write yet.
    fn check_begun(&self, peers: &[Peer]) -> Result<(), InitError> {
        if let Some(cluster) = self.snapshot_state().0.cluster().filter(|_| !self.is_rebuilt()) {
            return Err(InitError::Exists(format!("this manager belongs to cluster {} already", cluster.id)));
        }
        let Some(begun) = peers.iter().find(|peer| peer.description.initialized) else { return Ok(()) };
        let members = self.leadership().borrow().managers.clone();
        let same = members.len() == peers.len()
            && peers.iter().all(|peer| members.iter().any(|member| member.peer_address == peer.address));
        if same {
            return Ok(());
        }
        Err(InitError::Exists(format!(
            "the manager at {} belongs to cluster {} already; to make it one of another cluster, stop it, empty its data \
             folder (`minder-manager reseed --data DIR` keeps what was in it aside) and start it again",
            begun.address, begun.description.cluster_id
        )))
    }

    /// Refuses when another manager than this one has a state to begin with.
    fn check_rebuilt(&self, peers: &[Peer]) -> Result<(), InitError> {
        let other = peers.iter().find(|peer| peer.description.rebuilt && peer.address != self.addresses().peer);
        let Some(other) = other else { return Ok(()) };
        Err(InitError::Exists(format!(
            "the manager at {} holds the state of a cluster that is to be rebuilt: say `init` there, or empty its data \
             folder",
            other.address
        )))
    }

    async fn begin(&self, members: &BTreeMap<u64, ManagerNode>) -> Result<(), InitError> {
        let raft = self.raft().ok_or_else(|| InitError::Failed("this manager was not adopted".into()))?;
        let begun = raft.is_initialized().await.map_err(|error| InitError::Failed(error.to_string()))?;
        if !begun {
            raft.initialize(members.clone()).await.map_err(|error| InitError::Failed(error.to_string()))?;
        }
        // The leader names the cluster in the table with its first write; every manager sees it.
        let named = async {
            while !self.is_named() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(BEGIN_DEADLINE, named)
            .await
            .map_err(|_| InitError::Failed(format!("no leader within {BEGIN_DEADLINE:?}")))
    }
}

/// The cluster's id and each peer's: new ones, or those that an interrupted init gave already. A rebuilt cluster has its
/// id already.
fn identities(peers: &[Peer], rebuilt: Option<&ClusterId>) -> Result<(ClusterId, Vec<u64>), InitError> {
    let described = || peers.iter().map(|peer| &peer.description);
    let begun = described().find(|known| !known.cluster_id.is_empty()).map(|known| known.cluster_id.clone());
    let begun = rebuilt.map(ToString::to_string).or(begun);
    let given: Vec<u64> = described().filter(|known| known.node_id > 0).map(|known| known.node_id).collect();
    let count = peers.len() as u64;
    for peer in peers {
        let known = &peer.description;
        let fits = begun.as_ref() == Some(&known.cluster_id)
            && (1..=count).contains(&known.node_id)
            && given.iter().filter(|id| **id == known.node_id).count() == 1;
        if !known.cluster_id.is_empty() && !fits {
            return Err(InitError::Exists(format!(
                "the manager at {} is manager {} of cluster {}, which never began; empty its data folder if it is not \
                 wanted there",
                peer.address, known.node_id, known.cluster_id
            )));
        }
    }
    let mut free = (1..=count).filter(|id| !given.contains(id));
    let ids = described().filter_map(|known| Some(known.node_id).filter(|id| *id > 0).or_else(|| free.next()));
    let ids = ids.collect();
    let id = begun.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    Ok((ClusterId::new(id).map_err(|error| InitError::Failed(error.to_string()))?, ids))
}

/// Asks the manager at this peer address who it is, and refuses one of another version.
async fn ask(address: String) -> Result<Peer, InitError> {
    let peer = describe(address).await?;
    let (own, other, address) = (env!("CARGO_PKG_VERSION"), &peer.description.version, &peer.address);
    if other != own {
        return Err(InitError::Usage(format!(
            "the manager at {address} is version {other}, this one is {own}; use one version"
        )));
    }
    Ok(peer)
}

/// Asks the manager at this peer address who it is.
pub(super) async fn describe(address: String) -> Result<Peer, InitError> {
    let unreachable =
        |problem: String| InitError::Failed(format!("the manager at {address} does not answer: {problem}"));
    let endpoint = minder_proto::dial::endpoint(&address)
        .map_err(|error| InitError::Usage(format!("{address:?} is no address: {error}")))?;
    let mut client = PeerClient::new(minder_proto::dial::lazy(&endpoint));
    let described = tokio::time::timeout(PEER_DEADLINE, client.describe(v1::DescribeRequest {})).await;
    let description = match described {
        Ok(Ok(description)) => description.into_inner(),
        Ok(Err(status)) => return Err(unreachable(status.message().into())),
        Err(_) => return Err(unreachable(format!("nothing within {PEER_DEADLINE:?}"))),
    };
    Ok(Peer { address, client, description })
}

/// Gives a manager its identity. Saying the same again is as good.
pub(super) async fn adopt(peer: &mut Peer, cluster: &ClusterId, id: u64) -> Result<(), InitError> {
    let identity = Identity { cluster: cluster.clone(), manager: ManagerId(id) };
    let request = v1::AdoptRequest { cluster_id: identity.cluster.to_string(), node_id: identity.manager.0 };
    let adopted = tokio::time::timeout(PEER_DEADLINE, peer.client.adopt(request)).await;
    let address = &peer.address;
    match adopted {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => {
            Err(InitError::Failed(format!("the manager at {address} was not adopted: {}", status.message())))
        }
        Err(_) => Err(InitError::Failed(format!("the manager at {address} was not adopted within {PEER_DEADLINE:?}"))),
    }
}
