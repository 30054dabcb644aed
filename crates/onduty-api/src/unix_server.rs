//! Connections of a unix socket for a gRPC server, bounded in number. Who may connect was asked before, by whoever accepts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
