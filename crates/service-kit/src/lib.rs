//! What every service needs: settings with provenance, clock, telemetry, readiness, signals, exit codes.

mod clock;
pub mod ports;

pub use clock::Clock;
