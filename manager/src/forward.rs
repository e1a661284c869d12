//! The one hop from a follower to the leader, below gRPC: a call that only the leader can answer is passed on as the
//! HTTP/2 request it is, streams included, and its answer comes back as it is. Browsers, `curl` and clients behind a
//! balancer need nothing clever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::HeaderValue;
use tonic::{Status, body::Body, transport::Channel};
use tower::{Layer, Service, ServiceExt};

use crate::core::Core;

/// Marks a call that has been passed on once; it is never passed on again.
const FORWARDED: &str = "minder-forwarded";
/// Only these are for the leader; slaves, health and reflection are answered by whoever is asked.
const SERVICE: &str = "/minder.v1.Control/";
/// Every manager answers these itself, or asks the leader in its own way.
const ANSWERED_HERE: [&str; 7] = ["Init", "Watch", "GetManagers", "GetProcesses", "SaveBackup", "GetPresence", "Drill"];
/// How long a call waits for a leader to be known: an election and some room.
const LEADER_DEADLINE: Duration = Duration::from_secs(2);
/// How long a leader that has handed over may still answer what it was asked before; one that lives needs less.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Connections to leaders, kept warm by address.
#[derive(Default)]
pub struct Leader {
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Leader {
    /// The channel to the manager at this client address. Connects when first used and again whenever needed.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        let mut channels = crate::lock(&self.channels);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = minder_proto::dial::endpoint(address)
            .map_err(|error| Status::internal(format!("the leader's address {address:?} is no address: {error}")))?;
        let channel = minder_proto::dial::lazy(&endpoint);
        channels.insert(address.into(), channel.clone());
        Ok(channel)
    }
}

/// What is said when there is nobody to ask.
pub fn no_leader(core: &Core) -> Status {
    if core.node.raft().is_none() {
        return Status::unavailable(
            "this manager belongs to no cluster yet; form one with `minderctl init --peers ADDRESS,ADDRESS,ADDRESS`",
        );
    }
    Status::unavailable("no leader: fewer than half of the managers can reach each other; nothing was changed")
}

/// Marks a request of this manager's own as passed on.
pub fn mark_forwarded<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
    request.metadata_mut().insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request
}

/// Whether a request has been passed on by another manager.
pub fn is_forwarded<T>(request: &tonic::Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// Puts the hop in front of a service.
#[derive(Clone)]
pub struct ForwardLayer {
    core: Arc<Core>,
}

impl ForwardLayer {
    /// Passes calls on for this manager.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { core: self.core.clone(), inner }
    }
}

/// A service with the hop in front of it.
#[derive(Clone)]
pub struct Forward<S> {
    core: Arc<Core>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Forward<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The service that is ready is the one to call; its clone waits for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let core = self.core.clone();
        Box::pin(async move {
            if !is_for_leader(request.uri().path()) {
                return inner.call(request).await;
            }
            let forwarded = request.headers().contains_key(FORWARDED);
            match leader_elsewhere(&core, forwarded).await {
                Ok(None) => inner.call(request).await,
                Ok(Some(leader)) => {
                    let answer = pass_on(leader.channel, request);
                    Ok(while_leading(&core, leader.id, answer).await.unwrap_or_else(Status::into_http))
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

fn is_for_leader(path: &str) -> bool {
    path.strip_prefix(SERVICE).is_some_and(|method| !ANSWERED_HERE.contains(&method))
}

/// The leader, when that is another manager.
pub struct Elsewhere {
    /// Its node id.
    pub id: u64,
    /// The way to it.
    pub channel: Channel,
}

/// The leader when that is somebody else, waiting a little while an election goes on; `None` when this manager leads.
/// A request that has been `forwarded` is not for anybody else any more. Outside a cluster there is nothing to wait for.
pub async fn leader_elsewhere(core: &Core, forwarded: bool) -> Result<Option<Elsewhere>, Status> {
    if core.node.leads() {
        return Ok(None);
    }
    if core.node.identity().is_none() {
        return Err(no_leader(core));
    }
    let mut leadership = core.node.leadership();
    let settled = leadership.wait_for(|now| now.leading || now.leader.as_ref().is_some_and(|leader| !leader.own));
    let settled = match tokio::time::timeout(LEADER_DEADLINE, settled).await {
        Ok(Ok(now)) => now.clone(),
        Ok(Err(_)) => return Err(Status::unavailable("this manager is stopping")),
        Err(_) => return Err(no_leader(core)),
    };
    match settled.leader {
        _ if settled.leading => Ok(None),
        _ if forwarded => {
            Err(Status::unavailable("the manager this was passed on to does not lead any more; try again"))
        }
        Some(leader) => {
            let channel = core.leader.channel(&leader.client_address)?;
            Ok(Some(Elsewhere { id: leader.id, channel }))
        }
        None => Err(no_leader(core)),
    }
}

/// The leader's answer. A leader that is frozen or cut off keeps its connections and says nothing: once somebody else
/// leads, it is waited for no longer.
pub async fn while_leading<T>(
    core: &Core,
    leader: u64,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut leadership = core.node.leadership();
    let succeeded = async {
        // An error means that this manager stops, which ends the wait as well.
        let _ = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|other| other.id != leader)).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = succeeded => Err(Status::unavailable(
            "the leader that was asked leads no longer and has not answered; whether a write happened is unknown, \
             repeating it with its request id is safe",
        )),
    }
}

async fn pass_on(mut channel: Channel, mut request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    let lost = |error: tonic::transport::Error| {
        Status::unavailable(format!(
            "the leader does not answer ({error}) and nobody has taken over yet; whether a write happened is unknown, \
             repeating it with its request id is safe"
        ))
    };
    let ready = channel.ready().await.map_err(lost)?;
    ready.call(request).await.map_err(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_the_leader_is_passed_on() {
        for (path, expected) in [
            ("/minder.v1.Control/Apply", true),
            ("/minder.v1.Control/ListInstances", true),
            ("/minder.v1.Control/Watch", false),
            ("/minder.v1.Control/GetManagers", false),
            ("/minder.v1.Slave/Attend", false),
            ("/grpc.health.v1.Health/Check", false),
        ] {
            assert_eq!(is_for_leader(path), expected, "{path}");
        }
    }
}
