//! The supervisor's end of the guard's socket, in the runtime: nothing here ever waits to send, and a lease overtakes
//! whatever else could not be sent yet. Of a lease that goes on the guard learns nothing: its timer is set anew.

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

/// What comes from the guard's side.
pub(crate) enum Sign {
    /// From its socket.
    Said(Received<Event>),
    /// The lease is over: the guard has been woken to act.
    LeaseOver,
}

/// A running guard, spoken to.
pub(crate) struct Link {
    /// Only waited on: packets are sent and received by [`wire`], as the socket's type (`SEQPACKET`) wants it.
    socket: AsyncFd<OwnedFd>,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// The newest lease that could not be sent.
    lease: Option<Vec<u8>>,
    /// The lease as it was set last.
    told: Option<(u64, BootTime)>,
    /// Only waited on: becomes ready when the lease is over.
    lease_over: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    pub(crate) process: GuardProcess,
}

impl Link {
    /// To be called within the runtime.
    pub(crate) fn new(process: GuardProcess) -> io::Result<Self> {
        // Deprecated for types whose descriptor can change while it is registered; an `OwnedFd` that nobody else gets
        // hold of cannot. Its successor is `unsafe`, which this workspace forbids.
        #[expect(deprecated, reason = "sound for an OwnedFd")]
        let watch = |descriptor| AsyncFd::with_interest(descriptor, Interest::READABLE);
        let socket = watch(process.socket.try_clone()?)?;
        let lease_over = watch(process.lease.share()?)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            lease: None,
            told: None,
            lease_over,
            buffer: Vec::new(),
            process,
        })
    }

    pub(crate) const fn level(&self) -> Containment {
        self.process.level
    }

    pub(crate) const fn run(&self) -> &Run {
        &self.process.run
    }

    /// Begins or renews the lease. Only the beginning is a message, which the guard answers: `true`.
    pub(crate) fn renew(&mut self, epoch: u64, hold_until: BootTime) -> io::Result<bool> {
        self.process.lease.set(hold_until)?;
        let before = self.told.replace((epoch, hold_until));
        let begins = before.is_none_or(|(of, _)| of != epoch);
        if begins {
            self.tell_lease(epoch);
        }
        Ok(begins)
    }

    /// Tells the guard of the lease by message, which it answers. Goes out at once unless the guard does not read; then
    /// it goes before everything else.
    pub(crate) fn tell_lease(&mut self, epoch: u64) {
        if let Ok(bytes) = wire::encode(&Command::Lease { epoch }) {
            self.lease = Some(bytes);
            self.flush();
        }
    }

    /// Whether the lease is over.
    pub(crate) fn lease_is_over(&self) -> bool {
        self.process.lease.is_over()
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

    /// The next thing the guard says, or the end of the lease; sends what waits meanwhile. Cancel-safe: what was taken is
    /// returned at once.
    pub(crate) async fn next(&mut self) -> Sign {
        loop {
            let blocked = !self.flush();
            let received = {
                let Self { socket, process, buffer, lease_over, .. } = &mut *self;
                let readable = async {
                    let mut ready = socket.readable().await?;
                    let received = wire::receive(&process.socket, buffer);
                    if matches!(received, Received::Nothing) {
                        ready.clear_ready();
                    }
                    Ok::<_, io::Error>(received)
                };
                let over = async {
                    // Not read: whether it is over is asked of the timer, by either end.
                    lease_over.readable().await.map(|mut ready| ready.clear_ready())
                };
                tokio::select! {
                    biased;
                    received = readable => received,
                    Ok(()) = over => return Sign::LeaseOver,
                    () = tokio::time::sleep(AGAIN), if blocked => Ok(Received::Nothing),
                }
            };
            match received {
                Ok(Received::Nothing) => {}
                Ok(received @ (Received::Message(..) | Received::Garbage(_) | Received::Closed)) => {
                    return Sign::Said(received);
                }
                Err(_no_reactor) => return Sign::Said(Received::Closed),
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
