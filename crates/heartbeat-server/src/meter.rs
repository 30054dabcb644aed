//! What a stranger may say at most before the proof, counted below TLS, so that everything counts: records without content,
//! frames of nine bytes, headers without end.
//!
//! ```text
//!   TCP ─► Meter ─► TLS ─► HTTP/2 ─► Hello … proof      │ MOST bytes, then the connection ends
//!                                    proved             │ no limit any more
//! ```
//!
//! The deadline alone is not enough: within it a fast stranger could say so much in small pieces that reading it kept the
//! processors from the heartbeats of the session that stands.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Our own client says less than 4 KiB up to its proof, the TLS handshake included. The rest is room for as much as flow control
/// lets through (64 KiB), so that a message that is too long still gets its answer. A hundred strangers that use this up
/// cost about as much as their TLS handshakes.
pub(crate) const MOST: usize = 96 * 1024;

/// A connection that is counted until `proved` is cancelled.
pub(crate) struct Meter<IO> {
    io: IO,
    left: usize,
    proved: CancellationToken,
    exceeded: Arc<AtomicBool>,
}

impl<IO> Meter<IO> {
    /// The connection, and where it is said that it has ended because of too much.
    pub(crate) fn new(io: IO, proved: CancellationToken) -> (Self, Arc<AtomicBool>) {
        let exceeded = Arc::new(AtomicBool::new(false));
        (Self { io, left: MOST, proved, exceeded: Arc::clone(&exceeded) }, exceeded)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Meter<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if self.proved.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        let read = buf.filled().len() - before;
        let Some(left) = self.left.checked_sub(read) else {
            self.exceeded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other("too much before the proof of the key")));
        };
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Meter<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_stranger_may_say_so_much_and_who_has_proved_the_key_any_amount() {
        let (mut near, far) = tokio::io::duplex(4 * MOST);
        let proved = CancellationToken::new();
        let (mut meter, exceeded) = Meter::new(far, proved.clone());
        let mut heard = vec![0; MOST];
        near.write_all(&vec![1; 3 * MOST]).await.expect("room");
        meter.read_exact(&mut heard).await.expect("as much as it may");
        assert!(!exceeded.load(Ordering::Relaxed));
        assert!(meter.read(&mut heard[..1]).await.is_err(), "one more");
        assert!(exceeded.load(Ordering::Relaxed));
        proved.cancel();
        meter.read_exact(&mut heard).await.expect("no limit");
    }
}
