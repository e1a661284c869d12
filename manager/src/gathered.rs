//! A connection that gathers what is written to it: answers that become ready together leave in one system call.
//!
//! Every call is a task of its own, and the scheduler runs a connection's task right after each task that wrote to it,
//! so that a hundred answers to one commit would be a hundred system calls and as many packets. A flush therefore lets
//! everything that is ready run first, and then writes what has come together.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Gathered at most: what one write to a socket usually takes. A single answer can be larger and goes past the buffer.
const GATHERED_MAX: usize = 64 * 1024;

/// Memory that a connection keeps for the next writes: what a sign of life needs. A manager has ten thousand connections of
/// slaves, and each gets a large assignment some time.
const KEPT_MAX: usize = 4 * 1024;

/// The connection.
pub struct Gathered<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of `waiting` the stream has taken.
    taken: usize,
    /// This flush has let the others run.
    yielded: bool,
}

impl<S> Gathered<S> {
    /// Gathers what is written to `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, waiting: Vec::new(), taken: 0, yielded: false }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.waiting.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting[self.taken..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
        }
        self.waiting.clear();
        self.waiting.shrink_to(KEPT_MAX);
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count: usize = slices.iter().map(|slice| slice.len()).sum();
        if this.waiting.len() + count > GATHERED_MAX {
            ready!(this.poll_drain(context))?;
        }
        if count > GATHERED_MAX {
            return Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        }
        slices.iter().for_each(|slice| this.waiting.extend_from_slice(slice));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.waiting.is_empty() && !this.yielded {
            this.yielded = true;
            // A task that wakes itself goes behind everything that is ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_drain(context))?;
        this.yielded = false;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: Connected> Connected for Gathered<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_before_a_flush_ends_leaves_at_once() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut gathered = Gathered::new(near);
        gathered.write_all(b"one ").await.unwrap();
        let first = futures::poll!(Box::pin(gathered.flush()));
        assert!(first.is_pending(), "the others run first");
        gathered.write_all(b"two").await.unwrap();
        gathered.flush().await.unwrap();
        let mut read = [0; 16];
        assert_eq!(far.read(&mut read).await.unwrap(), 7);
        assert_eq!(&read[..7], b"one two");
    }

    #[tokio::test]
    async fn a_large_answer_leaves_no_large_buffer_behind() {
        let (near, mut far) = tokio::io::duplex(GATHERED_MAX);
        let mut gathered = Gathered::new(near);
        gathered.write_all(&[7; GATHERED_MAX / 2]).await.unwrap();
        gathered.flush().await.unwrap();
        far.read_exact(&mut [0; GATHERED_MAX / 2]).await.unwrap();
        assert!(gathered.waiting.capacity() <= KEPT_MAX, "{} bytes kept", gathered.waiting.capacity());
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_other_side_is_slow_or_the_writes_are_large() {
        let (near, mut far) = tokio::io::duplex(1000);
        let written: Vec<u8> = (0..400_000_u32).map(|at| at as u8).collect();
        let expected = written.clone();
        let writer = tokio::spawn(async move {
            let mut gathered = Gathered::new(near);
            for piece in [&written[..10], &written[10..50_000], &written[50_000..50_001], &written[50_001..]] {
                gathered.write_all(piece).await.unwrap();
            }
            gathered.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        writer.await.unwrap();
        assert!(read == expected);
    }
}
