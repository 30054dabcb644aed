//! Own identity, trust decisions, TLS ends and the proof of the pre-shared key.
//!
//! Every call of rustls and every byte of key material of the link lives in this crate, so that the rules of the
//! wire stand in one place. Who calls whom:
//!
//! ```text
//!   heartbeat-server ─► Acceptor ──┐                       ┌── Connector ◄─ heartbeat-client
//!                        │         │  TLS 1.3, h2, no      │     │
//!     newest Bundle.own ◄          │  resumption           │     ► decide() with the newest Bundle,
//!                                  │                       │       unknown certificates to the TrustKeeper
//!                                  ▼                       ▼
//!                          (stream, ChannelBinding)  (stream, ChannelBinding)
//!                                  └──────► proof ◄────────┘
//!                                             │  Hello, Challenge, KeyRing
//!                                             ▼
//!                              does the peer know the key, on this very connection?
//! ```
//!
//! What is trusted is a [`Bundle`], a snapshot that [`TrustFolders`] makes of the PKI folders and the system's roots whenever they
//! change; both ends use the newest one they have and wait for nobody. People change the folders through
//! [`PkiStore`] (`manage/`), or by hand. Of the keys, a [`KeyStore`] reads the files and a [`KeyRing`] is what both ends go by; people
//! exchange the files through [`KeyFiles`] (`rotation.rs`), or by hand.
//!
//! TLS says that nobody outside reads or changes the stream. Trust says whether the certificate is one that an
//! operator accepted. Only the proof says that the peer is the other half of the pair, and it holds also where trust
//! is [`TrustMode::All`]: a man in the middle has two TLS connections and so two channel bindings.
//!
//! Sources: RFC 8446 (TLS 1.3), RFC 5705 and RFC 8446 §7.5 (exporters), RFC 9266 (`tls-exporter` channel binding),
//! RFC 5869 (HKDF), RFC 2104 (HMAC), RFC 9106 (Argon2id), RFC 5802 and RFC 7677 (the shape of the proof),
//! RFC 9257 (external keys), RFC 5280 (certificates and revocation lists), RFC 9525 (names), OPC 10000-12 (the PKI folders).

mod bundle;
mod certificate;
mod chain;
mod clients;
mod decision;
mod error;
mod expiry;
mod files;
mod fingerprint;
mod folders;
mod identity;
mod key;
mod key_files;
mod key_ring;
mod key_store;
mod manage;
mod pki;
pub mod proof;
mod provider;
mod refusal;
mod rejected;
mod rotation;
mod secret_file;
pub mod service;
mod system;
mod tls;
mod verifier;
mod watch;

pub use bundle::{
    Bundle, BundleReceiver, BundleSender, Der, Later, OwnPair, SystemRoots, TrustKeeper, Unknown,
};
pub use certificate::{CertificateFacts, InvalidCertificate};
pub use clients::ClientTrust;
pub use decision::{Accepted, Purpose, Question, TrustMode, can_be_dialled, decide};
pub use error::TlsError;
pub use expiry::{Expiring, Urgency, expiring};
pub use fingerprint::Fingerprint;
pub use folders::{TrustFolders, parse_crls};
pub use identity::{IdentityError, OwnIdentity};
pub use key::{KeyError, KeyFingerprint, KeyOrigin, KeyProblem, KeySlot, PairKey};
pub use key_files::{KeyFiles, KeySources, PairKeys, read_key_from, read_key_from_file};
pub use key_ring::{KeyChanges, KeyLease, KeyRing, KeyState};
pub use key_store::KeyStore;
pub use manage::{Action, Change, CrlEntry, Entry, Exported, ImportAs, Listing, ManageError, Moved, Place};
pub use pki::{PkiError, PkiStore, certificates_in};
pub use provider::{install_crypto_provider, warm_up};
pub use refusal::{Refusal, WrongUsage};
pub use rejected::Kept;
pub use rotation::{RotationError, Standing, Step, write_key_file};
pub use secret_file::SecretFileError;
pub use system::SystemStore;
pub use tls::{Acceptor, ClientTls, Connector, ServerTls, shown_by_client};

/// What is unique to one TLS connection and known to its two ends alone: 32 bytes of the exporter
/// `EXPORTER-Channel-Binding` (RFC 9266 §2, RFC 8446 §7.5).
pub type ChannelBinding = [u8; 32];
