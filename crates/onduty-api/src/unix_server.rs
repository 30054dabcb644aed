//! Connections of a unix socket for a gRPC server, bounded in number, and the server's end. Who may connect was asked before, by
//! whoever accepts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Takes connections from `next`, which must be cancel-safe, and hands them to a server, at most `connections` at the same
/// time; when full the next one waits in the kernel's queue. Dropping the future ends it.
pub fn hand_over<N, F>(
    mut next: N,
    connections: usize,
) -> (impl Future<Output = ()>, mpsc::Receiver<io::Result<Caller>>)
where
    N: FnMut() -> F,
    F: Future<Output = UnixStream>,
{
    // One at a time: the server takes it at once, and `connections` is the bound that matters.
    let (callers, accepted) = mpsc::channel(1);
    let slots = Arc::new(Semaphore::new(connections));
    let accepting = async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = next().await;
            if callers.send(Ok(Caller { stream, _slot: slot })).await.is_err() {
                return;
            }
        }
    };
    (accepting, accepted)
}

/// Serves until the server ends by itself, or at most `drain` after `stop`: a caller that does not hang up holds nothing up.
/// `accepting` feeds the server; its own end is not the server's.
///
/// # Errors
///
/// When the server fails.
pub async fn serve_until<E>(
    stop: impl Future,
    drain: Duration,
    accepting: impl Future,
    serving: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let drained = async {
        let _asked = stop.await;
        tokio::time::sleep(drain).await;
    };
    let accepting = async {
        let _stopped = accepting.await;
        std::future::pending().await
    };
    // Cancel-safe where it matters: whichever ends first, the process is stopping or the server is broken.
    tokio::select! {
        served = serving => served,
        () = accepting => Ok(()),
        () = drained => Ok(()),
    }
}

/// A caller's connection, and its place among those that are allowed.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Caller {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
