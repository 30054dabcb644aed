//! What the fuzz targets do to their bytes, where plain tests can do it too.
//!
//! ```text
//!   fuzz/fuzz_targets/NAME.rs ── cargo-fuzz, any bytes, for hours ──┐
//!                                                                  ├──► fuzzing::NAME(bytes) ──► the product's decoder
//!   tests/replay.rs ── fuzz/corpus/NAME, and mutations of it ───────┘         │
//!                                                                            └ panics when a promise is broken
//! ```
//!
//! Each function takes any bytes and checks more than that nothing panics: what is accepted means the same after another
//! trip, keeps the bounds that its reader relies on, and nothing that strangers made up ever proves anything. A check is
//! about the product's promises, never about how it keeps them.
//!
//! Beside the house as the other tests: the main workspace needs neither cargo-fuzz nor a nightly compiler for it.

mod certificates;
mod conversation;
mod handshake;
mod heartbeat;
mod mutation;
mod settings;
mod tombstone;

pub use certificates::certificates;
pub use handshake::handshake;
pub use heartbeat::heartbeat;
pub use mutation::{Dice, mutated};
pub use settings::{SECRET, settings};
pub use tombstone::tombstone;

/// One target: what it is called, and what it does to its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, each with a file of its name in `fuzz/fuzz_targets` and a folder of its name in `fuzz/corpus`.
pub const TARGETS: [Target; 5] = [
    ("handshake", handshake),
    ("heartbeat", heartbeat),
    ("tombstone", tombstone),
    ("certificates", certificates),
    ("settings", settings),
];
