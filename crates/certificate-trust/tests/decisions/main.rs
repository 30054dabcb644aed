//! The decision, over a table of certificates: asked of the function itself, and in a real handshake in which the peer shows
//! exactly that. `onduty certs verify` is asked the same table, in `crates/onduty/tests/verify`.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod asked;
#[path = "../support/authority.rs"]
mod authority;
mod hostile;
mod rows;
