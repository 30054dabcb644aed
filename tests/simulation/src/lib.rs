//! Deterministic simulation of a pair: the real driver, machine, heartbeat services, TLS and key proof, over a simulated
//! network and on simulated time. One seed is one life of a pair, the same each time.
//!
//! ```text
//!   test ─► Pair ─► turmoil ─┬─ host "alpha": node::manager ─┬─ duty (real) ── SupervisorPort ─► supervisor model
//!             │              │                               ├─ heartbeat-server / -client (real)     │
//!             │              │                               └─ guard model ◄──────────────────────────┘
//!             │              └─ host "beta":  the same
//!             └─ World: log of both nodes, plugin activity as intervals, faults, the checks of the invariants
//! ```
//!
//! What is a model here: the plugins, the supervisor, the guard and the disk. Everything that decides or speaks is the
//! product's own. A model follows the manners of the real part, and has knobs for everything that can be slow or fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a simulation that cannot go on has failed, and says where"
)]

pub mod chaos;
pub mod checks;
pub mod dice;
pub mod disk;
pub mod freeze;
pub mod guard;
pub mod network;
pub mod node;
pub mod pair;
pub mod seeds;
pub mod settings;
pub mod sockets;
pub mod supervisor;
pub mod traffic;
pub mod twice;
pub mod world;

pub use dice::Dice;
pub use pair::Pair;
pub use settings::Chosen;
pub use world::{ALPHA, BETA, Shared, World};
