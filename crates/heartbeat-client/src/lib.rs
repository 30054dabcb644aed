//! The dialling end of the link: finds the peer, proves the key, sends heartbeats, reads tombstones, over each network
//! path by itself. It decides nothing: what it learns it tells the driver.
//!
//! ```text
//!   every min(I, 1 s) ─► Dialler ─ name ─ TCP ─ TLS ─ HTTP/2 ─ proof ─► session ─► LinkHandle
//!                          │ Silent / Unproved                           │ ends
//!                          ▼                                             ▼
//!                       LinkHandle ◄──── TombstoneRead ──────────── tombstone probe
//!                                  ◄──── RefusalConfirmed ───────── refusal watch (opt-in)
//! ```
//!
//! Every dial is a fresh socket, and one TLS connection carries one HTTP/2 connection with one call: a channel that
//! reconnects by itself would swap the TLS connection, and with it the channel binding, under the session.

mod compare;
mod confirm;
mod dial;
mod failure;
mod network;
mod path;
mod prove;
mod resolver;
mod service;
mod session;
mod sniff;
mod test_steps;
mod tombstone;

pub use network::{Network, TokioNetwork};
pub use service::{Client, ClientHandle, Options, build, build_with};
pub use tombstone::{TOMBSTONE_BYTES, TOMBSTONE_MAGIC, is_proof};
