//! Questions to running processes. Each is a task of its own with its own end, so that none waits for another, and each
//! is answered once, by silence too. How many are under way at a time is bounded; the others are late, not failed.

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use minder_model::{Incarnation, InstanceKey, Millis, Target};
use minder_supervisor::ProbeKind;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::os::{
    command::{self, How, one_line},
    incarnation::{News, What},
};

/// Commands at a time: each is two processes, and a machine whose programs all hang must not run a thousand of them.
const COMMANDS_MAX: usize = 32;
/// Connections at a time: each is a socket, of which a slave has a few hundred to spare.
const CONNECTIONS_MAX: usize = 128;
/// Longest head of an HTTP answer; longer ones are none of a health check.
const HTTP_HEAD_BYTES_MAX: usize = 16 * 1_024;

/// How questions are asked, and who hears the answers.
pub struct Probes {
    shim: Arc<Path>,
    commands: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    news: mpsc::Sender<News>,
}

/// One question.
pub struct Question {
    /// To this instance.
    pub key: InstanceKey,
    /// To this incarnation.
    pub incarnation: Incarnation,
    /// For this check.
    pub kind: ProbeKind,
    /// Goes back with the answer.
    pub number: u64,
    /// How it is asked, or why it cannot be.
    pub target: Result<Target, String>,
    /// How long an answer may take.
    pub limit: Duration,
    /// Where the incarnation's launch lies.
    pub bundle: PathBuf,
}

impl Probes {
    /// Answers go to `news`.
    pub fn new(shim: Arc<Path>, news: mpsc::Sender<News>) -> Self {
        let [commands, connections] = [COMMANDS_MAX, CONNECTIONS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        Self { shim, commands, connections, news }
    }

    /// Asks. Dropped before its answer, the question is withdrawn, and its command is ended.
    pub fn ask(&self, question: Question) -> AbortOnDropHandle<()> {
        let places = match &question.target {
            Ok(Target::Exec(_)) => self.commands.clone(),
            Ok(Target::Tcp(_) | Target::Http { .. } | Target::Grpc { .. }) | Err(_) => self.connections.clone(),
        };
        let (shim, news) = (self.shim.clone(), self.news.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            // The semaphore is never closed. The wait for a place is none of the process's time.
            let place = places.acquire_owned().await;
            let answer = answer(&shim, &question).await.map_err(|message| one_line(&message));
            drop(place);
            let Question { key, incarnation, kind, number, .. } = question;
            // A host that is gone needs no answer.
            let _ = news.send(News { key, incarnation, what: What::Probed { kind, number, answer } }).await;
        }))
    }
}

async fn answer(shim: &Path, question: &Question) -> Result<(), String> {
    let late = || format!("no answer within {}", Millis(question.limit.as_millis() as u64));
    let within = async |asked: Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>| {
        timeout(question.limit, asked).await.unwrap_or_else(|_| Err(late()))
    };
    match question.target.as_ref().map_err(String::clone)? {
        // The shim keeps the time, and ends what takes longer.
        Target::Exec(words) => {
            let ran = command::run(shim, &question.bundle, How::Check, words, question.limit).await?;
            ran.success(words.first().map_or("", String::as_str), question.limit)
        }
        Target::Tcp(address) => within(Box::pin(tcp(*address))).await,
        Target::Http { address, authority, path } => within(Box::pin(http(*address, authority, path))).await,
        Target::Grpc { address, service } => within(Box::pin(grpc(*address, service))).await,
    }
}

async fn tcp(address: SocketAddr) -> Result<(), String> {
    TcpStream::connect(address).await.map(drop).map_err(|error| plain(&error))
}

async fn http(address: SocketAddr, authority: &str, path: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| plain(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| plain(&error))?;
    let request = http::Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("minder-slave/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| plain(&error))?;
    let (mut response, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    let mut open = true;
    let response = loop {
        // The response is waited for over all turns; the connection only drives it.
        tokio::select! {
            response = &mut response => break response.map_err(|error| plain(&error))?,
            _ = &mut connection, if open => open = false,
        }
    };
    match response.status() {
        // What it says beside its status is not read.
        status if (200..400).contains(&status.as_u16()) => Ok(()),
        status => Err(format!("HTTP {status}")),
    }
}

async fn grpc(address: SocketAddr, service: &str) -> Result<(), String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| plain(&e))?;
    let channel = endpoint.connect().await.map_err(|error| plain(&error))?;
    let request = HealthCheckRequest { service: service.into() };
    let response = HealthClient::new(channel).check(request).await.map_err(|status| match status.message() {
        "" => format!("gRPC {}", status.code()),
        message => format!("gRPC {}: {message}", status.code()),
    })?;
    match response.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        status => Err(status.as_str_name().into()),
    }
}

/// The innermost reason, as a person would say it.
fn plain(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_plain() {
        assert_eq!(plain(&std::io::Error::from_raw_os_error(libc::ECONNREFUSED)), "connection refused");
    }
}
