//! What supervisor and guard tell each other, and how it travels: one message per packet of a `SOCK_SEQPACKET`
//! socket pair, as JSON of a bounded length, with descriptors beside it (`SCM_RIGHTS`).
//!
//! ```text
//!   supervisor ── Command (Lease, Start + 2 fds, Signal, EndAll, Bury + 1 fd, …) ──► guard
//!   supervisor ◄── Event (Ready, Held, Started + pidfd, Exited, Fired, Empty, …) ─────── guard
//! ```
//!
//! Both ends are non-blocking and close-on-exec. The end of the stream is the death of the other side: nobody else
//! holds a copy.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message. A command line with its environment is the largest thing that travels; longer ones are
/// refused by the sender, and a receiver that sees one drops it and says so.
pub(crate) const LONGEST_MESSAGE: usize = 128 * 1024;
/// The most descriptors beside one message: standard output and standard error of a plugin.
const MOST_DESCRIPTORS: usize = 2;

/// Names one process started by the guard; never used twice in the life of a supervisor.
pub(crate) type JobId = u64;

/// What the guard is to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory.
    pub(crate) dir: Option<PathBuf>,
    /// Name or number of the user to become.
    pub(crate) user: Option<String>,
    /// Name or number of the group to become; the user's own one unless given.
    pub(crate) group: Option<String>,
}

/// What the supervisor asks of the guard.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// First message: how the guard contains what it starts. Beside it: the timer of the lease.
    Configure {
        /// The folder of the cgroup every job enters.
        cgroup: Option<PathBuf>,
    },
    /// The duty lease: end everything once its timer is over, which is set before this is sent.
    Lease {
        /// Of which epoch.
        epoch: u64,
    },
    /// Start a process. Beside it: standard output and standard error, or nothing (then `/dev/null`).
    Start {
        /// Its name from now on.
        job: JobId,
        /// The epoch whose lease must be in force; `None` for a check that needs no lease.
        epoch: Option<u64>,
        /// What.
        spec: Box<Spec>,
    },
    /// Send a signal to the process group of a job.
    Signal {
        /// Which.
        job: JobId,
        /// The number of the signal.
        signal: i32,
    },
    /// Answer [`Event::Here`].
    Ask,
    /// Kill everything that lives, take the lease back: answered by [`Event::Ending`] at once, and by [`Event::Empty`].
    EndAll {
        /// Comes back in the answer.
        token: u64,
    },
    /// Keep this secret. Beside it, if there is one: a duplicate of the listening socket.
    Bury {
        /// The epoch it will prove the end of.
        epoch: u64,
        /// The secret.
        secret: [u8; 32],
        /// How long to answer at most.
        serve: Duration,
    },
    /// Forget the secret and close the listener: the one who lent it has ended.
    Unbury,
    /// Beside it: the guard's end of a line to the driver's process, which replaces the one before.
    Line,
    /// A planned end: kill everything and go, without a tombstone.
    Leave,
}

/// What the guard tells the supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// From the intermediate process of a namespace: the guard's process id as the supervisor sees it.
    Entered {
        /// That id.
        pid: i32,
    },
    /// The guard cannot work at this level of containment.
    CannotContain {
        /// Why.
        why: String,
    },
    /// The guard waits for orders.
    Ready,
    /// The answer to [`Command::Ask`].
    Here,
    /// A lease is in force: the answer to [`Command::Lease`].
    Held {
        /// Of which epoch.
        epoch: u64,
    },
    /// The program of this job runs. Beside it: its pidfd, when one could be had.
    Started {
        /// Which.
        job: JobId,
        /// Its process id as the guard sees it.
        pid: i32,
    },
    /// The program of this job could not be started; nothing of the job lives.
    StartFailed {
        /// Which.
        job: JobId,
        /// Why.
        why: String,
    },
    /// The main process of a job has ended and what was left of its process group was killed.
    Exited {
        /// Which.
        job: JobId,
        /// How.
        end: End,
    },
    /// The lease ran out: everything is being killed.
    Fired {
        /// Of which epoch.
        epoch: u64,
    },
    /// Everything is being killed: the first answer to [`Command::EndAll`].
    Ending {
        /// Of the command.
        token: u64,
    },
    /// Nothing lives: the second.
    Empty {
        /// Of the [`Command::EndAll`] that asked.
        token: u64,
    },
    /// What still lives although it was killed; sent about once a second while ending everything takes long.
    Surviving {
        /// Process ids and names.
        what: String,
    },
    /// The secret is kept, with a listener or without.
    Buried {
        /// Of which epoch.
        epoch: u64,
    },
    /// A message made no sense or came too late, and was dropped.
    Refused {
        /// Which and why.
        why: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(
                f,
                "was ended by signal {signal} ({})",
                nix::sys::signal::Signal::try_from(*signal)
                    .map_or("of real time", nix::sys::signal::Signal::as_str)
            ),
        }
    }
}

/// Both ends of a fresh socket pair.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    for end in [&ours, &theirs] {
        // Best effort: the default of most kernels already holds one longest message.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(end, LONGEST_MESSAGE * 4);
    }
    Ok((ours, theirs))
}

/// A message as it goes on the wire.
pub(crate) fn encode<M: Serialize>(message: &M) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    if bytes.len() > LONGEST_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the message has {} bytes, the limit is {LONGEST_MESSAGE}", bytes.len()),
        ));
    }
    Ok(bytes)
}

/// Sends one packet without waiting; [`io::ErrorKind::WouldBlock`] when the other side does not read.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            // The kernel has no room at the moment: later, as when the other side does not read.
            Err(Errno::NOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// One packet, or why there is none.
pub(crate) enum Received<M> {
    /// A message with its descriptors.
    Message(M, Vec<OwnedFd>),
    /// Something that is not a message; it was dropped whole.
    Garbage(String),
    /// Nothing is waiting.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Takes one packet without waiting.
pub(crate) fn receive<M: DeserializeOwned>(socket: impl AsFd, buffer: &mut Vec<u8>) -> Received<M> {
    buffer.resize(LONGEST_MESSAGE, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Received::Nothing,
            Err(_) => return Received::Closed,
            Ok(got) => break got,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Received::Garbage(format!("a message of more than {LONGEST_MESSAGE} bytes"));
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Received::Garbage("more descriptors than a message may carry".to_owned());
    }
    if got.bytes == 0 {
        return Received::Closed;
    }
    let bytes = buffer.get(..got.bytes).unwrap_or_default();
    match serde_json::from_slice(bytes) {
        Ok(message) => Received::Message(message, descriptors),
        Err(error) => {
            Received::Garbage(format!("a message of {} bytes that cannot be read: {error}", bytes.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let bytes = encode(&Event::Fired { epoch: 7 }).unwrap();
        send(ours.as_fd(), &bytes, &[ours.as_fd()]).unwrap();
        match receive::<Event>(&theirs, &mut Vec::new()) {
            Received::Message(Event::Fired { epoch: 7 }, passed) => {
                let flags = rustix::io::fcntl_getfd(&passed[0]).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no plugin may inherit it");
            }
            _ => panic!("not the message that was sent"),
        }
        assert!(matches!(receive::<Event>(&theirs, &mut Vec::new()), Received::Nothing));
        drop(ours);
        assert!(matches!(receive::<Event>(&theirs, &mut Vec::new()), Received::Closed));
    }

    #[test]
    fn garbage_and_oversized_messages_are_dropped_one_by_one() {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), b"\xff\x00{", &[]).unwrap();
        send(ours.as_fd(), &vec![b' '; LONGEST_MESSAGE + 1], &[]).unwrap();
        send(ours.as_fd(), &encode(&Event::Ready).unwrap(), &[]).unwrap();
        let mut buffer = Vec::new();
        assert!(matches!(receive::<Event>(&theirs, &mut buffer), Received::Garbage(_)));
        assert!(
            matches!(receive::<Event>(&theirs, &mut buffer), Received::Garbage(why) if why.contains("131072"))
        );
        assert!(matches!(receive::<Event>(&theirs, &mut buffer), Received::Message(Event::Ready, _)));
        let long = Event::Refused { why: "x".repeat(LONGEST_MESSAGE) };
        assert_eq!(encode(&long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
