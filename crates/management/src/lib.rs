//! The face to operators: their gRPC services, on the node's unix socket only.
//!
//! ```text
//!   onduty status … ──► unix socket (0600; same user or root) ──► FailoverService ──────► duty (requests, view)
//!                                                             ├─► EventsService ────────► journal
//!                                                             ├─► ConnectionTestService ► a function of the link
//!                                                             ├─► health, reflection ──► what general tools ask
//!                                                             └─► CertificateService ───► certificate-trust
//! ```
//!
//! Where the node's services run apart, the process with the driver serves these on a socket of its own in the run folder,
//! and [`forward`] is what operators reach.
//!
//! Whoever may open the socket may call everything on it, so the file's mode and the caller's credentials are the
//! whole authorisation. Every wait is bounded by the caller's deadline and by one of our own; every stream ends when
//! the node stops, because an open stream would hold the server's graceful stop for ever.

mod connection_test;
mod discovery;
mod events;
mod failover;
pub mod forward;
mod keys;
mod mode;
mod requests;
mod service;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use connection_test::{ConnectionTest, NoAddress};
pub use keys::Keys;
pub use mode::ModeSettings;
pub use service::{BuildError, Management, Options, RunError, build};
