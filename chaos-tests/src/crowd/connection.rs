//! One connection of a pretended slave to one manager: HTTP/2 with one stream, driven by one task.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use h2::{PingPong, RecvStream, SendStream};
use http::{HeaderValue, Method, Request, header::CONTENT_TYPE};
use minder_proto::v1::{self, from_slave::Message as Out, to_slave::Message as In};
use prost::{
    Message,
    bytes::{Buf, BufMut, Bytes, BytesMut},
};
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    slave::{Session, Slave},
    tally::Tally,
};

/// As the slave has it (`slave/src/link.rs`).
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(5);
/// As `minder_proto::dial` has it: when nothing came for so long, the other side is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(2);
const PATH: &str = "http://manager/minder.v1.Slave/Attend";
/// A gRPC message begins with whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub async fn attend_for_ever(slave: Arc<Slave>, address: String) {
    let mut wait = RETRY_MIN;
    loop {
        let mut opened = false;
        // Every end is the same: it begins again.
        let _ = attend(&slave, &address, &mut opened).await;
        if opened {
            slave.tally.streams.fetch_sub(1, Ordering::Relaxed);
            wait = RETRY_MIN;
        }
        tokio::time::sleep(wait.mul_f64(chance())).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Within 0.2 and 1.
fn chance() -> f64 {
    (uuid::Uuid::new_v4().as_u128() as u32 as f64 / u32::MAX as f64).mul_add(0.8, 0.2)
}

async fn attend(slave: &Slave, address: &str, opened: &mut bool) -> Result<(), Trouble> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut requests, mut connection) = h2::client::handshake(socket).await?;
    let pings = connection.ping_pong().ok_or("no pings")?;
    let mut connection = pin!(connection);
    let mut request = Request::builder().method(Method::POST).uri(PATH).body(())?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let (response, out) = requests.send_request(request, false)?;
    let mut response = pin!(response);
    // The connection is what carries the answer, so both are polled here.
    let response = poll_fn(|context| match response.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(response.map_err(Trouble::from)),
        Poll::Pending => connection.as_mut().poll(context).map(|ended| {
            ended?;
            Err("closed".into())
        }),
    })
    .await?;
    slave.tally.streams.fetch_add(1, Ordering::Relaxed);
    *opened = true;
    let tally = slave.tally.clone();
    let mut stream = Stream { out, body: response.into_body(), pending: BytesMut::new(), tally };
    stream.send(slave.presence())?;
    let mut session: Option<Session> = None;
    // What goes wrong in it must not leave a session behind in the count.
    let ended = {
        let mut talk = pin!(talk(slave, address, &mut stream, &mut session, pings));
        poll_fn(|context| match talk.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => connection.as_mut().poll(context).map(|_| Ok(())),
        })
        .await
    };
    end(slave, session);
    ended
}

fn end(slave: &Slave, session: Option<Session>) {
    if session.is_some_and(|session| session.is_welcomed()) {
        slave.tally.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn talk(
    slave: &Slave,
    address: &str,
    stream: &mut Stream,
    session: &mut Option<Session>,
    mut pings: PingPong,
) -> Result<(), Trouble> {
    let mut leader = slave.leader();
    let phase = |every: Duration| interval_at(Instant::now() + every.mul_f64(chance()), every);
    let (mut beats, mut looks) = (phase(HEARTBEAT), phase(LOOK));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read_at = Instant::now();
    loop {
        let welcomed = session.as_ref().is_some_and(Session::is_welcomed);
        tokio::select! {
            message = stream.next() => {
                read_at = Instant::now();
                let message = message?;
                on_message(slave, address, stream, session, message)?;
            }
            _ = beats.tick(), if welcomed => if let Some(session) = session {
                stream.send(slave.beat(session))?;
            },
            _ = looks.tick(), if welcomed => if let Some(session) = session {
                slave.look(session).into_iter().try_for_each(|message| stream.send(message))?;
            },
            changed = leader.changed() => {
                changed?;
                if leader.borrow_and_update().1 != address {
                    end(slave, session.take());
                }
            }
            () = sleep_until(read_at + KEEPALIVE) => {
                tokio::time::timeout(KEEPALIVE, pings.ping(h2::Ping::opaque())).await??;
                read_at = Instant::now();
            }
        }
    }
}

fn on_message(
    slave: &Slave,
    address: &str,
    stream: &mut Stream,
    session: &mut Option<Session>,
    message: In,
) -> Result<(), Trouble> {
    if let In::Role(role) = &message {
        let before = session.take();
        let was_welcomed = before.as_ref().is_some_and(Session::is_welcomed);
        let (now, hello) = slave.on_role(before, role, address);
        *session = now;
        if was_welcomed && session.is_none() {
            slave.tally.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        return hello.map_or(Ok(()), |hello| stream.send(hello));
    }
    let Some(open) = session else { return Ok(()) };
    let answers = slave.on_message(open, message).ok_or("sent away")?;
    answers.into_iter().try_for_each(|answer| stream.send(answer))
}

struct Stream {
    out: SendStream<Bytes>,
    body: RecvStream,
    pending: BytesMut,
    tally: Arc<Tally>,
}

impl Stream {
    fn send(&mut self, message: Out) -> Result<(), Trouble> {
        let message = v1::FromSlave { message: Some(message) };
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
        bytes.put_u8(0);
        bytes.put_u32(length as u32);
        message.encode(&mut bytes)?;
        count(&self.tally.sent, &self.tally.sent_bytes, bytes.len());
        self.out.send_data(bytes.freeze(), false)?;
        Ok(())
    }

    /// The next message. May be dropped at its await.
    async fn next(&mut self) -> Result<In, Trouble> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(message);
            }
            let data = self.body.data().await.ok_or("the stream ended")??;
            self.body.flow_control().release_capacity(data.len())?;
            self.pending.extend_from_slice(&data);
        }
    }

    fn parse(&mut self) -> Result<Option<In>, Trouble> {
        let Some(prefix) = self.pending.get(..PREFIX_BYTES) else { return Ok(None) };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.pending.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        count(&self.tally.received, &self.tally.received_bytes, PREFIX_BYTES + length);
        self.pending.advance(PREFIX_BYTES);
        let message = v1::ToSlave::decode(self.pending.split_to(length).freeze())?.message;
        if self.pending.is_empty() {
            // A large assignment leaves no large buffer behind.
            self.pending = BytesMut::new();
        }
        message.map(Some).ok_or_else(|| "an empty message".into())
    }
}

fn count(messages: &AtomicU64, bytes: &AtomicU64, length: usize) {
    messages.fetch_add(1, Ordering::Relaxed);
    bytes.fetch_add(length as u64, Ordering::Relaxed);
}
