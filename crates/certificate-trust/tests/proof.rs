//! The proof of the key: the right pair, rotation, and everybody who tries without the key or on another connection.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use certificate_trust::proof::{
    ClientProofs, KeyMatch, Transcript, check_server, client_proofs, find_match, knows_key, server_proof,
};
use certificate_trust::{ChannelBinding, KeySlot, PairKey, PairKeys, TrustMode};
use support::{Node, keys, shake};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const KEY: &str = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const BINDING: ChannelBinding = [7; 32];

fn transcript(offered: usize) -> Transcript<'static> {
    Transcript { binding: &BINDING, channel_bound: true, hello: b"hello", challenge: b"challenge", offered }
}

fn fresh() -> String {
    PairKey::generate().unwrap().to_string()
}

/// The whole exchange between two sets of keys: which key the client believes is shared, and which the server.
fn exchange(client: &PairKeys, server: &PairKeys) -> Option<(KeySlot, KeySlot)> {
    let at_client = transcript(client.count());
    let sent = client_proofs(&at_client, client);
    let at_server = transcript(sent.proofs.len());
    let matched = find_match(&at_server, server, &sent.proofs)?;
    let answer = server_proof(&at_server, server.get(matched.slot).unwrap());
    let believed = check_server(&at_client, client, matched.proof, &answer)?;
    Some((believed, matched.slot))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Computed with Python's hmac and hashlib: two versions of onduty must agree on every byte.
#[test]
fn the_proofs_are_those_of_another_implementation() {
    let keys = keys(KEY, None);
    let bound = transcript(1);
    let ClientProofs { proofs, key_checks } = client_proofs(&bound, &keys);
    assert_eq!(hex(&proofs[0]), "dbb0b7a765e3a1b8aa6e54cbeb21f385c4498d98e56098b38e8ae093e1bfa17a");
    assert_eq!(hex(&key_checks[0]), "583c7747ccdd0dfb411164adae3be50dc2533ab7af8844078afefcdcc35a656d");
    let answer = server_proof(&bound, &keys.current);
    assert_eq!(hex(&answer), "d59ffff55604cf078424aa9e302315e96e65b663cdf7d6ebf0d35fedbea1e3ec");
    let unbound = Transcript { channel_bound: false, ..bound };
    let sent = client_proofs(&unbound, &keys);
    assert_eq!(hex(&sent.proofs[0]), "b62773b7a8eda9c34fa89d43e38dac3544e9cec1dd7e468e4ce89d04c46b7896");
    assert_eq!(sent.key_checks, key_checks, "the key check never has the connection in it");
}

#[test]
fn keys_rotate_in_any_order() {
    use KeySlot::{Current, Previous};
    let (old, new) = (fresh(), fresh());
    let cases = [
        ((&old, None), (&old, None), Some((Current, Current))),
        ((&new, Some(&old)), (&old, None), Some((Previous, Current))),
        ((&old, None), (&new, Some(&old)), Some((Current, Previous))),
        ((&new, Some(&old)), (&new, Some(&old)), Some((Current, Current))),
        // The dialling node says which it would rather use.
        ((&new, Some(&old)), (&old, Some(&new)), Some((Current, Previous))),
        ((&old, Some(&new)), (&new, Some(&old)), Some((Current, Previous))),
        ((&old, Some(&new)), (&new, None), Some((Previous, Current))),
        ((&new, None), (&new, Some(&old)), Some((Current, Current))),
        ((&new, Some(&old)), (&new, None), Some((Current, Current))),
        ((&new, None), (&old, None), None),
        ((&old, None), (&new, None), None),
    ];
    for (number, (client, server, shared)) in cases.into_iter().enumerate() {
        let load =
            |(current, previous): (&String, Option<&String>)| keys(current, previous.map(String::as_str));
        assert_eq!(exchange(&load(client), &load(server)), shared, "case {number}");
    }
}

#[test]
fn without_the_key_nothing_matches_and_no_reason_is_earned() {
    let (ours, theirs) = (keys(&fresh(), None), keys(&fresh(), None));
    let sent = client_proofs(&transcript(1), &theirs);
    assert_eq!(find_match(&transcript(1), &ours, &sent.proofs), None);
    assert!(!knows_key(&transcript(1), &ours, &sent.key_checks));
}

#[test]
fn malformed_proofs_match_nothing() {
    let ours = keys(KEY, None);
    let right = client_proofs(&transcript(1), &ours).proofs[0];
    let none: [&[u8]; 0] = [];
    assert_eq!(find_match(&transcript(0), &ours, &none), None, "no proof at all");
    for wrong in [&right[..31], &[], &[&right[..], &[0]].concat(), &[0; 32]] {
        assert_eq!(find_match(&transcript(1), &ours, &[wrong]), None);
    }
    let many = vec![right; 3];
    assert_eq!(find_match(&transcript(3), &ours, &many), None, "more proofs than there can be keys");
    assert_eq!(find_match(&transcript(1), &ours, &[right, right]), None, "not the number that was hashed");
    assert_eq!(check_server(&transcript(1), &ours, 0, &[0; 32]), None);
    let answer = server_proof(&transcript(1), &ours.current);
    assert_eq!(check_server(&transcript(1), &ours, 0, &answer), Some(KeySlot::Current));
    for index in [1, 2, u32::MAX] {
        assert_eq!(check_server(&transcript(1), &ours, index, &answer), None, "a key we did not offer");
    }
}

/// Each part of the transcript counts, and the parts cannot be shifted against each other.
#[test]
fn a_change_in_any_part_breaks_the_proof() {
    let ours = keys(KEY, None);
    let base = transcript(1);
    let sent = client_proofs(&base, &ours).proofs;
    let changed = [
        Transcript { binding: &[8; 32], ..base },
        Transcript { channel_bound: false, ..base },
        Transcript { hello: b"hellO", ..base },
        Transcript { challenge: b"challengE", ..base },
        Transcript { hello: b"helloc", challenge: b"hallenge", ..base },
    ];
    assert!(find_match(&base, &ours, &sent).is_some());
    for (number, changed) in changed.iter().enumerate() {
        assert_eq!(find_match(changed, &ours, &sent), None, "change {number}");
    }
    // One offered key more (a proof added on the way) changes the transcript too.
    assert_eq!(find_match(&transcript(2), &ours, &[sent[0], sent[0]]), None);
}

#[test]
fn a_reflected_proof_is_no_answer() {
    let ours = keys(KEY, None);
    let sent = client_proofs(&transcript(1), &ours);
    assert_eq!(check_server(&transcript(1), &ours, 0, &sent.proofs[0]), None);
    assert_eq!(check_server(&transcript(1), &ours, 0, &sent.key_checks[0]), None);
    let answer = server_proof(&transcript(1), &ours.current);
    assert_eq!(find_match(&transcript(1), &ours, &[answer]), None);
    assert_eq!(find_match(&transcript(1), &ours, &[sent.key_checks[0]]), None, "a key check lets nobody in");
}

#[test]
fn without_channel_binding_on_both_sides_the_proof_holds_across_connections() {
    let ours = keys(KEY, None);
    let unbound = |binding| Transcript { binding, channel_bound: false, ..transcript(1) };
    let sent = client_proofs(&unbound(&[1; 32]), &ours);
    let found = find_match(&unbound(&[2; 32]), &ours, &sent.proofs);
    assert_eq!(found, Some(KeyMatch { slot: KeySlot::Current, proof: 0 }));
}

/// One end has switched the binding off, the other not: refused either way, and the cause can be told to a peer that
/// has shown that it knows the key.
#[test]
fn a_one_sided_downgrade_fails_and_is_diagnosed() {
    let ours = keys(KEY, None);
    for client_bound in [true, false] {
        let sent = client_proofs(&Transcript { channel_bound: client_bound, ..transcript(1) }, &ours);
        let at_server = Transcript { channel_bound: !client_bound, ..transcript(1) };
        assert_eq!(find_match(&at_server, &ours, &sent.proofs), None);
        assert!(knows_key(&at_server, &ours, &sent.key_checks));
    }
}

#[tokio::test]
async fn the_pair_proves_itself_over_real_tls() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let (dialled, accepted) = shake(&b.connector(TrustMode::All), "node-a", &a.acceptor()).await;
    let ((_, at_client), (_, at_server)) = (dialled.unwrap(), accepted.unwrap());
    let ours = keys(KEY, None);
    let sent = client_proofs(&Transcript { binding: &at_client, ..transcript(1) }, &ours);
    assert!(find_match(&Transcript { binding: &at_server, ..transcript(1) }, &ours, &sent.proofs).is_some());
}

#[tokio::test]
async fn a_recorded_proof_is_worthless_on_the_next_connection() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let ours = keys(KEY, None);
    let (connector, acceptor) = (b.connector(TrustMode::All), a.acceptor());
    let (dialled, _) = shake(&connector, "node-a", &acceptor).await;
    let recorded = client_proofs(&Transcript { binding: &dialled.unwrap().1, ..transcript(1) }, &ours);
    let (_, accepted) = shake(&connector, "node-a", &acceptor).await;
    let now = accepted.unwrap().1;
    // Even if the server's nonce were the same again.
    let at_server = Transcript { binding: &now, ..transcript(1) };
    assert_eq!(find_match(&at_server, &ours, &recorded.proofs), None);
}

/// The man in the middle shows a certificate of his own (trust `all` takes it), has a second TLS connection to the real
/// server and passes every byte on. The server does not admit him, and can say why; nor does the client believe him.
#[tokio::test]
async fn a_relaying_man_in_the_middle_fails_also_with_trust_all() {
    let (a, b, middle) = (Node::new(&["node-a"]), Node::new(&["node-b"]), Node::new(&["node-a"]));
    let (connector, relay) = (b.connector(TrustMode::All), middle.connector(TrustMode::All));
    let (victim, mine) = shake(&connector, "node-a", &middle.acceptor()).await;
    let (onwards, server) = shake(&relay, "node-a", &a.acceptor()).await;
    let ((mut victim, at_client), (mut server, at_server)) = (victim.unwrap(), server.unwrap());
    let (mut mine, mut onwards) = (mine.unwrap().0, onwards.unwrap().0);
    let relaying = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut mine, &mut onwards).await });

    let ours = keys(KEY, None);
    send(&mut victim, b"hello").await;
    let hello = receive::<5>(&mut server).await;
    send(&mut server, b"challenge").await;
    let challenge = receive::<9>(&mut victim).await;
    let at_victim =
        Transcript { binding: &at_client, hello: b"hello", challenge: &challenge, ..transcript(1) };
    let sent = client_proofs(&at_victim, &ours);
    send(&mut victim, &[sent.proofs[0], sent.key_checks[0]].concat()).await;
    let relayed = receive::<64>(&mut server).await;
    let (proof, check) = relayed.split_at(32);

    let here = Transcript { binding: &at_server, hello: &hello, challenge: b"challenge", ..transcript(1) };
    assert_eq!(find_match(&here, &ours, &[proof]), None, "the relayed proof does not admit him");
    assert!(
        knows_key(&here, &ours, &[check]),
        "and the server can tell a wrong key from a TLS end in between"
    );
    let answer = server_proof(&here, &ours.current);
    assert_eq!(
        check_server(&at_victim, &ours, 0, &answer),
        None,
        "nor would the client believe a relayed answer"
    );
    drop((victim, server));
    let _ = relaying.await.unwrap();
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

async fn receive<const N: usize>(stream: &mut (impl AsyncReadExt + Unpin)) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[test]
fn the_ends_can_move_to_other_threads() {
    fn is_send<T: Send + Sync + 'static>() {}
    is_send::<PairKeys>();
    is_send::<certificate_trust::Acceptor>();
    is_send::<certificate_trust::Connector>();
    is_send::<certificate_trust::ClientTls<DuplexStream>>();
    is_send::<certificate_trust::TlsError>();
}
