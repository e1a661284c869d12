//! The network between managers and clients: turmoil's, with losses that TCP mends, and an account of what was sent where.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use minder_proto::dial::Connection;
use minder_sim::Chance;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

use crate::{seam, trace};

/// A lost segment comes again after this, as Linux' TCP has it at the least.
const AGAIN: Duration = Duration::from_millis(200);

thread_local! {
    static LINKS: RefCell<Links> = RefCell::new(Links::default());
}

/// What is wrong with the way from one host to another, and what was sent on it meanwhile.
#[derive(Debug, Default, Clone, Copy)]
struct Link {
    /// Somebody looks at this link.
    watched: bool,
    /// Pieces of a hundred that are lost at first.
    lossy: u64,
    /// Pieces sent, and connections tried, while it was watched.
    sent: u64,
    /// Pieces lost.
    lost: u64,
}

#[derive(Debug, Default)]
struct Links {
    links: BTreeMap<(String, String), Link>,
    chance: Option<Chance>,
}

/// Draws losses from this row.
pub fn begin(chance: Chance) {
    LINKS.with_borrow_mut(|links| links.chance = Some(chance));
}

/// Counts what is sent from now on, beginning at nothing, and loses so many of a hundred pieces.
pub fn watch(from: &str, to: &str, lossy: u64) {
    let link = Link { watched: true, lossy, sent: 0, lost: 0 };
    LINKS.with_borrow_mut(|links| links.links.insert((from.into(), to.into()), link));
}

/// Ends that, and gives what was sent and what was lost.
pub fn unwatch(from: &str, to: &str) -> (u64, u64) {
    let link = LINKS.with_borrow_mut(|links| links.links.remove(&(from.into(), to.into())));
    link.map_or((0, 0), |link| (link.sent, link.lost))
}

/// Something is sent; `true` when it is lost.
fn sent(from: &str, to: &str) -> bool {
    LINKS.with_borrow_mut(|Links { links, chance }| {
        let Some(link) = links.get_mut(&(from.to_owned(), to.to_owned())).filter(|link| link.watched) else {
            return false;
        };
        link.sent += 1;
        let lost = link.lossy > 0 && chance.as_mut().is_some_and(|chance| chance.percent(link.lossy));
        link.lost += u64::from(lost);
        lost
    })
}

/// Connects for Minder's dialling.
pub fn connect(address: String) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>> {
    Box::pin(async move {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| io::Error::other("no address"))?;
        let port: u16 = port.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await;
        trace::note(&[seam::now_us(), u64::from(port), u64::from(stream.is_ok())]);
        Ok(Box::new(Wire::new(stream?)?) as Connection)
    })
}

/// Connections as they come in at this host's port.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Wire>> + Send + 'static {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        Some((accepted.and_then(|(stream, _)| Wire::new(stream)), listener))
    })
}

/// One connection, seen from one of its ends.
pub struct Wire {
    stream: TcpStream,
    from: String,
    to: String,
    ends: u64,
    /// What was lost is sent again then; what comes after it waits.
    again: Option<Pin<Box<Sleep>>>,
}

fn name(address: SocketAddr) -> String {
    turmoil::reverse_lookup(address.ip()).unwrap_or_else(|| address.ip().to_string())
}

impl Wire {
    fn new(stream: TcpStream) -> io::Result<Self> {
        let (own, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let (from, to) = (name(own), name(peer));
        sent(&from, &to);
        let ends = (u64::from(own.port()) << 16) | u64::from(peer.port());
        Ok(Self { stream, from, to, ends, again: None })
    }
}

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match &mut this.again {
            Some(again) => {
                ready!(again.as_mut().poll(context));
                this.again = None;
            }
            None if sent(&this.from, &this.to) => {
                let again = this.again.insert(Box::pin(tokio::time::sleep(AGAIN)));
                ready!(again.as_mut().poll(context));
            }
            None => {}
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes));
        let length = written.as_ref().map_or(u64::MAX, |length| *length as u64);
        trace::note(&[seam::now_us(), this.ends, length]);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
