//! The node's own certificate: renewed, requested, installed; half done, and wrong.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

#[path = "support/authority.rs"]
mod authority;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use authority::{Authority, day};
use certificate_trust::{
    Action, CertificateFacts, Fingerprint, ManageError, OwnIdentity, PkiStore, TrustMode, certificates_in,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use support::{DAY, NOW, Node, failure, files, owned, shake};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

const NAMES: [&str; 2] = ["node-a", "10.0.0.5"];

fn node() -> (Node, PkiStore) {
    let node = Node::new(&NAMES);
    let store = PkiStore::open(&node.pki()).unwrap();
    (node, store)
}

fn end_of(node: &Node) -> u64 {
    u64::try_from(node.identity.facts().not_after).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_renewal_is_prepared_trusted_elsewhere_shown_and_accepted() {
    let ((a, store), b) = (node(), Node::new(&["node-b"]));
    b.trust(&a);
    let (before, names) = (a.identity.fingerprint(), owned(&NAMES));
    let (connector, acceptor) = (b.connector(TrustMode::Store), a.acceptor());
    let prepared = store.prepare(&names, NOW).unwrap();
    assert_eq!(prepared.action, Action::Prepared);
    let next = prepared.certificates[0].facts.clone();
    assert!(
        prepared.to_string().ends_with("is this node's next one, and nobody is shown it yet"),
        "{prepared}"
    );
    assert_eq!(store.prepare(&names, NOW).unwrap().certificates[0].facts, next, "the same again");
    assert_eq!(mode(&a.pki().join("own/next.key")), 0o600);
    assert!(!a.identity.reload().unwrap(), "nothing is shown yet");
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok());
    assert_eq!(store.show("own").unwrap().entries[0].facts.fingerprint, before);

    let exported = store.show("next").unwrap();
    assert_eq!(exported.entries[0].facts, next);
    assert!(!exported.pem().contains("PRIVATE"));
    let theirs = PkiStore::open(&b.pki()).unwrap();
    let _ = theirs.import(exported.pem().as_bytes(), certificate_trust::ImportAs::Peer, NOW).unwrap();
    let shown = store.show_next(&names, NOW).unwrap();
    assert!(shown.to_string().contains("new connections are shown it"), "{shown}");
    assert!(a.identity.reload().unwrap());
    assert_eq!(a.identity.fingerprint(), next.fingerprint);
    let _ = theirs.delete(&before.to_hex(), None).unwrap();
    for host in NAMES {
        assert!(shake(&connector, host, &acceptor).await.0.is_ok(), "{host}");
    }
    assert_eq!(files(&a.pki().join("own")).len(), 2, "nothing is left beside the pair");
    assert_eq!(mode(&a.private_key()), 0o600);
}

#[tokio::test]
async fn shown_too_early_it_is_a_stranger_who_can_be_trusted_by_one_command() {
    let ((a, store), b) = (node(), Node::new(&["node-b"]));
    b.trust(&a);
    let (connector, acceptor) = (b.connector(TrustMode::Store), a.acceptor());
    let _ = store.show_next(&owned(&NAMES), NOW).unwrap();
    let _ = a.identity.reload().unwrap();
    assert_eq!(failure(shake(&connector, "node-a", &acceptor).await.0).0, "tls.unknown_certificate");
    let theirs = PkiStore::open(&b.pki()).unwrap();
    let _ = theirs.trust(&a.identity.fingerprint().to_hex()[..8], false, NOW).unwrap();
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok());
}

/// A power cut between the two renames: the key is in place, the certificate is not.
#[test]
fn a_renewal_that_was_cut_in_half_is_finished_at_the_next_look() {
    let names = owned(&NAMES);
    for started_anew in [false, true] {
        let (a, store) = node();
        let next = store.prepare(&names, NOW).unwrap().certificates[0].facts.fingerprint;
        fs::rename(a.pki().join("own/next.key"), a.private_key()).unwrap();
        let identity = if started_anew {
            OwnIdentity::open_or_create(&a.pki(), &names, NOW).unwrap()
        } else {
            assert!(a.identity.reload().unwrap());
            a.identity.clone()
        };
        assert_eq!(identity.fingerprint(), next);
        assert_eq!(files(&a.pki().join("own")).len(), 2);
    }
}

/// A power cut between the two files of a preparation: nobody was asked for anything.
#[test]
fn a_preparation_that_was_cut_in_half_is_begun_anew() {
    let names = owned(&NAMES);
    let half = || {
        let (a, store) = node();
        let _ = store.prepare(&names, NOW).unwrap();
        fs::remove_file(a.pki().join("own/next.key")).unwrap();
        assert!(!a.identity.reload().unwrap());
        (a, store)
    };
    let (a, store) = half();
    let due = store.renew_when_due(&names, end_of(&a) - DAY).unwrap();
    assert_eq!(due.map(|change| change.action), Some(Action::Prepared));
    let (_a, store) = half();
    assert!(store.request(&names, NOW).is_ok());
    assert!(matches!(store.prepare(&names, NOW), Err(ManageError::RequestOut)));
}

/// Whoever looks in the middle of an exchange does not take it for one that was cut in half.
#[test]
fn a_look_in_the_middle_of_an_exchange_leaves_it_to_who_began_it() {
    let (a, store) = node();
    let names = owned(&NAMES);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _looking = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = a.identity.reload().unwrap();
            }
        });
        let shown: Result<Vec<_>, _> = (0..40).map(|_| store.show_next(&names, NOW)).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(shown.is_ok(), "{shown:?}");
    });
}

#[test]
fn what_was_prepared_goes_when_an_authority_signs_the_key_in_use() {
    let (a, store) = node();
    let (names, root) = (owned(&NAMES), Authority::root("Plant CA", |_| {}));
    let _ = store.prepare(&names, NOW).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(a.private_key()).unwrap()).unwrap();
    let signed = root.leaf_with(&key, |params| {
        params.subject_alt_names = vec![SanType::DnsName("node-a".try_into().unwrap())];
    });
    let _ = store.install(&signed, &names, NOW).unwrap();
    assert!(!a.pki().join("own/next.key").exists() && !a.pki().join("own/next.pem").exists());
    assert!(a.identity.reload().unwrap());
    assert_eq!(a.identity.fingerprint(), Fingerprint::of(&signed));
    assert!(store.request(&names, NOW).is_ok());
}

#[test]
fn what_does_not_fit_together_is_never_shown() {
    let (a, store) = node();
    let names = owned(&NAMES);
    let before = a.identity.fingerprint();
    let _ = store.prepare(&names, NOW).unwrap();
    fs::copy(a.private_key(), a.pki().join("own/next.key")).unwrap();
    let error = store.show_next(&names, NOW).unwrap_err();
    assert_eq!(error.code(), "identity.mismatch", "{error}");
    fs::write(a.pki().join("own/next.key"), "half a k").unwrap();
    assert_eq!(store.show_next(&names, NOW).unwrap_err().code(), "identity.key_malformed");
    assert!(!a.identity.reload().unwrap());
    assert_eq!(a.identity.fingerprint(), before);
}

#[test]
fn what_was_made_here_renews_itself_in_time() {
    let (a, store) = node();
    let (end, names) = (end_of(&a), owned(&NAMES));
    let due = |at: u64| store.renew_when_due(&names, at).unwrap().map(|change| change.action);
    assert_eq!(due(end - 30 * DAY - 1), None);
    assert_eq!(due(end - 30 * DAY), Some(Action::Prepared));
    assert_eq!(due(end - 29 * DAY), None, "once");
    assert_eq!(due(end - DAY), Some(Action::Shown));
    assert!(a.identity.reload().unwrap());
    assert!(end_of(&a) > end + 10 * 365 * DAY);
    assert_eq!(due(end), None);
}

/// The names and the key that a request is for.
fn asked(request: &str) -> (Vec<String>, Vec<u8>) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
    let names = request.requested_extensions().unwrap().find_map(|extension| {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { return None };
        Some(names.general_names.iter().map(ToString::to_string).collect())
    });
    (names.unwrap(), request.certification_request_info.subject_pki.raw.to_vec())
}

/// What an authority makes of the request that is out: for its key, which this test takes from its file.
fn sign(root: &Authority, node: &Node, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let key = KeyPair::from_pem(&fs::read_to_string(node.pki().join("own/next.key")).unwrap()).unwrap();
    root.leaf_with(&key, |params| {
        let name = |name: &str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into().unwrap()),
        };
        params.subject_alt_names = NAMES.map(name).into();
        change(params);
    })
}

#[tokio::test]
async fn a_request_is_signed_installed_and_accepted_by_who_trusts_the_authority() {
    let ((a, store), b) = (node(), Node::new(&["node-b"]));
    let (names, root) = (owned(&NAMES), Authority::root("Plant CA", |_| {}));
    let middle = root.below("Line CA", |_| {});
    fs::write(b.pki().join("trusted/certs/ca.der"), &root.der).unwrap();
    let request = store.request(&names, NOW).unwrap();
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----") && !request.contains("PRIVATE"));
    assert_eq!(asked(&request).0, ["DNSName(node-a)", "IPAddress(0a:00:00:05)"]);
    assert_eq!(
        asked(&request),
        asked(&store.request(&names, NOW).unwrap()),
        "asked again it is the same key"
    );
    assert!(matches!(store.prepare(&names, NOW), Err(ManageError::RequestOut)));
    assert!(matches!(store.show_next(&names, NOW), Err(ManageError::RequestOut)));
    assert_eq!(store.renew_when_due(&names, end_of(&a)).unwrap(), None, "somebody is at it");

    let signed = sign(&middle, &a, |_| {});
    // In any order, as authorities hand it out.
    let bundle = [&middle.der, &signed].map(|der| pem(der)).concat();
    let change = store.install(bundle.as_bytes(), &names, NOW).unwrap();
    assert_eq!(
        (change.action, change.certificates[0].facts.fingerprint),
        (Action::Shown, Fingerprint::of(&signed))
    );
    assert!(change.notes.is_empty(), "{change}");
    assert!(a.identity.reload().unwrap());
    let (connector, acceptor) = (b.connector(TrustMode::Store), a.acceptor());
    for host in NAMES {
        assert!(shake(&connector, host, &acceptor).await.0.is_ok(), "{host}: over the authority between");
    }
    assert!(matches!(store.prepare(&names, NOW), Err(ManageError::SignedByOther { .. })));
    assert_eq!(store.renew_when_due(&names, end_of(&a)).unwrap(), None, "its authority renews it");
    // The authority signs the key in use once more.
    let _ = store.install(bundle.as_bytes(), &names, NOW).unwrap();
    assert!(!a.identity.reload().unwrap());
}

#[test]
fn what_a_peer_would_refuse_is_not_installed_and_the_old_one_stays() {
    let (a, store) = node();
    let (names, root) = (owned(&NAMES), Authority::root("Plant CA", |_| {}));
    let _request = store.request(&names, NOW).unwrap();
    let before = a.identity.fingerprint();
    let san = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let cases = [
        (b"hello".to_vec(), "holds no certificate"),
        (root.leaf(|_| {}), "none of its certificates belongs to the key"),
        (sign(&root, &a, |params| params.not_after = day!(-1)), "expired 1 day ago"),
        (sign(&root, &a, |params| params.not_before = day!(2)), "not valid for another"),
        (
            sign(&root, &a, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "does not allow a server",
        ),
        (
            sign(&root, &a, |params| params.subject_alt_names = san("plc7")),
            "none of this node's names: `node-a`, `10.0.0.5`",
        ),
    ];
    for (bytes, words) in cases {
        let error = store.install(&bytes, &names, NOW).unwrap_err().to_string();
        assert!(error.contains("nothing was imported") && error.contains(words), "{error}");
        assert!(!a.identity.reload().unwrap());
        assert_eq!(a.identity.fingerprint(), before);
    }
    // One name is enough, and the other one is told.
    let one = sign(&root, &a, |params| params.subject_alt_names = san("node-a"));
    let change = store.install(&one, &names, NOW).unwrap();
    assert!(change.notes[0].contains("`10.0.0.5`") && !change.notes[0].contains("node-a"), "{change}");
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    assert!(CertificateFacts::read(der).is_ok());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    assert_eq!(certificates_in(pem.as_bytes()).unwrap(), [der]);
    pem
}
