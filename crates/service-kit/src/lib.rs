//! What every service needs: settings with provenance, clock and timers, telemetry, signals, exit codes, files that
//! are written as a whole, the node's identity and its control socket.

pub mod atomic_file;
mod causes;
mod clock;
pub mod codes;
pub mod descriptor;
pub mod exit;
pub mod guard_line;
pub mod latest;
pub mod node_identity;
pub mod ports;
pub mod settings;
pub mod signals;
pub mod telemetry;
mod timer;
pub mod unix_socket;

pub use causes::with_causes;
pub use clock::Clock;
pub use timer::BootTimer;
