//! A process that stands still: its futures are not polled, its sockets neither read nor write. Time goes on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use crate::sockets::Socket;
use crate::traffic::{Outcome, What, passed};
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
fn rejects(shared: &Shared) -> io::Result<()> {
    if shared.lock().rejecting { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

/// A connection of a process.
pub struct Gate {
    socket: Socket,
    number: u64,
    shared: Shared,
    node: usize,
    cable: usize,
}

impl Gate {
    /// `stream` stands still whenever the node does, and while its cable is cut.
    pub fn new(shared: &Shared, node: usize, cable: usize, stream: TcpStream) -> Self {
        let (number, socket) = shared.lock().hosts[node].sockets.open(stream);
        Self { socket, number, shared: shared.clone(), node, cable }
    }

    /// Uses the socket, unless its process has died.
    fn on<T>(&self, poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.socket.lock().as_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Keeps what was done, with how many bytes it was.
    fn passed<T>(
        &self,
        done: Poll<io::Result<T>>,
        what: fn(Outcome) -> What,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let outcome = match &done {
            Poll::Pending => return done,
            Poll::Ready(Err(_)) => Outcome::Broken,
            Poll::Ready(Ok(done)) if bytes(done) == 0 => Outcome::Nothing,
            Poll::Ready(Ok(_)) => Outcome::Some,
        };
        passed(&self.shared, self.node, self.cable, what(outcome));
        done
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let closed = self.shared.lock().hosts[self.node].sockets.forget(self.number);
        // Not while the world is held: the peer is told of it.
        closed.iter().for_each(Socket::close);
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        rejects(&self.shared)?;
        if goes_on(&self.shared, self.node, cx) && comes_through(&self.shared, self.cable, cx) {
            let before = buffer.filled().len();
            let read = self.on(|stream| stream.poll_read(cx, buffer));
            let read_now = buffer.filled().len() - before;
            self.passed(read, What::Reads, |()| read_now)
        } else {
            Poll::Pending
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        rejects(&self.shared)?;
        if goes_on(&self.shared, self.node, cx) && comes_through(&self.shared, self.cable, cx) {
            self.passed(self.on(|stream| stream.poll_write(cx, bytes)), What::Writes, |written| *written)
        } else {
            Poll::Pending
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if goes_on(&self.shared, self.node, cx) {
            self.passed(self.on(|stream| stream.poll_shutdown(cx)), What::Ends, |()| 0)
        } else {
            Poll::Pending
        }
    }
}
