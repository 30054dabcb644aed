//! The proof that the other end of *this* TLS connection knows the pair's key.
//!
//! The shape is SCRAM-PLUS (RFC 5802, RFC 7677) with the binding `tls-exporter` (RFC 9266), over the first four
//! messages of a session:
//!
//! ```text
//!   client                                              server
//!     │── Hello{versions, identity, role, nonce} ─────────►│
//!     │◄─ Challenge{version, identity, role, nonce} ───────│      both: TH = SHA-256(label, binding type, CB,
//!     │                                                    │                         Hello, Challenge, offered)
//!     │── per key: HMAC(K_client, TH), HMAC(K_check, TH0) ─►│  find_match ── none ─► one answer for every cause,
//!     │                                                    │             └ knows_key? then with the reason
//!     │◄─ HMAC(K_server, TH), which key ───────────────────│
//!   check_server                                           │
//! ```
//!
//! The client proves first, so that whoever merely connects gets nothing to guess at. Both nonces and the exporter
//! are fresh: a recorded proof fits no other connection. A man in the middle has two connections and so two exporters: a
//! relayed proof fails. Client and server proofs use different keys: a reflected proof fails.
//!
//! Order of calls. Client: [`client_proofs`], then [`check_server`]. Server: [`find_match`], then [`server_proof`]
//! with the key found, or [`knows_key`] to choose what to answer.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::ChannelBinding;
use crate::key::{KeySlot, PairKey};
use crate::key_files::PairKeys;

/// Separates this hash from every other use of SHA-256; its number is the version of the transcript.
const LABEL: &[u8] = b"onduty-proof/1";
/// RFC 9266 §2: the registered name of this channel binding.
const BOUND: &[u8] = b"tls-exporter";
/// `redundancy.channel_binding = "off"`: enters the transcript, so that neither end can be talked down silently.
const UNBOUND: &[u8] = b"none";
/// Keys offered at most: the current and the previous one.
const MAX_OFFERED: usize = 2;

/// One proof: HMAC-SHA-256.
pub type Proof = [u8; 32];

/// Everything that both ends must have seen alike.
#[derive(Clone, Copy)]
pub struct Transcript<'a> {
    /// The exporter of this connection, as the TLS end handed it out.
    pub binding: &'a ChannelBinding,
    /// Whether the proof is bound to the connection (`redundancy.channel_binding`).
    pub channel_bound: bool,
    /// The whole serialised Hello, as it was sent.
    pub hello: &'a [u8],
    /// The whole serialised Challenge, as it was sent.
    pub challenge: &'a [u8],
    /// How many keys the client offers: [`PairKeys::count`] at the client, the number of proofs received at the server.
    pub offered: usize,
}

impl fmt::Debug for Transcript<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").field("channel_bound", &self.channel_bound).finish_non_exhaustive()
    }
}

/// What the client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProofs {
    /// For each accepted key, newest first.
    pub proofs: Vec<Proof>,
    /// In the same order: diagnosis only, never enough to be let in.
    pub key_checks: Vec<Proof>,
}

/// Which key a client has proved, and with which of its proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMatch {
    /// The accepted key.
    pub slot: KeySlot,
    /// The number of the client's proof: 0 or 1; the client needs it to pick its key.
    pub proof: u32,
}

/// Client: one proof and one key check for each accepted key.
///
/// `transcript.offered` must be [`PairKeys::count`].
#[must_use]
pub fn client_proofs(transcript: &Transcript<'_>, keys: &PairKeys) -> ClientProofs {
    debug_assert_eq!(
        transcript.offered,
        keys.count(),
        "a transcript for another number of keys proves nothing"
    );
    let (hash, unbound) = (transcript.hash(), transcript.unbound_hash());
    ClientProofs {
        proofs: keys.newest_first().map(|(_, key)| mac(&key.client, &hash)).collect(),
        key_checks: keys.newest_first().map(|(_, key)| mac(&key.check, &unbound)).collect(),
    }
}

/// Server: which accepted key the client has proved, if any. Every key is tried against every proof, in constant
/// time, so that the time tells nothing.
///
/// No proof, more than two, or a number other than `transcript.offered` match nothing.
#[must_use]
pub fn find_match<P: AsRef<[u8]>>(
    transcript: &Transcript<'_>,
    keys: &PairKeys,
    proofs: &[P],
) -> Option<KeyMatch> {
    if proofs.len() != transcript.offered {
        return None;
    }
    let hash = transcript.hash();
    search(keys, proofs, |key| mac(&key.client, &hash))
}

/// Server: the answer under the key that matched.
#[must_use]
pub fn server_proof(transcript: &Transcript<'_>, key: &PairKey) -> Proof {
    mac(&key.server, &transcript.hash())
}

/// Client: whether the server knows the key of the client's proof number `matched`, and which key that is.
#[must_use]
pub fn check_server(
    transcript: &Transcript<'_>,
    keys: &PairKeys,
    matched: u32,
    proof: &[u8],
) -> Option<KeySlot> {
    let index = usize::try_from(matched).ok()?;
    let (slot, key) = keys.newest_first().nth(index)?;
    bool::from(server_proof(transcript, key)[..].ct_eq(proof)).then_some(slot)
}

/// Server: whether the client knows one of the keys, though its proof did not match: then TLS ends between the nodes, or
/// the two ends differ in `redundancy.channel_binding`. Diagnosis: only such a client is told a reason.
#[must_use]
pub fn knows_key<P: AsRef<[u8]>>(transcript: &Transcript<'_>, keys: &PairKeys, key_checks: &[P]) -> bool {
    if key_checks.len() != transcript.offered {
        return false;
    }
    let unbound = transcript.unbound_hash();
    search(keys, key_checks, |key| mac(&key.check, &unbound)).is_some()
}

impl Transcript<'_> {
    fn hash(&self) -> [u8; 32] {
        if self.channel_bound { self.hash_with(BOUND, self.binding) } else { self.unbound_hash() }
    }

    /// The transcript without the connection: of the key check, and of a proof that both ends have agreed not to bind.
    fn unbound_hash(&self) -> [u8; 32] {
        self.hash_with(UNBOUND, &[0; 32])
    }

    fn hash_with(&self, binding_type: &[u8], binding: &ChannelBinding) -> [u8; 32] {
        let offered = u64::try_from(self.offered).unwrap_or(u64::MAX).to_be_bytes();
        let mut hasher = Sha256::new();
        for part in [LABEL, binding_type, binding, self.hello, self.challenge, &offered] {
            // The length before each part, so that no two transcripts have the same bytes.
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// Every key against every candidate, without an early exit. The first candidate that matches wins: the dialling node says which key
/// it would rather use, and this one follows, so that one node alone decides when a pair goes over to another key.
fn search<P: AsRef<[u8]>>(
    keys: &PairKeys,
    candidates: &[P],
    wanted: impl Fn(&PairKey) -> Proof,
) -> Option<KeyMatch> {
    if candidates.is_empty() || candidates.len() > MAX_OFFERED {
        return None;
    }
    let accepted: Vec<(KeySlot, Proof)> =
        keys.newest_first().map(|(slot, key)| (slot, wanted(key))).collect();
    let (mut found, mut key_index, mut proof_index) = (Choice::from(0), 0_u32, 0_u32);
    for (candidate_number, candidate) in (0_u32..).zip(candidates) {
        for (number, (_, wanted)) in (0_u32..).zip(&accepted) {
            let hit = wanted[..].ct_eq(candidate.as_ref()) & !found;
            key_index.conditional_assign(&number, hit);
            proof_index.conditional_assign(&candidate_number, hit);
            found |= hit;
        }
    }
    let slot = accepted.get(usize::try_from(key_index).ok()?).map(|(slot, _)| *slot)?;
    bool::from(found).then_some(KeyMatch { slot, proof: proof_index })
}

/// RFC 2104 with SHA-256.
fn mac(key: &[u8; 32], hash: &[u8; 32]) -> Proof {
    // Filled up to the block size as RFC 2104 §2 does; given as an array, so that there is no length to fail on.
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(hash);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]
mod tests {
    use super::*;

    /// A client cannot raise its chances by offering more keys than a node can have, each rightly proved.
    #[test]
    fn more_than_two_keys_are_never_searched() {
        let current = PairKey::parse("odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap();
        let keys = PairKeys { current, previous: None };
        for (offered, is_found) in [(1, true), (2, true), (3, false), (1000, false)] {
            let transcript =
                Transcript { binding: &[7; 32], channel_bound: true, hello: b"h", challenge: b"c", offered };
            let proofs = vec![mac(&keys.current.client, &transcript.hash()); offered];
            assert_eq!(find_match(&transcript, &keys, &proofs).is_some(), is_found, "{offered}");
            let checks = vec![mac(&keys.current.check, &transcript.unbound_hash()); offered];
            assert_eq!(knows_key(&transcript, &keys, &checks), is_found, "{offered}");
        }
    }
}
