//! Shows the tombstone of a driver that died, from the living supervisor; the bytes and the manner are those of the guard
//! (`guard/tombstone.rs`), whose parent this process is.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use service_kit::ports::TombstoneSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::guard::MAGIC;

/// Connections answered at once. More wait in the kernel's queue until one of these is done.
const AT_ONCE: usize = 32;
/// How long a peer has to take the bytes and close.
const DRAIN: Duration = Duration::from_millis(500);
/// How much of what a peer sends is read away at most.
const DRAIN_BYTES: u64 = 64 * 1024;

/// Answers whoever connects, for this long. Ends early when the socket is of no use.
pub(super) async fn show(listener: OwnedFd, secret: TombstoneSecret, span: Duration) {
    let answering = async {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let bytes: Arc<[u8]> =
            [MAGIC, &secret.epoch.0.to_be_bytes(), secret.secret.as_slice()].concat().into();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
            let (stream, _) = listener.accept().await?;
            let bytes = Arc::clone(&bytes);
            let _detached = tokio::spawn(async move {
                // A visitor that breaks off asks again.
                let _ = timeout(DRAIN, attend(stream, &bytes)).await;
                drop(slot);
            });
        }
    };
    let ended: Result<std::io::Result<()>, _> = timeout(span, answering).await;
    if let Ok(Err(error)) = ended {
        tracing::warn!(%error, "showing the tombstone");
    }
}

/// The writing half is shut first and what the peer sent is read away, or the kernel would answer with a reset that
/// swallows the bytes.
async fn attend(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(DRAIN_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
