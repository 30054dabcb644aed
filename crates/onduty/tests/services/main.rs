//! Each service of a node in turn, in a process of its own: killed, frozen, asked to stop, started in any order; on the node
//! that is active and on the one that stands by, of both roles. The canaries judge.
//!
//! ```text
//!   faults.rs   kill -9 and SIGSTOP of each service, and its return
//!   keys.rs     the key of the pair exchanged
//!   orders.rs   every order of starting
//!   stop.rs     SIGTERM of each service and of nodes, against the stop budget that `config check` prints
//!   stories.rs  what `up` promises, with the services apart
//!   trust.rs    certificate-trust: nobody notices its death, everybody notices its changes
//! ```
//!
//! The primary's services are run by `onduty serve`, the secondary's by the programs of their own: both are the same.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the measured times are worth reading")]

mod faults;
mod keys;
mod orders;
mod stop;
mod stories;
mod trust;

use std::path::Path;

use test_support::{Node, OF_PRIMARY, OF_SECONDARY, PATIENCE, Pair, PairOptions, Status};

const SUPERVISOR: &str = "plugin-supervisor";
const SERVER: &str = "heartbeat-server";
const CLIENT: &str = "heartbeat-client";
const TRUST: &str = "certificate-trust";
const MANAGEMENT: &str = "management";

fn options() -> PairOptions {
    PairOptions::new(env!("CARGO_BIN_EXE_onduty"))
}

/// A pair whose secondary runs the services' own programs; nothing is started.
fn prepared(options: PairOptions) -> Pair {
    let mut pair = Pair::prepare(options);
    for (service, program) in [
        (SUPERVISOR, env!("CARGO_BIN_EXE_plugin-supervisor")),
        (CLIENT, env!("CARGO_BIN_EXE_heartbeat-client")),
        (TRUST, env!("CARGO_BIN_EXE_certificate-trust")),
        (MANAGEMENT, env!("CARGO_BIN_EXE_management")),
    ] {
        pair.secondary.use_program(service, Path::new(program));
    }
    pair
}

/// The same with every service running and the primary active. The duty stays where it is.
fn running(options: PairOptions) -> Pair {
    let mut pair = prepared(options.manual());
    pair.start_apart();
    pair.redundant();
    pair
}

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Primary,
    Secondary,
}

impl Which {
    const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    const fn of(self, pair: &Pair) -> &Node {
        match self {
            Self::Primary => &pair.primary,
            Self::Secondary => &pair.secondary,
        }
    }

    const fn of_mut(self, pair: &mut Pair) -> &mut Node {
        match self {
            Self::Primary => &mut pair.primary,
            Self::Secondary => &mut pair.secondary,
        }
    }

    /// Its services; the first is the heartbeat.
    const fn services(self) -> [&'static str; 4] {
        match self {
            Self::Primary => OF_PRIMARY,
            Self::Secondary => OF_SECONDARY,
        }
    }
}

/// Waits for redundancy with this node active.
#[track_caller]
fn redundant(pair: &Pair, active: Which) {
    let ready = |state: &'static str| {
        move |status: &Status| status.redundancy() == "ready" && status.state() == state
    };
    active.of(pair).reaches("redundancy, active", PATIENCE, ready("active"));
    active.other().of(pair).reaches("redundancy, on standby", PATIENCE, ready("standby"));
}
