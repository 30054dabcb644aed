//! The second socket: takes the driver's listening socket and its line to the guard, and lets go of what a dead driver lent.

use std::io;
use std::time::Duration;

use service_kit::descriptor::{DONE, LEND, LINE, REFUSED, RELEASE, receive, send};
use service_kit::unix_socket::Socket;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::hub::Message;

/// A caller says its word at once; one at a time is served.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves one caller after the other.
pub(super) async fn serve(socket: Socket, hub: mpsc::Sender<Message>) {
    loop {
        let stream = socket.accept_allowed("the listener's socket").await;
        match timeout(PATIENCE, attend(&stream, &hub)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a caller of the listener's socket"),
            Err(_elapsed) => tracing::warn!("a caller of the listener's socket said nothing"),
        }
    }
}

async fn attend(stream: &UnixStream, hub: &mpsc::Sender<Message>) -> io::Result<()> {
    let pid = stream.peer_cred()?.pid();
    let (done, answer) = oneshot::channel();
    let message = match receive(stream).await? {
        (LEND, Some(listener)) => Message::Lend { pid, listener, done },
        (LINE, Some(line)) => Message::Line { pid, line, done },
        (RELEASE, None) => Message::Release { done },
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a word that makes no sense")),
    };
    // A hub that has ended refuses.
    let _ = hub.send(message).await;
    let word = if answer.await.unwrap_or(false) { DONE } else { REFUSED };
    send(stream, word, None).await
}
