//! The driver: the one task per node that owns the failover machine.
//!
//! ```text
//!   link ──tell──► [queue, polled first] ┐                       ┌─► supervisor   orders (watch), secrets
//!   supervisor ──► [reports]             ├─► driver ─► Machine ──┼─► link         Outgoing (watch): report, announce
//!   storage ─────► [feedback]            │    ▲          │       ├─► operators    View (watch)
//!   operators ───► [queue]               ┘    └ deadline ┘       ├─► recorder     events (never waited for)
//!                                                                └─► storage      epochs, memory (own thread)
//! ```
//!
//! Where the supervisor runs in a process of its own, [`Follower`] stands in its place.
//!
//! The machine decides, the driver only does: wait for a message or the next deadline, feed the machine, publish
//! what changed, carry the effects out in order. Nothing in that loop waits for a disk, the journal or a person.
//!
//! Contract: [`build`] reads what the node remembers and returns the service and its handles; [`Duty::run`] is called
//! once, and ends when the machine says [`Effect::Finish`](failover_core::Effect::Finish), when a stop takes longer
//! than its bound, or when the supervisor is gone.

mod driver;
mod epoch_file;
mod follow;
mod handles;
mod memory_file;
mod recorder;
mod service;
pub mod simulation;
mod stall;
pub mod stand_in;
mod storage;
#[cfg(test)]
mod tests;

pub use driver::{Duty, RunEnd};
pub use follow::{FollowOptions, Follower, NothingLives};
pub use handles::{DriverGone, DutyHandles, LinkHandle, OperatorHandle, Outgoing, Own, SessionTicket};
pub use recorder::Recorder;
pub use service::{BuildError, Options, build};
