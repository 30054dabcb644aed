//! Looks at the first bytes that come over a connection: a dead node's guard answers with a tombstone instead of TLS, and
//! that is not "something that cannot prove the key".

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tombstone::TOMBSTONE_MAGIC;

/// As many bytes as TLS reads before it sees that it is not TLS (RFC 8446 §5.1: the record header).
const ENOUGH: usize = 5;

/// A connection that is looked at.
pub(crate) struct Sniff<IO> {
    io: IO,
    /// Bytes that agree with the magic so far; `None` once one did not, or enough did.
    agreed: Option<usize>,
    tombstone: Arc<AtomicBool>,
}

impl<IO> Sniff<IO> {
    /// The connection, and where it is said whether it began as a tombstone.
    pub(crate) fn new(io: IO) -> (Self, Arc<AtomicBool>) {
        let tombstone = Arc::new(AtomicBool::new(false));
        (Self { io, agreed: Some(0), tombstone: Arc::clone(&tombstone) }, tombstone)
    }

    fn look(&mut self, bytes: &[u8]) {
        let Some(agreed) = self.agreed else { return };
        let wanted = &TOMBSTONE_MAGIC[agreed..ENOUGH];
        let compared = bytes.len().min(wanted.len());
        self.agreed = (bytes[..compared] == wanted[..compared]).then_some(agreed + compared);
        if self.agreed == Some(ENOUGH) {
            self.tombstone.store(true, Ordering::Relaxed);
            self.agreed = None;
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sniff<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.agreed.is_some() {
            self.look(&buf.filled()[before..]);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sniff<IO> {
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
    use super::*;

    fn seen(pieces: &[&[u8]]) -> bool {
        let (mut sniff, tombstone) = Sniff::new(());
        pieces.iter().for_each(|piece| sniff.look(piece));
        tombstone.load(Ordering::Relaxed)
    }

    #[test]
    fn only_the_beginning_counts() {
        assert!(seen(&[b"ONDUTY-TOMBSTONE/1\n"]));
        assert!(seen(&[b"ON", b"", b"D", b"UTY"]));
        assert!(!seen(&[b"OND"]));
        assert!(!seen(&[b"x", b"ONDUTY"]));
        assert!(!seen(&[b"ONDX", b"ONDUTY"]));
    }
}
