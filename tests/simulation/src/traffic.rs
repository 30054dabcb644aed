//! What goes in and out at the sockets of a life, in its order: finer than what the nodes say of themselves. Two lives that
//! differ do so here first, and most of them never say anything else than the other.

use std::fmt;
use std::time::Duration;

use crate::world::{NAMES, Shared, now};

/// One thing that a process did with a socket. How many bytes it was is left out: signatures are not all equally long, and the
/// headers carry the real date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    at: Duration,
    node: usize,
    cable: usize,
    what: What,
}

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It began to connect.
    Dials,
    /// It is connected, or was refused.
    Dialled(bool),
    /// It accepted a connection.
    Accepts,
    /// It read something, or the end.
    Reads(Outcome),
    /// It wrote something.
    Writes(Outcome),
    /// It ended its direction.
    Ends(Outcome),
}

/// How that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Some,
    /// There was nothing (more).
    Nothing,
    /// The connection is broken.
    Broken,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, node, cable) = (self.at, NAMES[self.node], self.cable + 1);
        write!(f, "{:>5}.{:03} {node:<5} cable {cable}: {:?}", at.as_secs(), at.subsec_millis(), self.what)
    }
}

/// Keeps what a process did now.
pub(crate) fn passed(shared: &Shared, node: usize, cable: usize, what: What) {
    let traffic = Traffic { at: now(), node, cable, what };
    shared.lock().traffic.push(traffic);
}
