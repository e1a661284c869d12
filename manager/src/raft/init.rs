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

struct Peer {
    address: String,
    client: PeerClient<Channel>,
    description: v1::DescribeReply,
}

impl Node {
    /// Forms a cluster of the managers at these peer addresses, this one among them.
    pub async fn init(&self, peer_addresses: Vec<String>) -> Result<v1::InitReply, InitError> {
        self.check_addresses(&peer_addresses)?;
        let mut peers = Vec::new();
        for address in peer_addresses {
            peers.push(ask(address).await?);
        }
        let cluster = self.cluster_for(&peers)?;
        let mut members = BTreeMap::new();
        for (peer, id) in peers.iter_mut().zip(1..) {
            adopt(peer, &cluster, id).await?;
            members.insert(
                id,
                ManagerNode {
                    peer_address: peer.address.clone(),
                    client_address: peer.description.client_address.clone(),
                },
            );
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

    /// A new cluster id, or the one that an interrupted init gave already.
    fn cluster_for(&self, peers: &[Peer]) -> Result<ClusterId, InitError> {
        let mut begun: Option<&str> = None;
        for (peer, id) in peers.iter().zip(1_u64..) {
            let known = &peer.description;
            let fits = known.node_id == id && begun.is_none_or(|begun| begun == known.cluster_id);
            match known.cluster_id.as_str() {
                "" => {}
                cluster if fits => begun = Some(cluster),
                cluster => {
                    return Err(InitError::Exists(format!(
                        "the manager at {} is manager {} of cluster {cluster} already",
                        peer.address, known.node_id
                    )));
                }
            }
        }
        if let Some(cluster) = self.snapshot_state().0.cluster() {
            return Err(InitError::Exists(format!("this manager belongs to cluster {} already", cluster.id)));
        }
        let id = begun.map_or_else(|| uuid::Uuid::new_v4().to_string(), ToOwned::to_owned);
        ClusterId::new(id).map_err(|error| InitError::Failed(error.to_string()))
    }

    async fn begin(&self, members: &BTreeMap<u64, ManagerNode>) -> Result<(), InitError> {
        let raft = self.raft().ok_or_else(|| InitError::Failed("this manager was not adopted".into()))?;
        let begun = raft.is_initialized().await.map_err(|error| InitError::Failed(error.to_string()))?;
        if !begun {
            raft.initialize(members.clone()).await.map_err(|error| InitError::Failed(error.to_string()))?;
        }
        // The leader names the cluster in the table with its first write; every manager sees it.
        let named = async {
            while self.snapshot_state().0.cluster().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(BEGIN_DEADLINE, named)
            .await
            .map_err(|_| InitError::Failed(format!("no leader within {BEGIN_DEADLINE:?}")))
    }
}

async fn ask(address: String) -> Result<Peer, InitError> {
    let unreachable = |problem: String| InitError::Failed(format!("the manager at {address} does not answer: {problem}"));
    let channel = minder_proto::dial::endpoint(&address)
        .map_err(|error| InitError::Usage(format!("{address:?} is no address: {error}")))?
        .connect_lazy();
    let mut client = PeerClient::new(channel);
    let described = tokio::time::timeout(PEER_DEADLINE, client.describe(v1::DescribeRequest {})).await;
    let description = match described {
        Ok(Ok(description)) => description.into_inner(),
        Ok(Err(status)) => return Err(unreachable(status.message().into())),
        Err(_) => return Err(unreachable(format!("nothing within {PEER_DEADLINE:?}"))),
    };
    Ok(Peer { address, client, description })
}

async fn adopt(peer: &mut Peer, cluster: &ClusterId, id: u64) -> Result<(), InitError> {
    let identity = Identity { cluster: cluster.clone(), manager: ManagerId(id) };
    let request = v1::AdoptRequest { cluster_id: identity.cluster.to_string(), node_id: identity.manager.0 };
    let adopted = tokio::time::timeout(PEER_DEADLINE, peer.client.adopt(request)).await;
    let address = &peer.address;
    match adopted {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(InitError::Failed(format!("the manager at {address} was not adopted: {}", status.message()))),
        Err(_) => Err(InitError::Failed(format!("the manager at {address} was not adopted within {PEER_DEADLINE:?}"))),
    }
}
