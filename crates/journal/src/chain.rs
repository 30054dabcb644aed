//! The chain: each entry's hash covers the hash before it, so that nothing can be changed, removed or put in between
//! without every later hash being wrong.

use sha2::{Digest as _, Sha256};

/// A link of the chain.
pub(crate) type Link = [u8; 32];

/// What the first entry is chained to.
pub(crate) const GENESIS: Link = [0; 32];

/// SHA-256 over: a label, the link before, number and time as 8 bytes big endian each, then node and event, each
/// after its length as 8 bytes big endian. `event` is the JSON exactly as it is stored.
pub(crate) fn next(before: &Link, number: u64, unix_ms: u64, node: &str, event: &str) -> Link {
    let mut hash = Sha256::new();
    hash.update(b"onduty-journal/1");
    hash.update(before);
    hash.update(number.to_be_bytes());
    hash.update(unix_ms.to_be_bytes());
    for text in [node, event] {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}
