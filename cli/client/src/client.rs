//! One call, however many attempts it takes.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use minder_model::MESSAGE_BYTES_MAX;
use minder_proto::{dial, v1};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    backoff::Backoff,
    error::{Error, Verdict, judge, retry_after},
    servers::Servers,
};

/// How long a call is tried unless the caller says otherwise: several elections long.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt may take: a manager itself waits 2 s for a leader to appear before it says no.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long a connection may take; a manager that lives answers within milliseconds.
const CONNECT: Duration = Duration::from_secs(1);
/// With less time than this left no further attempt is begun: cut short, it would make "nothing was changed", which the
/// one before was told, into "nobody knows".
const WORTH_WHILE: Duration = Duration::from_millis(100);
/// No manager may ask to be left alone for longer.
const WAIT_ASKED_MAX: Duration = Duration::from_secs(5);
/// When no manager even takes a connection for this long, waiting on is of little use: most likely the addresses are
/// wrong, or all of them are down.
const NOBODY_LISTENS: Duration = Duration::from_secs(2);

/// The generated client over one connection.
pub(crate) type Control = v1::control_client::ControlClient<Channel>;

/// A client of one cluster. Cheap to keep, safe to share; connections are kept warm.
#[derive(Debug)]
pub struct Client {
    servers: Mutex<Servers>,
    deadline: Duration,
    actor: String,
}

/// How a write is to be done.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Its identity; drawn when absent. Repeating a write under the same one is safe and gives the first answer.
    pub request_id: Option<String>,
    /// Refuse unless every process touched is at this revision; 0: unless it does not exist.
    pub expect_revision: Option<u64>,
    /// Say what would happen and change nothing.
    pub dry_run: bool,
}

impl Client {
    /// A client of the cluster that these managers (`HOST:PORT` each) belong to. Nothing is dialled yet.
    pub fn new(servers: Vec<String>) -> Result<Self, Error> {
        if servers.is_empty() {
            return Err(Error::Usage("no manager is named; give at least one as HOST:PORT".into()));
        }
        for server in &servers {
            check_address(server)?;
        }
        Ok(Self { servers: Mutex::new(Servers::new(servers)), deadline: DEADLINE, actor: String::new() })
    }

    /// The same client with another limit on each whole call, attempts and waits included.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The same client, with a name for whoever asks; managers keep it with what was changed.
    #[must_use]
    pub fn with_actor(self, actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// The same client, which does not go to the leader straight: each manager is asked as long as it helps, the first one
    /// first, and passes calls on.
    #[must_use]
    pub fn in_turn(self) -> Self {
        self.lock().take_turns();
        self
    }

    /// The managers this client was made for, and those it has heard of since.
    pub fn servers(&self) -> Vec<String> {
        self.lock().listed().to_vec()
    }

    /// Whoever would be asked next is passed over.
    pub(crate) fn ask_another(&self) {
        let mut servers = self.lock();
        let passed_over = servers.pick();
        servers.failed(&passed_over, true);
    }

    /// The options of a write on the wire, with an identity for certain.
    pub(crate) fn options(&self, write: &Write) -> v1::WriteOptions {
        v1::WriteOptions {
            request_id: write.request_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            expect_revision: write.expect_revision,
            dry_run: write.dry_run,
            actor: self.actor.clone(),
        }
    }

    /// A read: repeated until it is answered or the deadline is over.
    pub(crate) async fn read<Q: Clone, R, F>(
        &self,
        request: Q,
        send: impl Fn(Control, Request<Q>) -> F,
        leader: impl Fn(&R) -> Option<&v1::Position>,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call(request, None, send, leader).await
    }

    /// A write: repeated under one request id; an answer that stays lost is [`Error::Unknown`].
    pub(crate) async fn write<Q: Clone, F>(
        &self,
        request: Q,
        request_id: &str,
        send: impl Fn(Control, Request<Q>) -> F,
    ) -> Result<v1::WriteReply, Error>
    where
        F: Future<Output = Result<Response<v1::WriteReply>, Status>>,
    {
        self.call(request, Some(request_id), send, |reply: &v1::WriteReply| reply.position.as_ref()).await
    }

    async fn call<Q: Clone, R, F>(
        &self,
        request: Q,
        request_id: Option<&str>,
        send: impl Fn(Control, Request<Q>) -> F,
        leader: impl Fn(&R) -> Option<&v1::Position>,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let send = |control, limit| {
            let mut message = Request::new(request.clone());
            message.set_timeout(limit);
            send(control, message)
        };
        let (_, reply) = self.attempt(request_id, send).await?;
        self.learn_position(leader(&reply));
        Ok(reply)
    }

    /// A call that does something anew each time it is said: once it has gone out it is not repeated, and an answer that
    /// is lost is an error.
    pub(crate) async fn once<Q: Clone, R, F>(
        &self,
        request: Q,
        send: impl Fn(Control, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let sent = |control, limit| {
            let mut message = Request::new(request.clone());
            message.set_timeout(limit);
            let answer = send(control, message);
            async move {
                match answer.await {
                    Ok(response) => Ok(Response::new(Ok(response.into_inner()))),
                    // Every refusal is an end of the attempts.
                    Err(status) => Ok(Response::new(Err(status))),
                }
            }
        };
        let (address, answered) = self.attempt(None, sent).await?;
        answered.map_err(|status| match judge(&status) {
            Verdict::Final(error) => error,
            Verdict::Again(why) => Error::Unreachable(vec![(address, why)]),
            Verdict::AgainUnsure(why) => Error::Failed(format!("{address} did not answer, so nobody knows: {why}")),
        })
    }

    /// Opens a stream: the opening is repeated like a read, what comes after is the caller's. Also says whose it is.
    pub(crate) async fn open<Q: Clone, R, F>(
        &self,
        request: Q,
        send: impl Fn(Control, Request<Q>) -> F,
    ) -> Result<(String, tonic::Streaming<R>), Error>
    where
        F: Future<Output = Result<Response<tonic::Streaming<R>>, Status>>,
    {
        // No limit goes with the request: it would be the whole stream's.
        self.attempt(None, |control, _| send(control, Request::new(request.clone()))).await
    }

    /// Asks one manager after the other, each within a limit, until one answers for good. Also says which one did.
    async fn attempt<R, F>(
        &self,
        request_id: Option<&str>,
        send: impl Fn(Control, Duration) -> F,
    ) -> Result<(String, R), Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempts = Attempts::new(self);
        loop {
            let left = attempts.left();
            let address = self.lock().pick();
            let verdict = match self.connected(&address, left).await {
                Err(why) => {
                    self.lock().failed(&address, false);
                    Verdict::Again(why)
                }
                Ok(control) => {
                    attempts.heard = Instant::now();
                    let limit = left.min(ATTEMPT);
                    let late = |_| Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs_f32()));
                    match timeout(limit, send(control, limit)).await.map_err(late) {
                        Ok(Ok(response)) => {
                            self.lock().learn(&address);
                            return Ok((address, response.into_inner()));
                        }
                        Ok(Err(status)) | Err(status) => {
                            attempts.asked_to_wait = retry_after(&status);
                            self.learn(&address, &status)
                        }
                    }
                }
            };
            match verdict {
                Verdict::Final(error) => return Err(attempts.refused(request_id, address, error)),
                Verdict::Again(why) => attempts.note(address, why),
                Verdict::AgainUnsure(why) => {
                    attempts.unsure = true;
                    attempts.note(address, why);
                }
            }
            if !attempts.pause().await {
                return Err(attempts.give_up(request_id));
            }
        }
    }

    /// What a failed attempt teaches: whom to ask next, and whether asking again can help.
    pub(crate) fn learn(&self, address: &str, status: &Status) -> Verdict {
        let verdict = judge(status);
        let leader = status.metadata().get("minder-leader-address").and_then(|value| value.to_str().ok());
        let mut servers = self.lock();
        match &verdict {
            Verdict::Final(_) => {}
            Verdict::Again(_) | Verdict::AgainUnsure(_) => servers.failed(address, true),
        }
        // A manager that names itself and could not answer is no better the next time.
        if let Some(leader) = leader.filter(|leader| *leader != address) {
            servers.learn_leader(leader);
        }
        verdict
    }

    async fn connected(&self, address: &str, left: Duration) -> Result<Control, String> {
        let kept = self.lock().channel(address);
        let channel = match kept {
            Some(channel) => channel,
            None => {
                let endpoint = dial::endpoint(address).map_err(|error| chain(&error))?;
                let limit = left.min(CONNECT);
                let late = |_| format!("took no connection within {} s", limit.as_secs_f32());
                let channel = timeout(limit, endpoint.connect()).await.map_err(late)?.map_err(|error| chain(&error))?;
                self.lock().keep_channel(address, channel.clone());
                channel
            }
        };
        Ok(Control::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Managers that an answer named.
    pub(crate) fn learn_managers<'a>(&self, managers: impl IntoIterator<Item = &'a v1::ManagerMember>) {
        let mut servers = self.lock();
        managers.into_iter().for_each(|member| servers.learn(&member.client_address));
    }

    /// Where an answer came from.
    pub(crate) fn learn_position(&self, position: Option<&v1::Position>) {
        if let Some(position) = position {
            self.lock().learn_leader(&position.leader_address);
        }
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        // A panic elsewhere cannot leave the list half changed: every change is one assignment.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts of one call so far.
struct Attempts {
    began: Instant,
    deadline: Duration,
    round: usize,
    count: usize,
    backoff: Backoff,
    tried: Vec<(String, String)>,
    /// When a manager last took a connection.
    heard: Instant,
    unsure: bool,
    /// By a manager that is too busy.
    asked_to_wait: Option<Duration>,
}

impl Attempts {
    fn new(client: &Client) -> Self {
        Self {
            began: Instant::now(),
            deadline: client.deadline,
            round: client.lock().listed().len(),
            count: 0,
            backoff: Backoff::default(),
            tried: Vec::new(),
            heard: Instant::now(),
            unsure: false,
            asked_to_wait: None,
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.began.elapsed())
    }

    /// Keeps the last reason of each manager.
    fn note(&mut self, address: String, why: String) {
        self.count += 1;
        self.tried.retain(|(server, _)| *server != address);
        self.tried.push((address, why));
    }

    /// Waits before the next attempt, but not before each manager was asked once. False when time is over.
    async fn pause(&mut self) -> bool {
        if self.count > self.round && self.heard.elapsed() > NOBODY_LISTENS {
            return false;
        }
        let wait = match self.asked_to_wait.take() {
            // Everybody who was refused in one moment must not come back in one.
            Some(asked) => asked.min(WAIT_ASKED_MAX).mul_f64(1.0 + rand::random::<f64>()) + self.backoff.next(),
            None if self.count < self.round => Duration::ZERO,
            None => self.backoff.next(),
        };
        if wait + WORTH_WHILE >= self.left() {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// A manager can refuse an attempt before it looks whether the write of an earlier one, whose answer was lost, has
    /// happened: for its full disk, say. The write is not refused by that; asked again later, it has its answer.
    fn refused(mut self, request_id: Option<&str>, address: String, error: Error) -> Error {
        match error {
            Error::Refused(why) | Error::TooLarge(why) if self.unsure && request_id.is_some() => {
                self.note(address, why);
                self.give_up(request_id)
            }
            other => other,
        }
    }

    fn give_up(self, request_id: Option<&str>) -> Error {
        match request_id {
            Some(id) if self.unsure => Error::Unknown { request_id: id.to_string(), tried: self.tried },
            Some(_) | None => Error::Unreachable(self.tried),
        }
    }
}

fn check_address(server: &str) -> Result<(), Error> {
    let bad = |why: &str| Error::Usage(format!("{server:?} is no address of a manager: {why}; write HOST:PORT"));
    let (host, port) = server.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
    if host.is_empty() || host.contains(['/', ' ', '@']) {
        return Err(bad("the host is missing or odd"));
    }
    port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| bad("the port is no number from 1 to 65535"))?;
    dial::endpoint(server).map_err(|error| bad(&chain(&error)))?;
    Ok(())
}

/// The last cause says most: "Connection refused" rather than "transport error".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_addresses_are_refused_before_anybody_is_dialled() {
        for (server, ok) in [
            ("10.0.0.1:8888", true),
            ("manager-1:80", true),
            ("[::1]:80", true),
            ("10.0.0.1", false),
            (":80", false),
            ("a:0", false),
            ("a:x", false),
            ("http://a:80", false),
            ("a b:80", false),
        ] {
            assert_eq!(Client::new(vec![server.into()]).is_ok(), ok, "{server}");
        }
        assert!(matches!(Client::new(Vec::new()), Err(Error::Usage(_))));
    }
}
