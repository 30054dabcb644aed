//! Passing an open descriptor to another process of the same node, which gRPC cannot do: one byte over a unix socket,
//! the descriptor beside it (`SCM_RIGHTS`), one byte back.
//!
//! ```text
//!   heartbeat ── LEND + the listening socket ──► supervisor ──► guard (shows the tombstone on it)
//!             ◄────────── DONE or REFUSED ──────
//!             ── LINE + one end of a line to the guard (`guard_line`) ──► supervisor ──► guard
//!             ── RELEASE ──► whoever still holds the port of a driver that died lets go of it
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Take this descriptor.
pub const LEND: u8 = b'L';
/// Take this end of a line to the guard.
pub const LINE: u8 = b'W';
/// Let go of the descriptor that an earlier process lent.
pub const RELEASE: u8 = b'R';
/// It was done.
pub const DONE: u8 = b'D';
/// It was not done.
pub const REFUSED: u8 = b'N';

/// The other side answers at once, or not at all.
const ANSWER: Duration = Duration::from_secs(2);

/// Lends a descriptor to whoever listens at `socket`; `false` when it is refused. The own copy stays open.
///
/// # Errors
///
/// When nobody listens there, or nobody answers in time.
pub async fn lend(socket: &Path, descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    ask(socket, LEND, Some(descriptor)).await
}

/// Lends the guard its end of a line; `false` when it is refused.
///
/// # Errors
///
/// When nobody listens there, or nobody answers in time.
pub async fn lend_line(socket: &Path, line: BorrowedFd<'_>) -> io::Result<bool> {
    ask(socket, LINE, Some(line)).await
}

/// Asks whoever listens at `socket` to let go of what an earlier process lent; `false` when it is refused.
///
/// # Errors
///
/// When nobody listens there, or nobody answers in time.
pub async fn release(socket: &Path) -> io::Result<bool> {
    ask(socket, RELEASE, None).await
}

async fn ask(socket: &Path, word: u8, descriptor: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let asking = async {
        let stream = UnixStream::connect(socket).await?;
        send(&stream, word, descriptor).await?;
        receive(&stream).await.map(|(answer, _none)| answer == DONE)
    };
    timeout(ANSWER, asking).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends one word, with a descriptor beside it if there is one.
///
/// # Errors
///
/// When the other side is gone.
pub async fn send(stream: &UnixStream, word: u8, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let passed: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
            if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
                return Err(io::Error::other("no room for the descriptor"));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(&[word])], &mut control, flags)?;
            Ok(())
        })
        .await
}

/// Takes one word, and the descriptor beside it if there is one.
///
/// # Errors
///
/// When the other side is gone, or sends more descriptors than one.
pub async fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut word = [0; 1];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got =
                rustix::net::recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut word)], &mut control, flags)?;
            // Taken out of the buffer also when they are not wanted: what stays in it would stay open.
            let mut passed: Vec<OwnedFd> = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    passed.extend(descriptors);
                }
            }
            match (got.bytes, word, passed.len()) {
                (0, _, _) => Err(io::ErrorKind::UnexpectedEof.into()),
                (_, [word], 0 | 1) => Ok((word, passed.pop())),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than one")),
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;

    use super::*;
    use crate::unix_socket::{Access, Socket};

    #[tokio::test]
    async fn a_descriptor_arrives_open_and_no_child_inherits_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = Socket::bind(&path, Access::Owner).unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, b"lent").unwrap();
        let lent = std::fs::File::open(&file).unwrap();
        let taking = async {
            let stream = socket.accept().await.unwrap();
            let (word, passed) = receive(&stream).await.unwrap();
            assert_eq!(word, LEND);
            let passed = passed.unwrap();
            let flags = rustix::io::fcntl_getfd(&passed).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let mut text = String::new();
            std::fs::File::from(passed).read_to_string(&mut text).unwrap();
            send(&stream, DONE, None).await.unwrap();
            text
        };
        let (done, text) = tokio::join!(lend(&path, lent.as_fd()), taking);
        assert!(done.unwrap());
        assert_eq!(text, "lent");
    }

    #[tokio::test]
    async fn a_refusal_a_hang_up_and_nobody_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(release(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let socket = Socket::bind(&path, Access::Owner).unwrap();
        let refusing = async {
            let stream = socket.accept().await.unwrap();
            assert!(matches!(receive(&stream).await.unwrap(), (RELEASE, None)));
            send(&stream, REFUSED, None).await.unwrap();
        };
        let (done, ()) = tokio::join!(release(&path), refusing);
        assert!(!done.unwrap());
        let hanging_up = async { drop(socket.accept().await.unwrap()) };
        let (gone, ()) = tokio::join!(release(&path), hanging_up);
        assert!(gone.is_err());
    }
}
