//! Both ends of the link against each other, over loopback TCP and real TLS, with a test in the place of each driver.
//!
//! ```text
//!   StandIn ◄─ LinkHandle ─ Client ══ TCP, TLS, HTTP/2 ══ Server ─ LinkHandle ─► StandIn
//!                                  └ relays, strangers, guards ┘
//! ```
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks what it waits for")]

mod hostile;
mod paths;
mod refusal;
mod relay;
mod renewal;
mod session;
mod steps;
mod steps_silent;
mod stranger;
mod support;
mod tombstone;
