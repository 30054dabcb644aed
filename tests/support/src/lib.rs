//! What tests of real nodes share.
//!
//! ```text
//!   tests/processes ─┐                    ┌─ node    one `onduty up` process: settings, signals, log, clean-up
//!   tests/netns      ├──►  test_support ──┼─ pair    two of them with one key, and the stories' common steps
//!   benches/takeover ┘                    ├─ status  what `onduty status --json` says
//!                                         ├─ story   the steps of stories with a fault, and their verdicts
//!                                         ├─ canary  who ran when: outage, overlap, order of epochs
//!                                         ├─ process the process table: descendants, leftovers
//!                                         ├─ netns   two network namespaces with a link to cut (root)
//!                                         └─ wait    deadlines, the boot clock, one place that polls
//! ```
//!
//! Nothing here knows the inside of a node: it sees what an operator sees (settings file, command line, signals, exit
//! codes) and what a plugin sees. A test that cannot be set up panics with the operation and the node's log.
//!
//! The program under test is given by the caller (`env!("CARGO_BIN_EXE_…")` of the test crate), or by `ONDUTY_BIN`.
#![allow(clippy::print_stderr, reason = "a test that fails tells why on its standard error")]

mod canary;
mod netns;
mod node;
mod pair;
mod process;
mod status;
mod story;
mod turn;
mod wait;

pub use canary::{Activity, BadLine, Canary, Stamp};
pub use netns::{Link, Side, netns_wanted};
pub use node::{Answer, Node, NodeOptions, Role};
pub use pair::{OF_PRIMARY, OF_SECONDARY, Pair, PairOptions, Profile};
pub use process::{Pid, alive, kill};
pub use status::Status;
pub use story::{PATIENCE, SLACK, at_most, one_at_a_time, runs_again, undisturbed};
pub use turn::{Turn, alone, beside_others, timed};
pub use wait::{boot_ns, ms_between, until, within};

pub use nix::sys::signal::Signal;
