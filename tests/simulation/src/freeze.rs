//! A process that stands still: its futures are not polled, its sockets neither read nor write. Time goes on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::world::Shared;

/// Whether anything comes through the cable; if not, the task is woken when it does.
fn comes_through(shared: &Shared, cable: usize, cx: &Context<'_>) -> bool {
    shared.lock().cables.passes(cable, cx.waker())
}

/// Whether the process goes on; if not, the task is woken when it does.
fn goes_on(shared: &Shared, node: usize, cx: &Context<'_>) -> bool {
    let mut world = shared.lock();
    let host = &mut world.hosts[node];
    if host.frozen {
        host.waiting.push(cx.waker().clone());
    }
    !host.frozen
}

/// A part of a process.
pub struct Freezable<F> {
    inner: Pin<Box<F>>,
    shared: Shared,
    node: usize,
}

impl<F> Freezable<F> {
    /// `inner` stands still whenever the node does.
    pub fn new(shared: &Shared, node: usize, inner: F) -> Self {
        Self { inner: Box::pin(inner), shared: shared.clone(), node }
    }
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if goes_on(&self.shared, self.node, cx) { self.inner.as_mut().poll(cx) } else { Poll::Pending }
    }
}

/// A firewall that rejects says so when something is sent.
fn passes(shared: &Shared) -> io::Result<()> {
    if shared.lock().rejecting { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

/// A connection of a process.
pub struct Gate<IO> {
    inner: IO,
    shared: Shared,
    node: usize,
    cable: usize,
}

impl<IO> Gate<IO> {
    /// `inner` stands still whenever the node does, and while its cable is cut.
    pub fn new(shared: &Shared, node: usize, cable: usize, inner: IO) -> Self {
        Self { inner, shared: shared.clone(), node, cable }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gate<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        passes(&self.shared)?;
        if goes_on(&self.shared, self.node, cx) && comes_through(&self.shared, self.cable, cx) {
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        } else {
            Poll::Pending
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        passes(&self.shared)?;
        if goes_on(&self.shared, self.node, cx) && comes_through(&self.shared, self.cable, cx) {
            Pin::new(&mut self.inner).poll_write(cx, bytes)
        } else {
            Poll::Pending
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if goes_on(&self.shared, self.node, cx) {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        } else {
            Poll::Pending
        }
    }
}
