//! How every part of Minder connects to a manager, and people on a machine to its slave.

use std::{path::Path, time::Duration};

use tonic::transport::{Endpoint, Error};

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

/// The endpoint at a unix socket on this machine.
pub fn local(socket: &Path) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(format!("unix:{}", socket.display()))?.connect_timeout(CONNECT_TIMEOUT))
}
