//! The durable, hash-chained journal of events: one writer per node, behind a bounded queue, never waited for.
//!
//! ```text
//!   record() ─► number, chain ─► ring (newest, in memory) ──► list(), subscribe(), log
//!                     └────────► queue (bounded) ──► writer thread ──► SQLite (WAL, synchronous = FULL)
//!                                     ▲                    │
//!                                     └─ kept while the disk is full, read-only or stalls ─ Health::Degraded
//! ```
//!
//! Recording takes a short lock and a hash, never the disk. What the disk does not take stays in the queue and is
//! written when it recovers; when the queue is full, events are still shown and logged, but not journalled
//! (number 0), and the journal says how many. A damaged file is kept aside and a new one begun, which goes on with the
//! numbers: whoever has seen number 6000 asks for what came after it, and one number never means two events.
//!
//! The newest 50 000 events are kept (about 25 MB). The number and link of the last trimmed one stay in the file, so
//! that `verify` can tell what was trimmed from what was cut out.

mod chain;
mod handle;
mod state;
mod store;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use failover_core::Event;
use thiserror::Error;

pub use handle::{JournalHandle, ListError, MOST_LISTED};
pub use verify::{Verified, VerifyError, verify};
pub use writer::JournalThread;

/// The wall clock, in milliseconds of the Unix clock: a closure, so that simulation can replace it.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the journal needs.
#[derive(Clone)]
pub struct Options {
    /// The database file; its folder must exist or be makeable.
    pub path: PathBuf,
    /// The name of the node whose journal this is.
    pub node: String,
    /// The wall clock.
    pub clock: WallClock,
}

/// One event with its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up by one. 0: not journalled.
    pub number: u64,
    /// When, in milliseconds of the Unix clock.
    pub unix_ms: u64,
    /// Whose journal.
    pub node: String,
    /// What.
    pub event: Event,
    /// Chains this entry to the one before; zeros when not journalled.
    pub chain: [u8; 32],
}

/// How the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything recorded is on the disk, or will be within a second.
    Ok,
    /// The disk does not take events.
    Degraded {
        /// Why, for people.
        why: String,
        /// How many events will never be in the journal.
        lost: u64,
    },
}

/// Why the journal could not begin. The disk is no reason: then it begins degraded.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system gave no thread.
    #[error("the journal's writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The journal of a node.
pub struct Journal;

impl Journal {
    /// Opens the file (or keeps a damaged one aside and begins anew) and starts the writer.
    ///
    /// # Errors
    ///
    /// Only when no thread can be started. A disk that does not work makes the journal [`Health::Degraded`].
    pub fn open(options: Options) -> Result<(JournalHandle, JournalThread), OpenError> {
        writer::open(options, state::Bounds::default())
    }
}
