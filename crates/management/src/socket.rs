//! Who may call on the unix socket: the kernel's word for it, and a bound on how many.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use service_kit::unix_socket::{Socket, check_caller};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Operators and their tools at the same time. When full the next one waits in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long accepting rests after an error of the system (out of file descriptors), so that it does not spin.
const REST: Duration = Duration::from_millis(100);

/// Accepts until `stop`; callers that are neither this user nor root are turned away.
pub(crate) fn accept(
    listener: Socket,
    stop: CancellationToken,
) -> (impl Future<Output = ()>, mpsc::Receiver<io::Result<Caller>>) {
    // One at a time: the server takes it at once, and `CONNECTIONS` is the bound that matters.
    let (callers, accepted) = mpsc::channel(1);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            // Cancel-safe: nothing is lost when the stop comes first.
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match stream {
                Ok(stream) => match check_caller(&stream) {
                    Ok(()) => {
                        if callers.send(Ok(Caller { stream, _slot: slot })).await.is_err() {
                            return;
                        }
                    }
                    Err(who) => tracing::warn!(who, "turned a caller of the operators' socket away"),
                },
                Err(error) => {
                    tracing::warn!(%error, "accepting on the operators' socket");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    };
    (accepting, accepted)
}

/// An allowed caller's connection.
#[derive(Debug)]
pub(crate) struct Caller {
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
