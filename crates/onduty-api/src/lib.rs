//! The wire: code generated from `proto/`, and the conversions between it and the domain types of `failover-core`.
//!
//! ```text
//!   bytes ── prost ──► wire::… ── TryFrom (validates everything) ──► failover_core::…
//!   bytes ◄─ prost ─── wire::… ◄─ From (clips what is too long) ──── failover_core::…
//! ```
//!
//! A message is validated once, where it is received; behind that point every value is a domain type. What is sent
//! is clipped to the same limits, so that a node never sends what its peer would refuse.
//! There is one module per proto package, and [`errors`] as the one place that maps errors to gRPC and back.

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::wildcard_enum_match_arm,
    clippy::or_fun_call,
    reason = "generated"
)]
mod generated;

pub mod caller;
pub mod errors;
pub mod events;
pub mod failover;
pub mod heartbeat;
mod invalid;
pub mod plugin;
mod quiet_stream;
pub mod trust;
pub mod types;
pub mod unix_channel;
pub mod unix_server;

/// The generated messages, clients and servers: `wire::<package>::v1`.
pub use generated::onduty as wire;
pub use invalid::Invalid;

/// The descriptors of `proto/` and what it imports, as a serialised `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.binpb");

/// The largest message either side of the link accepts, in bytes; a full report with 64 plugins stays below half.
pub const MAX_LINK_MESSAGE: usize = 64 * 1024;
