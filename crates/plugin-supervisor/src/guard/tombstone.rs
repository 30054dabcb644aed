//! After the manager's death, when nothing of the plugins lives any more: shows the secret to whoever connects to
//! the port, for a bounded time.
//!
//! The bytes are lost if a connection is closed while the peer's own bytes (its TLS greeting) wait unread, because
//! the kernel then sends a reset. So the writing half is shut first, what the peer sent is read away for an instant,
//! and only then the connection is closed.
#![allow(
    clippy::disallowed_methods,
    reason = "the guard has no runtime: it paces itself between connections"
)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What every tombstone begins with.
pub(crate) const MAGIC: &[u8] = b"ONDUTY-TOMBSTONE/1\n";
/// Connections answered at once. More wait in the kernel's queue until one of these is done.
const AT_ONCE: usize = 32;
/// How long a peer has to take the bytes and close.
const DRAIN: Duration = Duration::from_millis(500);
/// How much of what a peer sends is read away at most.
const DRAIN_BYTES: usize = 64 * 1024;

/// What to show.
pub(super) struct Grave {
    pub(super) epoch: u64,
    pub(super) secret: [u8; 32],
    pub(super) serve: Duration,
    pub(super) listener: Option<OwnedFd>,
}

struct Visitor {
    stream: TcpStream,
    rest: Vec<u8>,
    drained: usize,
    until: Instant,
}

/// Answers until the time is over.
pub(super) fn serve(grave: Grave) -> io::Result<()> {
    let Some(listener) = grave.listener else { return Ok(()) };
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let bytes = [MAGIC, &grave.epoch.to_be_bytes(), &grave.secret].concat();
    let end = Instant::now() + grave.serve;
    let mut visitors: Vec<Visitor> = Vec::new();
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        visitors.retain_mut(|visitor| now < visitor.until && visitor.attend());
        while visitors.len() < AT_ONCE {
            let Ok((stream, _)) = listener.accept() else { break };
            let mut visitor = Visitor { stream, rest: bytes.clone(), drained: 0, until: now + DRAIN };
            if visitor.stream.set_nonblocking(true).is_ok() && visitor.attend() {
                visitors.push(visitor);
            }
        }
        wait(&listener, &visitors, end.min(now + DRAIN))?;
    }
}

fn wait(listener: &TcpListener, visitors: &[Visitor], until: Instant) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = visitors
        .iter()
        .map(|visitor| {
            let writes = if visitor.rest.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            PollFd::new(&visitor.stream, PollFlags::IN | writes)
        })
        .collect();
    if visitors.len() < AT_ONCE {
        fds.push(PollFd::new(listener, PollFlags::IN));
    }
    let timeout =
        Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Visitor {
    /// Writes and reads what goes without waiting; `false` when done with this one.
    fn attend(&mut self) -> bool {
        while !self.rest.is_empty() {
            match self.stream.write(&self.rest) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
            if self.rest.is_empty() && self.stream.shutdown(Shutdown::Write).is_err() {
                return false;
            }
        }
        let mut sink = [0; 4096];
        while self.drained < DRAIN_BYTES {
            match self.stream.read(&mut sink) {
                Ok(0) => return !self.rest.is_empty(),
                Ok(read) => self.drained += read,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}
