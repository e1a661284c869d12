//! How every part of Minder connects to a manager, and people on a machine to its slave.

use std::{io, path::Path, pin::Pin, sync::OnceLock, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint, Error};

use crate::isolation::{self, Isolated, MANAGER_AGENT};

/// A manager on a local network answers a connection within milliseconds; a dead one should not hold anybody up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A silent connection is tried this often, so that a vanished machine is noticed without traffic.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// And is given up when that stays unanswered this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The endpoint at `address`, written `HOST:PORT`.
pub fn endpoint(address: &str) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// How a manager reaches another one: the channel to an endpoint; it connects when first used and again whenever needed.
/// Its requests say that a manager asks.
pub fn lazy(endpoint: &Endpoint) -> Channel {
    // The text is a plain word, so that it is a header for certain; without it the endpoint is as good.
    let endpoint = endpoint.clone().user_agent(MANAGER_AGENT).unwrap_or_else(|_| endpoint.clone());
    endpoint.connect_with_connector_lazy(tower::service_fn(|uri: http::Uri| async move {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        connect(&address).await.map(TokioIo::new)
    }))
}

/// A bare connection of a manager to another one at `address`.
pub async fn connect(address: &str) -> io::Result<Connection> {
    isolation::own().over().await;
    let carried: Connection = match NETWORK.get() {
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Some(network) => network(address.to_owned()).await?,
    };
    Ok(Box::new(Isolated::managers(carried)))
}

/// What a connection is to whoever uses it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection, whatever carries it.
pub type Connection = Box<dyn Wire>;

/// Makes the connection to `HOST:PORT`.
pub type Network = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

static NETWORK: OnceLock<Network> = OnceLock::new();

/// Lets another network than the kernel's carry what [`lazy`] and [`connect`] make from now on in this process: the
/// simulated one, which is in force before anything connects. The first one stays.
pub fn through(network: Network) {
    let _ = NETWORK.set(network);
}

/// The endpoint at a unix socket on this machine.
pub fn local(socket: &Path) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(format!("unix:{}", socket.display()))?.connect_timeout(CONNECT_TIMEOUT))
}
