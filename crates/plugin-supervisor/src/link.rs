//! The supervisor's end of the guard's socket, in the runtime: nothing here ever waits to send, and a lease overtakes
//! whatever else could not be sent yet. Of a lease that goes on the guard learns from the memory of the lease.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use failover_core::{BootTime, Containment};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::guard_process::GuardProcess;
use crate::leftovers::Run;
use crate::wire::{self, Command, Event, Received};

/// Commands that wait for a guard that does not read. A running guard reads at once; one that leaves this many is
/// stopped or stuck, further commands are refused, and the silence check kills it.
const WAITING_COMMANDS: usize = 512;

/// When sending is tried again. The socket is not watched for room: each packet that a guard takes makes room, and
/// would wake this task for nothing.
const AGAIN: Duration = Duration::from_millis(5);

/// A running guard, spoken to.
pub(crate) struct Link {
    /// Only waited on: packets are sent and received by [`wire`], as the socket's type (`SEQPACKET`) wants it.
    socket: AsyncFd<OwnedFd>,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// The newest lease that could not be sent.
    lease: Option<Vec<u8>>,
    /// The lease that the guard was last told of by message or memory.
    told: Option<(u64, BootTime)>,
    buffer: Vec<u8>,
    pub(crate) process: GuardProcess,
}

impl Link {
    /// To be called within the runtime.
    pub(crate) fn new(process: GuardProcess) -> io::Result<Self> {
        // Deprecated for types whose descriptor can change while it is registered; an `OwnedFd` that nobody else gets
        // hold of cannot. Its successor is `unsafe`, which this workspace forbids.
        #[expect(deprecated, reason = "sound for an OwnedFd")]
        let socket = AsyncFd::with_interest(process.socket.try_clone()?, Interest::READABLE)?;
        Ok(Self { socket, waiting: VecDeque::new(), lease: None, told: None, buffer: Vec::new(), process })
    }

    pub(crate) const fn level(&self) -> Containment {
        self.process.level
    }

    pub(crate) const fn run(&self) -> &Run {
        &self.process.run
    }

    /// Begins or renews the lease; the guard is woken only for what it cannot find out in time by itself.
    pub(crate) fn renew(&mut self, epoch: u64, hold_until: BootTime) {
        match self.told {
            Some((of, until)) if of == epoch && until <= hold_until => {
                self.process.lease.write(epoch, hold_until);
                self.told = Some((epoch, hold_until));
            }
            Some(_) | None => self.begin_lease(epoch, hold_until),
        }
    }

    /// Tells the guard of a lease by message, which it answers. Goes out at once unless the guard does not read; then
    /// the newest one goes first.
    pub(crate) fn begin_lease(&mut self, epoch: u64, hold_until: BootTime) {
        self.process.lease.begin(epoch, hold_until);
        self.told = Some((epoch, hold_until));
        if let Ok(bytes) = wire::encode(&Command::Lease { epoch, hold_until }) {
            self.lease = Some(bytes);
            self.flush();
        }
    }

    /// Until when the guard has last seen the lease of this epoch to hold.
    pub(crate) fn held(&self, epoch: u64) -> Option<BootTime> {
        self.process.lease.read(epoch)
    }

    /// Sends a command in its turn.
    pub(crate) fn send(&mut self, command: &Command, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        if matches!(command, Command::EndAll { .. } | Command::Leave) {
            // It takes the lease back; the next one begins anew, whatever its epoch.
            (self.told, self.lease) = (None, None);
        }
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
        flush(self.process.socket.as_fd(), &mut self.lease, &mut self.waiting)
    }

    /// What the guard has said already, without waiting.
    pub(crate) fn take(&mut self) -> Received<Event> {
        wire::receive(&self.process.socket, &mut self.buffer)
    }

    /// The next thing the guard says; sends what waits meanwhile. Cancel-safe: what was taken is returned at once.
    pub(crate) async fn next(&mut self) -> Received<Event> {
        loop {
            let blocked = !self.flush();
            let received = {
                let Self { socket, process, buffer, .. } = &mut *self;
                let readable = async {
                    let mut ready = socket.readable().await?;
                    let received = wire::receive(&process.socket, buffer);
                    if matches!(received, Received::Nothing) {
                        ready.clear_ready();
                    }
                    Ok::<_, io::Error>(received)
                };
                tokio::select! {
                    biased;
                    received = readable => received,
                    () = tokio::time::sleep(AGAIN), if blocked => Ok(Received::Nothing),
                }
            };
            match received {
                Ok(Received::Nothing) => {}
                Ok(received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed)) => {
                    return received;
                }
                Err(_no_reactor) => return Received::Closed,
            }
        }
    }

    /// Sends nothing more and gives the process back.
    pub(crate) fn into_process(self) -> GuardProcess {
        self.process
    }
}

/// Sends what waits, the lease first; `false` when the guard does not take it all.
fn flush(
    socket: BorrowedFd<'_>,
    lease: &mut Option<Vec<u8>>,
    waiting: &mut VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
) -> bool {
    let blocked = |outcome: io::Result<()>| outcome.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
    if let Some(bytes) = lease {
        if blocked(wire::send(socket, bytes, &[])) {
            return false;
        }
        *lease = None;
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
