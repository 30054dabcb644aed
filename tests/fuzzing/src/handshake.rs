//! `handshake`: what strangers send before anybody has proved the key. The bytes are a frame of either direction, a Hello or
//! a Challenge by itself, and a whole conversation: Hello, Challenge, proofs of the client, proof of the server.
//!
//! Beside the trip there and back: nothing that a stranger made up proves the key, and a right proof holds for exactly
//! these bytes on exactly this connection.

use std::sync::LazyLock;

use certificate_trust::proof::{self, ClientProofs, Transcript};
use certificate_trust::{KeySlot, PairKey, PairKeys};
use failover_core::PathId;
use onduty_api::MAX_LINK_MESSAGE;
use onduty_api::heartbeat::{
    Challenge, DialFrame, Hello, ListenFrame, MAX_KEYS, MAX_PAIR, NEWEST_VERSION, OLDEST_VERSION,
};

use crate::conversation::{dial_frame, frames, is_a_name, listen_frame, told};

/// The connection between the two nodes, and the one that somebody between them has with either.
const BINDING: [u8; 32] = [0xB1; 32];
const OTHER_BINDING: [u8; 32] = [0xB2; 32];

/// The pair's keys during a rotation, and those of another pair.
static KEYS: LazyLock<PairKeys> = LazyLock::new(|| PairKeys {
    current: key("odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
    previous: Some(key("odk1_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8")),
});
static OTHER_KEYS: LazyLock<PairKeys> = LazyLock::new(|| PairKeys {
    current: key("odk1_QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8"),
    previous: None,
});

fn key(text: &str) -> PairKey {
    PairKey::parse(text).expect("a generated key")
}

/// What strangers send.
///
/// # Panics
///
/// When a promise of the handshake is broken.
pub fn handshake(bytes: &[u8]) {
    // The link refuses longer messages before anybody decodes them.
    if bytes.len() > MAX_LINK_MESSAGE {
        return;
    }
    if let Some(DialFrame::Hello(inner)) = dial_frame(bytes) {
        hello(&inner);
    }
    if let Some(ListenFrame::Challenge(inner)) = listen_frame(bytes) {
        challenge(&inner);
    }
    hello(bytes);
    challenge(bytes);
    exchange(&frames(bytes));
}

fn hello(bytes: &[u8]) {
    let hello = match Hello::decode(bytes) {
        Ok(hello) => hello,
        Err(invalid) => return told(&invalid),
    };
    assert_eq!(Hello::decode(&hello.clone().encode()).as_ref(), Ok(&hello), "the same after another trip");
    is_a_name(hello.identity.name.as_str());
    assert!(hello.pair.len() <= MAX_PAIR && hello.min_version <= hello.max_version);
    assert!(hello.path.index() < hello.paths && hello.paths <= PathId::MOST, "{hello:?}");
    if let Some(common) = hello.common_version() {
        assert!((hello.min_version..=hello.max_version).contains(&common), "both speak it");
        assert!((OLDEST_VERSION..=NEWEST_VERSION).contains(&common), "both speak it");
    }
}

fn challenge(bytes: &[u8]) {
    let challenge = match Challenge::decode(bytes) {
        Ok(challenge) => challenge,
        Err(invalid) => return told(&invalid),
    };
    let again = Challenge::decode(&challenge.clone().encode());
    assert_eq!(again.as_ref(), Ok(&challenge), "the same after another trip");
    is_a_name(challenge.identity.name.as_str());
}

/// The four messages, whatever is in them: both ends hash the first two as they came.
fn exchange(frames: &[&[u8]]) {
    let part = |number: usize| frames.get(number).copied().unwrap_or_default();
    let (hello, challenge) = (part(0), part(1));
    for channel_bound in [true, false] {
        let transcript = |offered| Transcript { binding: &BINDING, channel_bound, hello, challenge, offered };
        if let Some(DialFrame::Proof(made_up)) = dial_frame(part(2)) {
            let offered = made_up.proofs.len();
            assert!((1..=MAX_KEYS).contains(&offered) && made_up.key_checks.len() == offered);
            for keys in [&*KEYS, &*OTHER_KEYS] {
                assert_eq!(proof::find_match(&transcript(offered), keys, &made_up.proofs), None);
                assert!(!proof::knows_key(&transcript(offered), keys, &made_up.key_checks));
            }
        }
        if let Some(ListenFrame::Proof(made_up)) = listen_frame(part(3)) {
            assert!(made_up.matched < MAX_KEYS);
            let matched = u32::try_from(made_up.matched).unwrap_or(u32::MAX);
            let offered = KEYS.count();
            assert_eq!(proof::check_server(&transcript(offered), &KEYS, matched, &made_up.proof), None);
        }
        // What is no message of ours is no proof either, whatever its length is.
        let pieces: Vec<&[u8]> = frames.iter().copied().take(MAX_KEYS).collect();
        assert_eq!(proof::find_match(&transcript(pieces.len()), &KEYS, &pieces), None);
        assert!(!proof::knows_key(&transcript(pieces.len()), &KEYS, &pieces));
    }
    honest(hello, challenge);
}

/// The proof of a node that knows the key holds here, and nowhere else.
fn honest(hello: &[u8], challenge: &[u8]) {
    let here = Transcript { binding: &BINDING, channel_bound: true, hello, challenge, offered: KEYS.count() };
    let ClientProofs { proofs, key_checks } = proof::client_proofs(&here, &KEYS);
    let found = proof::find_match(&here, &KEYS, &proofs).expect("the key is known");
    assert_eq!((found.slot, found.proof), (KeySlot::Current, 0));
    assert!(proof::knows_key(&here, &KEYS, &key_checks));
    let answer = proof::server_proof(&here, &KEYS.current);
    assert_eq!(proof::check_server(&here, &KEYS, found.proof, &answer), Some(KeySlot::Current));

    let never = |transcript: &Transcript<'_>, keys: &PairKeys| {
        assert_eq!(proof::find_match(transcript, keys, &proofs), None);
        assert_eq!(proof::check_server(transcript, keys, found.proof, &answer), None);
    };
    let relayed = Transcript { binding: &OTHER_BINDING, ..here };
    never(&relayed, &KEYS);
    assert!(
        proof::knows_key(&relayed, &KEYS, &key_checks),
        "a proxy between the nodes is told apart from a wrong key"
    );
    never(&Transcript { channel_bound: false, ..here }, &KEYS);
    never(&Transcript { offered: 1, ..here }, &KEYS);
    never(&here, &OTHER_KEYS);
    assert!(!proof::knows_key(&here, &OTHER_KEYS, &key_checks));
    assert_eq!(proof::find_match(&here, &KEYS, &[answer, answer]), None, "a proof that is sent back");
    // The same bytes with another border between the two messages are other messages.
    let both = [hello, challenge].concat();
    let changed = |at: usize| {
        let mut changed = both.clone();
        changed[at] ^= 1;
        changed
    };
    for at in [0, both.len() / 2].into_iter().filter(|at| *at < both.len()) {
        let other = changed(at);
        let (hello, challenge) = other.split_at(hello.len());
        never(&Transcript { hello, challenge, ..here }, &KEYS);
        assert!(!proof::knows_key(&Transcript { hello, challenge, ..here }, &KEYS, &key_checks));
    }
    if !challenge.is_empty() {
        let (hello, challenge) = both.split_at(hello.len() + 1);
        never(&Transcript { hello, challenge, ..here }, &KEYS);
    }
}
