//! The supervisor's end of the guard's socket, in the runtime: nothing here ever waits to send, and a renewal of the
//! lease overtakes whatever else could not be sent yet.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use failover_core::{BootTime, Containment};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::guard_process::GuardProcess;
use crate::leftovers::Run;
use crate::wire::{self, Command, Event, Received};

/// Commands that wait for a guard that does not read. A running guard reads at once; one that leaves this many is
/// stopped or stuck, further commands are refused, and the silence check kills it.
const WAITING_COMMANDS: usize = 512;

/// A running guard, spoken to.
pub(crate) struct Link {
    /// Only waited on: packets are sent and received by [`wire`], as the socket's type (`SEQPACKET`) wants it.
    socket: UnixStream,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// The newest renewal that could not be sent.
    renewal: Option<Vec<u8>>,
    buffer: Vec<u8>,
    pub(crate) process: GuardProcess,
}

impl Link {
    /// To be called within the runtime.
    pub(crate) fn new(process: GuardProcess) -> io::Result<Self> {
        let socket = UnixStream::from_std(process.socket.try_clone()?.into())?;
        Ok(Self { socket, waiting: VecDeque::new(), renewal: None, buffer: Vec::new(), process })
    }

    pub(crate) const fn level(&self) -> Containment {
        self.process.level
    }

    pub(crate) const fn run(&self) -> &Run {
        &self.process.run
    }

    /// Renews the lease. Goes out at once unless the guard does not read; then the newest one goes first.
    pub(crate) fn renew(&mut self, epoch: u64, hold_until: BootTime) {
        if let Ok(bytes) = wire::encode(&Command::Lease { epoch, hold_until }) {
            self.renewal = Some(bytes);
            self.flush();
        }
    }

    /// Sends a command in its turn.
    pub(crate) fn send(&mut self, command: &Command, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let bytes = wire::encode(command)?;
        if self.waiting.len() >= WAITING_COMMANDS {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the guard does not take commands"));
        }
        self.waiting.push_back((bytes, descriptors));
        self.flush();
        Ok(())
    }

    /// Sends what waits; `false` when the guard does not take it all.
    fn flush(&mut self) -> bool {
        flush(self.process.socket.as_fd(), &mut self.renewal, &mut self.waiting)
    }

    /// What the guard has said already, without waiting.
    pub(crate) fn take(&mut self) -> Received<Event> {
        wire::receive(&self.process.socket, &mut self.buffer)
    }

    /// The next thing the guard says; sends what waits meanwhile. Cancel-safe: what was taken is returned at once.
    pub(crate) async fn next(&mut self) -> Received<Event> {
        loop {
            let Self { socket, process, buffer, renewal, waiting } = &mut *self;
            let would_block = || io::Error::from(io::ErrorKind::WouldBlock);
            let received =
                socket.try_io(Interest::READABLE, || match wire::receive(&process.socket, buffer) {
                    Received::Nothing => Err(would_block()),
                    received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed) => {
                        Ok(received)
                    }
                });
            if let Ok(received) = received {
                return received;
            }
            let mut interest = Interest::READABLE;
            if !waiting.is_empty() || renewal.is_some() {
                interest |= Interest::WRITABLE;
                // Only to wait for the right thing: what still does not go out is tried again when it can.
                let _ = socket.try_io(Interest::WRITABLE, || {
                    flush(process.socket.as_fd(), renewal, waiting).then_some(()).ok_or_else(would_block)
                });
            }
            if socket.ready(interest).await.is_err() {
                return Received::Closed;
            }
        }
    }

    /// Sends nothing more and gives the process back.
    pub(crate) fn into_process(self) -> GuardProcess {
        self.process
    }
}

/// Sends what waits, the renewal first; `false` when the guard does not take it all.
fn flush(
    socket: BorrowedFd<'_>,
    renewal: &mut Option<Vec<u8>>,
    waiting: &mut VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
) -> bool {
    let blocked = |outcome: io::Result<()>| outcome.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
    if let Some(bytes) = renewal {
        if blocked(wire::send(socket, bytes, &[])) {
            return false;
        }
        *renewal = None;
    }
    while let Some((bytes, descriptors)) = waiting.front() {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        // A broken socket is told by reading it.
        if blocked(wire::send(socket, bytes, &descriptors)) {
            return false;
        }
        waiting.pop_front();
    }
    true
}
