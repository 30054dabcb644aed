//! The listening end of the link: one port, which answers dials, checks the proof of the key, and exchanges
//! heartbeats. It decides nothing: what it learns it tells the driver.
//!
//! ```text
//!   Accept ─► Server::run ─► connection task ─ TLS ─ HTTP/2 ─ one call ─► handshake ─► session ─► LinkHandle
//!                 │              ▲                                │
//!                 └─ Waiting ────┘ evicts the oldest              └ who cannot prove the key is answered, counted,
//!                    unauthenticated connection when full           and never believed
//! ```
//!
//! Anybody may connect, so everything before the proof is bounded: the number of connections, their life, the size of
//! headers, frames and messages. One TLS connection carries one HTTP/2 connection with one call, and so has exactly
//! one channel binding.

mod accept;
mod connection;
mod handshake;
mod meter;
mod service;
mod session;
mod waiting;

pub use accept::Accept;
pub use service::{Options, Server, ServerHandle, build, build_with};
