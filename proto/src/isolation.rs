//! A manager that is cut off from the others for a while, on purpose: what a drill of a partition does.
//!
//! Every connection between managers goes through here: those that a manager makes ([`crate::dial`]), those that come in
//! at its peer address, and those at its client address through which another manager passes calls on. While the
//! isolation lasts they are a black hole: nothing is read, nothing is written, nothing is dialled, and not even the end
//! of one is told. Users and slaves are not concerned.

use std::{
    any::Any,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tonic::transport::server::Connected;

/// What a manager calls itself in every request to another one.
pub const MANAGER_AGENT: &str = "minder-manager";
/// Connections that are kept open after their users gave them up, so that nobody hears of it. Two peers that dial ten
/// times a second for a minute make 1,200; what is beyond this is closed at once.
const BURIED_MAX: usize = 4_096;

static OWN: std::sync::LazyLock<Isolation> = std::sync::LazyLock::new(Isolation::new);

/// The isolation of this process, which is one manager.
pub fn own() -> &'static Isolation {
    &OWN
}

/// Whether, and how long still, there is no way to the other managers.
pub struct Isolation {
    is_on: AtomicBool,
    until: watch::Sender<Option<Instant>>,
    /// Given up by their users while it lasts.
    buried: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Isolation {
    fn new() -> Self {
        Self { is_on: AtomicBool::new(false), until: watch::channel(None).0, buried: Mutex::default() }
    }

    /// Begins, and ends by itself after this time by the monotonic clock. `false` when one lasts already, which goes on
    /// as it is. Needs a tokio runtime.
    pub fn begin(&'static self, lasts: Duration) -> bool {
        if self.is_on.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.until.send_replace(Some(Instant::now() + lasts));
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            self.end();
        });
        true
    }

    fn end(&self) {
        self.is_on.store(false, Ordering::SeqCst);
        self.until.send_replace(None);
        let buried = std::mem::take(&mut *self.buried.lock().unwrap_or_else(PoisonError::into_inner));
        // Closing them is what their peers hear of first.
        drop(buried);
    }

    /// Whether it lasts.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// How long still; nothing when there is none.
    pub fn left(&self) -> Option<Duration> {
        self.until.borrow().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits until there is none.
    pub async fn over(&self) {
        let mut until = self.until.subscribe();
        // The sender lives as long as the process.
        let _ = until.wait_for(Option::is_none).await;
    }

    fn bury(&self, stream: impl Any + Send) {
        let mut buried = self.buried.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_on() && buried.len() < BURIED_MAX {
            buried.push(Box::new(stream));
        }
    }
}

/// Whose a connection is: clones share it, so that whoever reads the requests can say what they tell.
#[derive(Debug, Clone)]
pub struct Line(Arc<AtomicBool>);

impl Line {
    /// The other end is a manager.
    pub fn is_managers(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A request that came in says that the other end is a manager.
    pub fn belongs_to_manager(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Waiting = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// A connection that an isolation makes a black hole, once it is known to be another manager's.
pub struct Isolated<S: Send + 'static> {
    /// There until this is dropped.
    stream: Option<S>,
    line: Line,
    isolation: &'static Isolation,
    reading: Waiting,
    writing: Waiting,
}

impl<S: Send + 'static> Isolated<S> {
    /// A connection to or from another manager.
    pub fn managers(stream: S) -> Self {
        Self::new(stream, true, own())
    }

    /// A connection from whomever; its [`Line`] learns whether that is a manager.
    pub fn anybodys(stream: S) -> Self {
        Self::new(stream, false, own())
    }

    fn new(stream: S, is_managers: bool, isolation: &'static Isolation) -> Self {
        let line = Line(Arc::new(AtomicBool::new(is_managers)));
        Self { stream: Some(stream), line, isolation, reading: None, writing: None }
    }
}

/// Ready when there is a way through; wakes whoever waits when there is one again.
fn way(line: &Line, isolation: &'static Isolation, waiting: &mut Waiting, context: &mut Context<'_>) -> Poll<()> {
    while line.is_managers() && isolation.is_on() {
        let over = waiting.get_or_insert_with(|| Box::pin(isolation.over()));
        ready!(over.as_mut().poll(context));
        *waiting = None;
    }
    Poll::Ready(())
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl<S: AsyncRead + Send + Unpin + 'static> AsyncRead for Isolated<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(way(&this.line, this.isolation, &mut this.reading, context));
        match &mut this.stream {
            Some(stream) => Pin::new(stream).poll_read(context, buffer),
            None => gone(),
        }
    }
}

impl<S: AsyncWrite + Send + Unpin + 'static> Isolated<S> {
    fn write_with<T>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        ready!(way(&this.line, this.isolation, &mut this.writing, context));
        match &mut this.stream {
            Some(stream) => write(Pin::new(stream), context),
            None => gone(),
        }
    }
}

impl<S: AsyncWrite + Send + Unpin + 'static> AsyncWrite for Isolated<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, AsyncWrite::poll_shutdown)
    }
}

impl<S: Connected + Send + 'static> Connected for Isolated<S> {
    type ConnectInfo = Line;

    fn connect_info(&self) -> Line {
        self.line.clone()
    }
}

impl<S: Send + 'static> Drop for Isolated<S> {
    fn drop(&mut self) {
        // Its end would be heard on the other side.
        if let Some(stream) = self.stream.take().filter(|_| self.line.is_managers() && self.isolation.is_on()) {
            self.isolation.bury(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LASTS: Duration = Duration::from_millis(200);

    fn pair(is_managers: bool) -> (Isolated<DuplexStream>, DuplexStream, &'static Isolation) {
        let isolation: &'static Isolation = Box::leak(Box::new(Isolation::new()));
        let (near, far) = duplex(64);
        (Isolated::new(near, is_managers, isolation), far, isolation)
    }

    #[tokio::test]
    async fn nothing_passes_either_way_until_it_is_over() {
        let (mut near, mut far, isolation) = pair(true);
        near.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        let began = tokio::time::Instant::now();
        assert!(isolation.begin(LASTS));
        assert!(!isolation.begin(LASTS * 9), "one at a time");
        far.write_all(b"b").await.unwrap();
        let (mut read, mut write) = tokio::io::split(near);
        let (heard, _, told) = tokio::join!(read.read_u8(), write.write_all(b"c"), far.read_u8());
        assert_eq!((heard.unwrap(), told.unwrap()), (b'b', b'c'));
        assert!(began.elapsed() >= LASTS);
        assert!(!isolation.is_on());
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_not_heard_before_it_is_over() {
        let (near, mut far, isolation) = pair(true);
        let began = tokio::time::Instant::now();
        isolation.begin(LASTS);
        drop(near);
        assert_eq!(far.read(&mut [0; 4]).await.unwrap(), 0);
        assert!(began.elapsed() >= LASTS);
    }

    #[tokio::test]
    async fn users_and_slaves_are_not_concerned_and_a_manager_is_from_when_it_is_known() {
        let (mut near, mut far, isolation) = pair(false);
        isolation.begin(LASTS);
        near.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        let began = tokio::time::Instant::now();
        near.connect_info().belongs_to_manager();
        near.write_all(b"b").await.unwrap();
        assert!(began.elapsed() >= LASTS);
    }
}
