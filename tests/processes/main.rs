//! The promises of the pair, on real processes: each test is a story with a fault, and asserts who ran when from what
//! the canaries have written, not from what onduty says about itself.
//!
//! ```text
//!   crash.rs      kill -9, freeze: of the manager, of everything, of either node
//!   certificates.rs  from the first pairing to a compromised certificate, as documented
//!   clients.rs    a primary that asks for the secondary's certificate
//!   keys.rs       the key exchanged under a running pair, as documented, in every order, and cut off in the middle
//!   commands.rs   what a person asks and tells a pair with the commands there are
//!   planned.rs    hand-back, SIGTERM, switchover, maintenance
//!   modes.rs      the swap of the roles as documented, deactivation, kills on the way
//!   startup.rs    both cold in every order, a secondary that goes and comes
//!   refused.rs    wrong keys, wrong roles, strangers and garbage on the port
//!   settings.rs   files that are wrong, ports that are taken, programs that are not there
//!   hostile.rs    peers that know too little, too much or the wrong things, and a man in the middle
//!   flood.rs      ten thousand strangers, and a peer that floods
//!   attacks.rs    downgrade, reflection, guesses, forged tombstones, half-open handshakes, slow and endless messages
//!   operators.rs  who may give orders, and from where
//!   socket.rs     a tool on the operators' socket that says garbage, forgets connections and never reads
//!   storage.rs    disks that are full, read-only or slow, and files that are damaged
//!   leaks.rs      whether the key is anywhere it should not be
//!   page.rs       follows a page of the documentation
//!   attacker.rs   what these attack with: a client that does what it likes, wires to cut, a relay
//!   frames.rs     the same in single frames of HTTP/2
//! ```
//!
//! Bounds are those of the documentation times [`SLACK`], because the machine may be busy with other work; overlap and
//! order get no slack at all. The figures themselves come from `benches/takeover`.

mod attacker;
mod attacks;
mod certificates;
mod clients;
mod commands;
mod crash;
mod flood;
mod frames;
mod hostile;
mod keys;
mod leaks;
mod modes;
mod operators;
mod page;
mod planned;
mod refused;
mod settings;
mod socket;
mod startup;
mod storage;

use test_support::{
    Node, PATIENCE, PairOptions, SLACK, at_most, one_at_a_time, runs_again, undisturbed, until,
};

/// A pair of the program under test.
fn options() -> PairOptions {
    PairOptions::new(env!("CARGO_BIN_EXE_onduty"))
}

/// Whether the journal of a node has an event of this kind.
fn has_event(node: &Node, code: &str) -> bool {
    node.ask(&["events", "--json", "--limit", "500"]).stdout.contains(&format!("\"{code}\""))
}

/// How many events of this kind the journal of a node has.
fn count_of(node: &Node, code: &str) -> usize {
    node.ask(&["events", "--json", "--limit", "500"]).stdout.matches(&format!("\"{code}\"")).count()
}

/// How many sessions a node has had since its first start.
fn sessions(node: &Node) -> usize {
    node.log().matches("a session was proved").count()
}

/// Waits until the journal of a node has an event of this kind.
#[track_caller]
fn tells(node: &Node, code: &str) {
    let what = format!("the event `{code}` of {}", node.name());
    until(&what, PATIENCE, || has_event(node, code).then_some(()));
}
