//! A unix socket that wakes its owner for what comes, and for room only when there was none.
//!
//! A unix socket reports room each time the other end has read. A runtime that watches every socket for both is woken once more
//! for each message that it sends, for nothing; between services that speak a few times a second that is half of all wake-ups.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// The socket.
pub(crate) struct QuietStream {
    stream: AsyncFd<UnixStream>,
    /// Watched for room, while there is none.
    room: Option<AsyncFd<OwnedFd>>,
}

impl QuietStream {
    /// Of a connected socket that does not block. Must be called inside a runtime.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { stream: watch(stream, Interest::READABLE)?, room: None })
    }
}

fn watch<T: AsFd + std::os::fd::AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // Deprecated for types whose descriptor can change while it is registered; those of this file cannot. Its successor is
    // `unsafe`, which this workspace forbids.
    #[expect(deprecated, reason = "sound for sockets that nobody else gets hold of")]
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for QuietStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.stream.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            if let Ok(read) = ready.try_io(|stream| stream.get_ref().read(unfilled)) {
                return Poll::Ready(read.map(|count| buffer.advance(count)));
            }
        }
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, room } = self.get_mut();
        loop {
            match stream.get_ref().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => {
                    *room = None;
                    return Poll::Ready(written);
                }
            }
            let room = match room {
                Some(room) => room,
                None => {
                    let again = stream.as_fd().try_clone_to_owned()?;
                    room.insert(watch(again, Interest::WRITABLE)?)
                }
            };
            ready!(room.poll_write_ready(cx))?.clear_ready();
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (QuietStream, QuietStream) {
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        (QuietStream::new(one).unwrap(), QuietStream::new(other).unwrap())
    }

    #[tokio::test]
    async fn more_than_the_kernel_takes_at_once_arrives_whole_and_in_order() {
        let (mut writer, mut reader) = pair();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[3] ^ n.to_be_bytes()[2]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        // Until nothing goes in any more.
        tokio::task::yield_now().await;
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.unwrap();
        assert!(heard == expected, "{} bytes", heard.len());
        assert!(writing.await.unwrap().room.is_none(), "it is not watched for room any more");
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_seen_by_either_half() {
        let (mut writer, reader) = pair();
        drop(reader);
        assert_eq!(writer.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(writer.write(b"too late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_writer_that_waits_for_room_hears_that_the_other_side_has_gone() {
        let (mut writer, reader) = pair();
        let writing = tokio::spawn(async move { writer.write_all(&vec![0; 3_000_000]).await });
        tokio::task::yield_now().await;
        drop(reader);
        assert!(writing.await.unwrap().is_err());
    }
}
