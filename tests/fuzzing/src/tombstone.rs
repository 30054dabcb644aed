//! `tombstone`: what answers at the port of a node that has ended. The bytes are the promise that the node made while it
//! lived (epoch, SHA-256 of the secret), and then whatever somebody shows.
//!
//! Bytes count as proof exactly when they are a tombstone of the promised epoch whose secret has the promised digest: a
//! false proof makes two nodes active, a right one that does not count makes plants stand still.

use failover_core::{Epoch, TombstonePromise};
use heartbeat_client::{TOMBSTONE_BYTES, TOMBSTONE_MAGIC, is_proof};
use sha2::{Digest, Sha256};

/// What answers.
///
/// # Panics
///
/// When something counts as proof that is none, or does not count though it is.
pub fn tombstone(bytes: &[u8]) {
    let Some((epoch, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((sha256, shown)) = rest.split_first_chunk::<32>() else { return };
    let epoch = Epoch(u64::from_be_bytes(*epoch));
    let promise = TombstonePromise { epoch, sha256: *sha256 };
    assert_eq!(is_proof(shown, promise), is_tombstone(shown, promise), "{promise:?}");

    // A promise for what is shown, as if the node had made it: now the form alone decides.
    let secret = shown.get(TOMBSTONE_MAGIC.len() + 8..).unwrap_or_default();
    let kept = TombstonePromise { epoch, sha256: digest(secret) };
    assert_eq!(is_proof(shown, kept), is_tombstone(shown, kept), "{kept:?}");
    if is_proof(shown, kept) {
        only_this_one(shown, kept);
    }
    // And a node that kept its promise, with a secret out of the bytes.
    let secret: [u8; 32] = digest(shown);
    let right = [TOMBSTONE_MAGIC, &epoch.0.to_be_bytes(), &secret].concat();
    let promise = TombstonePromise { epoch, sha256: digest(&secret) };
    assert!(is_proof(&right, promise));
    only_this_one(&right, promise);
}

/// A proof is one for its own promise alone, as a whole alone.
fn only_this_one(proof: &[u8], promise: TombstonePromise) {
    // Every byte at least once in a few runs: each secret begins elsewhere.
    let first = usize::from(promise.sha256[0]) % 8;
    for at in (first..proof.len()).step_by(8) {
        let mut changed = proof.to_vec();
        changed[at] ^= 1;
        assert!(!is_proof(&changed, promise), "byte {at} does not matter");
        assert!(!is_proof(&proof[..at], promise), "{at} bytes are enough");
    }
    assert!(!is_proof(&[proof, &[0]].concat(), promise), "one more byte does not matter");
    for epoch in [promise.epoch.0.wrapping_add(1), promise.epoch.0.wrapping_add(2), 0, u64::MAX] {
        let other = TombstonePromise { epoch: Epoch(epoch), ..promise };
        assert!(!is_proof(proof, other) || other.epoch == promise.epoch, "the epoch does not matter");
    }
    let other = TombstonePromise { sha256: digest(&promise.sha256), ..promise };
    assert!(!is_proof(proof, other), "the digest does not matter");
}

/// The definition, written a second time.
fn is_tombstone(shown: &[u8], promise: TombstonePromise) -> bool {
    let end_of_epoch = TOMBSTONE_MAGIC.len() + 8;
    shown.len() == TOMBSTONE_BYTES
        && shown[..TOMBSTONE_MAGIC.len()] == *TOMBSTONE_MAGIC
        && shown[TOMBSTONE_MAGIC.len()..end_of_epoch] == promise.epoch.0.to_be_bytes()
        && digest(&shown[end_of_epoch..]) == promise.sha256
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
