//! The line between the driver's process and the guard, past a supervisor that may stand still: three words, nine bytes each,
//! over a pair of sockets (`SOCK_SEQPACKET`) of which the driver keeps one end and lends the other to the guard.
//!
//! ```text
//!   driver ── End(epoch) ──► guard    kill whatever lives; never again a lease for this epoch or an older one
//!          ◄── Gone(epoch) ──         it is over for good, and nothing that this guard has started lives
//!          ◄── Empty ────────         nothing lives now; the supervisor says what that means, unless it stands still
//! ```
//!
//! The guard says `Gone` also when a lease has run out, and when its supervisor is dead. Nothing is ever read out of a line that ends: whoever is silent,
//! for whatever reason, has said nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use failover_core::Epoch;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

const END: u8 = b'E';
const GONE: u8 = b'G';
const EMPTY: u8 = b'N';
/// A word and an epoch.
const LENGTH: usize = 9;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// To the guard: this epoch and all before it are over.
    End(Epoch),
    /// From the guard: they are, and nothing lives.
    Gone(Epoch),
    /// From the guard: what its supervisor has asked it to end has ended. Nothing lives, for now.
    Empty,
}

/// What comes out of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A word.
    Word(Word),
    /// Something else; it was dropped.
    Garbage,
    /// Nothing now.
    Nothing,
    /// The other end is closed.
    Closed,
}

/// Says a word without waiting.
///
/// # Errors
///
/// When the other end is closed or does not read.
pub fn say(line: impl AsFd, word: Word) -> io::Result<()> {
    let (letter, epoch) = match word {
        Word::End(epoch) => (END, epoch),
        Word::Gone(epoch) => (GONE, epoch),
        Word::Empty => (EMPTY, Epoch(0)),
    };
    let mut bytes = [letter; LENGTH];
    bytes[1..].copy_from_slice(&epoch.0.to_be_bytes());
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(line, &[IoSlice::new(&bytes)], &mut SendAncillaryBuffer::default(), flags)?;
    Ok(())
}

/// Takes the next word without waiting.
pub fn hear(line: impl AsFd) -> Heard {
    // One byte more than a word has: what is longer is no word.
    let mut bytes = [0; LENGTH + 1];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    // No descriptor is expected: without room for one, the kernel closes what is sent.
    let mut space: [MaybeUninit<u8>; 0] = [];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    match rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(got) if got.bytes == 0 => Heard::Closed,
        Ok(got) => bytes.get(..got.bytes).and_then(word).map_or(Heard::Garbage, Heard::Word),
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        Err(_) => Heard::Closed,
    }
}

fn word(bytes: &[u8]) -> Option<Word> {
    let [letter, epoch @ ..] = bytes else { return None };
    let epoch = Epoch(u64::from_be_bytes(epoch.try_into().ok()?));
    match *letter {
        END => Some(Word::End(epoch)),
        GONE => Some(Word::Gone(epoch)),
        EMPTY => Some(Word::Empty),
        _ => None,
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct DriverEnd(UnixStream);

/// A line: the driver's end, and the one to lend to the guard. To be called inside a runtime.
///
/// # Errors
///
/// When the system has no sockets left.
pub fn line() -> io::Result<(DriverEnd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // Only waited on: words are sent and taken as the socket's type wants it.
    Ok((DriverEnd(UnixStream::from_std(ours.into())?), theirs))
}

impl DriverEnd {
    /// Asks the guard to end this epoch and all before it. A guard that does not read is not waited for.
    pub fn end(&self, epoch: Epoch) {
        if let Err(error) = say(&self.0, Word::End(epoch)) {
            tracing::debug!(%error, "speaking to the guard");
        }
    }

    /// What the guard says next: the epoch that is gone, or `None` where nothing lives for now. Never returns when the line is
    /// closed. Cancel-safe.
    pub async fn word(&self) -> Option<Epoch> {
        loop {
            let heard = self.0.async_io(Interest::READABLE, || match hear(&self.0) {
                Heard::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                heard @ (Heard::Word(_) | Heard::Garbage | Heard::Closed) => Ok(heard),
            });
            match heard.await {
                Ok(Heard::Word(Word::Gone(epoch))) => return Some(epoch),
                Ok(Heard::Word(Word::Empty)) => return None,
                Ok(Heard::Word(Word::End(_)) | Heard::Garbage | Heard::Nothing) => {
                    tracing::warn!("the guard's line says what makes no sense");
                }
                Ok(Heard::Closed) | Err(_) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn words_arrive_whole_and_what_is_none_is_dropped() {
        let (ours, theirs) = line().unwrap();
        assert_eq!(hear(&theirs), Heard::Nothing);
        ours.end(Epoch(7));
        assert_eq!(hear(&theirs), Heard::Word(Word::End(Epoch(7))));
        rustix::net::send(&theirs, b"G", SendFlags::empty()).unwrap();
        rustix::net::send(&theirs, b"Gxxxxxxxxx", SendFlags::empty()).unwrap();
        rustix::net::send(&theirs, b"?12345678", SendFlags::empty()).unwrap();
        say(&theirs, Word::End(Epoch(1))).unwrap();
        say(&theirs, Word::Gone(Epoch(u64::MAX))).unwrap();
        say(&theirs, Word::Empty).unwrap();
        assert_eq!(ours.word().await, Some(Epoch(u64::MAX)));
        assert_eq!(ours.word().await, None);
    }

    #[tokio::test]
    async fn a_line_that_ends_says_nothing() {
        let (ours, theirs) = line().unwrap();
        let flags = rustix::io::fcntl_getfd(&theirs).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no plugin may inherit it");
        drop(theirs);
        ours.end(Epoch(7));
        let said = tokio::time::timeout(std::time::Duration::from_millis(1), ours.word()).await;
        assert!(said.is_err(), "a closed line is no word");
        let (ours, theirs) = line().unwrap();
        drop(ours);
        assert_eq!(hear(&theirs), Heard::Closed);
        assert!(say(&theirs, Word::Gone(Epoch(1))).is_err());
    }
}
