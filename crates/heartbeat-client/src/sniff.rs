//! Looks at what comes over a connection before the proof: a dead node's guard answers with a tombstone instead of TLS, and
//! that is not "something that cannot prove the key". And somebody who answers without end is hung up on: reading it would
//! keep the processors from the heartbeats of the session that stands on another path.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tombstone::TOMBSTONE_MAGIC;

/// As many bytes as TLS reads before it sees that it is not TLS (RFC 8446 §5.1: the record header).
const ENOUGH: usize = 5;

/// What may come before the proof, below TLS. A chain of certificates is the longest of it (RFC 8446 sets no bound; rustls
/// takes 64 KiB), the rest is less than 4 KiB.
const MOST: usize = 96 * 1024;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    tombstone: AtomicBool,
    proved: AtomicBool,
}

impl Seen {
    /// Whether it began as a tombstone.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.tombstone.load(Ordering::Relaxed)
    }

    /// The other end has proved the key: from now on it may say as much as it likes.
    pub(crate) fn prove(&self) {
        self.proved.store(true, Ordering::Relaxed);
    }
}

/// A connection that is looked at.
pub(crate) struct Sniff<IO> {
    io: IO,
    /// Bytes that agree with the magic so far; `None` once one did not, or enough did.
    agreed: Option<usize>,
    /// Bytes that may still come before the proof.
    left: usize,
    seen: Arc<Seen>,
}

impl<IO> Sniff<IO> {
    /// The connection, and what is known of it.
    pub(crate) fn new(io: IO) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (Self { io, agreed: Some(0), left: MOST, seen: Arc::clone(&seen) }, seen)
    }

    /// What is known of it.
    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Counts what came.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        if !self.seen.proved.load(Ordering::Relaxed) {
            let left = self.left.checked_sub(bytes);
            self.left = left.ok_or_else(|| io::Error::other("too much before the proof of the key"))?;
        }
        Ok(())
    }

    fn look(&mut self, bytes: &[u8]) {
        let Some(agreed) = self.agreed else { return };
        let wanted = &TOMBSTONE_MAGIC[agreed..ENOUGH];
        let compared = bytes.len().min(wanted.len());
        self.agreed = (bytes[..compared] == wanted[..compared]).then_some(agreed + compared);
        if self.agreed == Some(ENOUGH) {
            self.seen.tombstone.store(true, Ordering::Relaxed);
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
        if let Err(error) = self.count(buf.filled().len() - before) {
            return Poll::Ready(Err(error));
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
        let (mut sniff, seen) = Sniff::new(());
        pieces.iter().for_each(|piece| sniff.look(piece));
        seen.is_tombstone()
    }

    #[test]
    fn so_much_may_come_before_the_proof_and_any_amount_after_it() {
        let (mut sniff, seen) = Sniff::new(());
        assert!(sniff.count(MOST).is_ok());
        assert!(sniff.count(1).is_err());
        seen.prove();
        assert!(sniff.count(2 * MOST).is_ok());
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
