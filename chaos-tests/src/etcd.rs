//! The peer of the benchmarks: three etcd members with its defaults, every write synced, which can be written to, killed,
//! started again, and told to hand over.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::eventually;

/// A member answers a question about itself within this, or it is down.
const ASK: Duration = Duration::from_millis(500);

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeReply {
    #[prost(message, repeated, tag = "2")]
    values: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    target: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberStatus {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

async fn call<Q, R>(channel: Channel, request: Q, path: &'static str) -> Result<R, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}

/// The members. They end when dropped.
pub struct Etcd {
    folder: TempDir,
    ports: Vec<u16>,
    more: Vec<String>,
    members: Vec<Option<Child>>,
}

impl Etcd {
    fn program() -> String {
        std::env::var("MINDER_ETCD").unwrap_or_else(|_| "etcd".into())
    }

    /// What the program says of itself, if there is one.
    pub fn version() -> Option<String> {
        let version = Command::new(Self::program()).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&version.stdout).lines().next()?.to_owned())
    }

    /// Starts three with these flags besides.
    pub async fn start(more: &[&str]) -> Self {
        let free_port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut etcd = Self {
            folder: tempfile::tempdir().unwrap(),
            ports: (0..6).map(|_| free_port()).collect(),
            more: more.iter().map(ToString::to_string).collect(),
            members: vec![None, None, None],
        };
        (0..3).for_each(|at| etcd.restart(at));
        etcd.leader().await;
        etcd
    }

    /// One durable write.
    pub async fn put(channel: Channel, key: String, value: String) -> Result<(), Status> {
        let put = PutRequest { key: key.into_bytes(), value: value.into_bytes() };
        call::<_, Nothing>(channel, put, "/etcdserverpb.KV/Put").await.map(drop)
    }

    /// One linearizable read; gives how many values there were.
    pub async fn get(channel: Channel, key: String) -> Result<usize, Status> {
        let range = RangeRequest { key: key.into_bytes() };
        Ok(call::<_, RangeReply>(channel, range, "/etcdserverpb.KV/Range").await?.values.len())
    }

    /// The members' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().flatten().map(Child::id).collect()
    }

    /// Client addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Starts a member (again).
    pub fn restart(&mut self, at: usize) {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.ports[at]), url(self.ports[at + 3]));
        let peers: Vec<String> = (0..3).map(|at| format!("m{at}={}", url(self.ports[at + 3]))).collect();
        let member = Command::new(Self::program())
            .args(["--name", &format!("m{at}"), "--data-dir"])
            .arg(self.folder.path().join(format!("m{at}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(","), "--initial-cluster-state", "new"])
            .args(&self.more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.members[at] = Some(member);
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) {
        let mut member = self.members[at].take().unwrap();
        member.kill().unwrap();
        member.wait().unwrap();
    }

    /// Own id and the leader's, as this member knows them.
    async fn status(&self, at: usize) -> Option<(u64, u64)> {
        let asked = async {
            let channel =
                Endpoint::from_shared(format!("http://{}", self.addresses()[at])).ok()?.connect().await.ok()?;
            call::<_, MemberStatus>(channel, Nothing {}, "/etcdserverpb.Maintenance/Status").await.ok()
        };
        let status = tokio::time::timeout(ASK, asked).await.ok()??;
        Some((status.header?.member_id, status.leader))
    }

    /// The number of the leader, waiting for one.
    pub async fn leader(&self) -> usize {
        eventually("etcd has a leader", || async {
            for at in 0..3 {
                if self.status(at).await.is_some_and(|(own, leader)| own == leader) {
                    return Some(at);
                }
            }
            None
        })
        .await
    }

    /// Waits until every member knows a leader.
    pub async fn wait_until_answering(&self) {
        eventually("every member knows a leader", || async {
            for at in 0..3 {
                self.status(at).await.filter(|(_, leader)| *leader > 0)?;
            }
            Some(())
        })
        .await;
    }

    /// Has the leader hand over to another member.
    pub async fn move_leader(&self) {
        let leader = self.leader().await;
        let (target, _) = self.status((leader + 1) % 3).await.unwrap();
        let channel = Endpoint::from_shared(format!("http://{}", self.addresses()[leader])).unwrap().connect_lazy();
        let request = MoveLeaderRequest { target };
        call::<_, Nothing>(channel, request, "/etcdserverpb.Maintenance/MoveLeader").await.unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
