//! What operators do with certificates: each step on real folders, and what a dial makes of it.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

#[path = "support/authority.rs"]
mod authority;
mod support;

use std::fs;

use authority::{Authority, HOST, day, self_signed};
use certificate_trust::{Action, Fingerprint, ImportAs, ManageError, PkiStore, Place, TrustMode};
use rcgen::{BasicConstraints, CertificateParams, IsCa};
use support::{NOW, Node, failure, shake};

fn plain(_: &mut CertificateParams) {}

fn store(node: &Node) -> PkiStore {
    PkiStore::open(&node.pki()).unwrap()
}

fn places(store: &PkiStore, der: &[u8]) -> Vec<Place> {
    let fingerprint = Fingerprint::of(der);
    let all = store.list().unwrap().entries;
    all.iter().filter(|entry| entry.facts.fingerprint == fingerprint).map(|entry| entry.place).collect()
}

fn pem(der: &[u8]) -> String {
    pem_of(der, "CERTIFICATE")
}

fn pem_of(der: &[u8], label: &str) -> String {
    let body: Vec<String> =
        base64(der).as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_stranger_is_looked_at_trusted_rejected_and_trusted_again() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let (connector, acceptor, store) = (b.connector(TrustMode::Store), a.acceptor(), store(&b));
    failure(shake(&connector, "node-a", &acceptor).await.0);
    let listing = store.list().unwrap();
    let [own, kept] = &listing.entries[..] else { panic!("{listing:?}") };
    assert_eq!((own.place, kept.place), (Place::Own, Place::Rejected));
    assert_eq!(kept.facts.fingerprint, a.identity.fingerprint());
    assert_eq!(kept.reason.as_deref(), Some("it is not trusted here"));
    assert!(kept.since.as_deref().unwrap().starts_with("2026-11-22T"), "{kept:?}");
    assert_eq!(kept.changed_unix, NOW);

    let digits = a.identity.fingerprint().to_string()[..11].to_lowercase();
    let change = store.trust(&digits, false, NOW).unwrap();
    assert_eq!((change.action, change.action.code()), (Action::Trusted, "certs.trusted"));
    let words = change.to_string();
    assert!(words.contains("is in `trusted` now, and was in `rejected`"), "{words}");
    assert!(words.contains(&a.identity.fingerprint().to_string()), "{words}");
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok(), "the very next dial");
    assert!(b.rejected().is_empty());
    let text = fs::read_to_string(&store.show(&digits).unwrap().entries[0].file).unwrap();
    assert!(text.contains("Reason:      trusted by an operator; before: it is not trusted here"), "{text}");

    let change = store.reject(&digits, NOW).unwrap();
    assert!(change.to_string().contains("is in `distrusted` now, and was in `trusted`"), "{change}");
    assert_eq!(failure(shake(&connector, "node-a", &acceptor).await.0).0, "tls.distrusted");
    assert!(b.rejected().is_empty(), "what was decided about is not captured again");

    store.trust(&digits, false, NOW).unwrap();
    assert!(shake(&connector, "node-a", &acceptor).await.0.is_ok());
    let again = store.trust(&digits, false, NOW).unwrap();
    assert!(again.to_string().contains("was there already"), "{again}");

    let change = store.delete(&digits, None).unwrap();
    assert!(change.to_string().ends_with("is no longer in `trusted`"), "{change}");
    assert_eq!(failure(shake(&connector, "node-a", &acceptor).await.0).0, "tls.unknown_certificate");
}

#[test]
fn a_certificate_is_found_by_what_is_unique_of_it() {
    let node = Node::new(&["node-b"]);
    let store = store(&node);
    // Two with a common beginning of four digits would take 65,000 tries: a common file does as well.
    let (one, two) = (self_signed(plain), self_signed(plain));
    fs::write(store.trusted().join("both.pem"), pem(&one) + &pem(&two)).unwrap();
    let hex = Fingerprint::of(&one).to_hex();
    for query in [hex.as_str(), &hex[..8], &hex[..4].to_lowercase(), &Fingerprint::of(&one).to_string()] {
        assert_eq!(store.show(query).unwrap().chain, vec![one.clone()], "{query}");
    }
    assert_eq!(store.show("own").unwrap().entries[0].facts.fingerprint, node.identity.fingerprint());
    for (query, code) in [
        (&hex[..3], "certs.too_short"),
        ("", "certs.not_found"),
        ("nothing.pem", "certs.not_found"),
        ("../own/private.key", "certs.not_found"),
        ("private.key", "certs.not_found"),
        ("both.pem", "certs.ambiguous"),
        ("both", "certs.ambiguous"),
    ] {
        let error = store.show(query).unwrap_err();
        assert_eq!(error.code(), code, "{query}: {error}");
    }
    // One of a file is taken out of it, the other stays.
    store.reject(&hex, NOW).unwrap();
    assert_eq!((places(&store, &one), places(&store, &two)), (vec![Place::Distrusted], vec![Place::Trusted]));
}

#[test]
fn the_own_certificate_is_shown_and_never_decided_about() {
    let node = Node::new(&["node-b"]);
    let store = store(&node);
    let hex = node.identity.fingerprint().to_hex();
    for query in ["own", &hex, "certificate.pem"] {
        let exported = store.show(query).unwrap().pem();
        assert!(
            exported.starts_with("-----BEGIN CERTIFICATE-----") && !exported.contains("PRIVATE"),
            "{exported}"
        );
        for error in [store.trust(query, false, NOW), store.reject(query, NOW), store.delete(query, None)] {
            assert!(matches!(error, Err(ManageError::Own)), "{error:?}");
        }
    }
    assert!(node.certificate().exists() && node.private_key().exists());
}

#[test]
fn an_authority_is_trusted_only_when_that_is_said() {
    let node = Node::new(&["node-b"]);
    let (store, root) = (store(&node), Authority::root("Plant CA", plain));
    let middle = root.below("Line CA", plain);
    let leaf = middle.leaf(plain);
    let error = store.import(&root.der, ImportAs::Peer, NOW).unwrap_err();
    assert_eq!(error.code(), "certs.is_authority");
    assert!(error.to_string().contains("everything it has signed"), "{error}");
    assert_eq!(store.import(&leaf, ImportAs::Authority, NOW).unwrap_err().code(), "certs.not_authority");
    assert_eq!(store.import(&leaf, ImportAs::Intermediate, NOW).unwrap_err().code(), "certs.not_authority");
    assert!(
        store.list().unwrap().entries.iter().all(|entry| entry.place == Place::Own),
        "nothing was written"
    );

    // A chain as authorities hand it out: only the peer's own is trusted.
    let chain = pem(&leaf) + &pem(&middle.der) + &pem(&root.der);
    let change = store.import(chain.as_bytes(), ImportAs::Peer, NOW).unwrap();
    assert_eq!(change.certificates.len(), 3);
    assert_eq!(places(&store, &leaf), [Place::Trusted]);
    assert_eq!(
        (places(&store, &middle.der), places(&store, &root.der)),
        (vec![Place::Issuers], vec![Place::Issuers])
    );

    let hex = Fingerprint::of(&root.der).to_hex();
    assert_eq!(store.trust(&hex, false, NOW).unwrap_err().code(), "certs.is_authority");
    store.trust(&hex, true, NOW).unwrap();
    assert_eq!(places(&store, &root.der), [Place::Trusted]);
    assert_eq!(
        store.trust(&Fingerprint::of(&leaf).to_hex(), true, NOW).unwrap_err().code(),
        "certs.not_authority"
    );
    let change = store.reject(&hex, NOW).unwrap();
    assert!(change.to_string().contains("because it has signed it"), "{change}");
    assert_eq!(store.import(&root.der, ImportAs::Authority, NOW).unwrap_err().code(), "certs.was_rejected");
}

#[test]
fn an_import_is_whole_or_nothing() {
    let node = Node::new(&["node-b"]);
    let (store, root) = (store(&node), Authority::root("Plant CA", plain));
    let leaf = root.leaf(plain);
    let text = pem(&leaf);
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cases: [(Vec<u8>, &str); 8] = [
        (Vec::new(), "it holds no certificate"),
        (b"hello".to_vec(), "it holds no certificate"),
        (text.as_bytes()[..text.len() / 2].to_vec(), "cut or damaged"),
        (leaf[..leaf.len() - 1].to_vec(), "cut or damaged"),
        ((text.clone() + bad).into_bytes(), "not an X.509 certificate"),
        ((text.clone() + key).into_bytes(), "private key"),
        (text.repeat(65).into_bytes(), "65 certificates"),
        (vec![b'x'; 2 << 20], "more than 1048576 bytes"),
    ];
    for (bytes, words) in cases {
        let error = store.import(&bytes, ImportAs::Peer, NOW).unwrap_err();
        assert_eq!(error.code(), "certs.unreadable");
        assert!(error.to_string().contains(words), "{words} is missing in: {error}");
        assert!(support::files(&store.trusted()).is_empty(), "{words}");
    }
    for bytes in [leaf.clone(), text.into_bytes()] {
        store.import(&bytes, ImportAs::Peer, NOW).unwrap();
        assert_eq!(support::files(&store.trusted()).len(), 1, "twice the same is once");
    }
    let old = self_signed(|params| params.not_after = day!(-3));
    let change = store.import(&old, ImportAs::Peer, NOW).unwrap();
    assert!(change.to_string().contains("refused all the same: it expired 3 days ago"), "{change}");
}

/// Found out only while writing, the first half would stay.
#[test]
fn an_import_that_has_no_room_writes_nothing() {
    let node = Node::new(&["node-b"]);
    let (store, root) = (store(&node), Authority::root("Plant CA", plain));
    for number in 0..255 {
        fs::write(store.trusted().join(format!("{number}.pem")), "not yet a certificate").unwrap();
    }
    let both = [self_signed(plain), self_signed(|params| params.not_after = day!(99))];
    let text =
        [pem(&both[0]), pem(&both[1]), pem(&root.der), pem_of(&root.crl(&[], -1, 30), "X509 CRL")].concat();
    let error = store.import(text.as_bytes(), ImportAs::Peer, NOW).unwrap_err();
    assert_eq!(error.code(), "certs.full");
    let written = [store.issuers(), store.crls()[0].clone()].map(|folder| support::files(&folder).len());
    assert_eq!((support::files(&store.trusted()).len(), written), (255, [0, 0]));
    for _again in 0..2 {
        store.import(&both[0], ImportAs::Peer, NOW).unwrap();
        assert_eq!(support::files(&store.trusted()).len(), 256, "the last one, and what is there is no more");
    }
}

/// A file that is larger than what is read would be imported, and trusted by nobody.
#[test]
fn what_could_not_be_read_again_is_not_imported() {
    let node = Node::new(&["node-b"]);
    let store = store(&node);
    let large = self_signed(|params| {
        let name =
            |number: usize| rcgen::SanType::DnsName(format!("node-{number:05}.plant").try_into().unwrap());
        params.subject_alt_names = (0..2800).map(name).collect();
    });
    assert!(large.len() < 64 * 1024, "a certificate that can be looked at: {}", large.len());
    let error = store.import(&large, ImportAs::Peer, NOW).unwrap_err().to_string();
    assert!(error.contains("at most 65536 are read"), "{error}");
    assert!(support::files(&store.trusted()).is_empty());

    let list = |name: &str| {
        let serials: Vec<u64> = (0..30_000).map(|serial| u64::MAX / 2 + serial).collect();
        Authority::root(name, plain).crl(&serials, -1, 30)
    };
    store.import(&list("A"), ImportAs::Peer, NOW).unwrap();
    store.import(&list("B"), ImportAs::Peer, NOW).unwrap();
    let error = store.import(&list("C"), ImportAs::Peer, NOW).unwrap_err().to_string();
    assert!(error.contains("all revocation lists together would have"), "{error}");
    assert_eq!(support::files(&store.crls()[0]).len(), 2, "one more, and none could be used");
}

/// A stranger's name cannot hide from an operator why and when it was refused.
#[test]
fn a_name_that_looks_like_pem_hides_no_words() {
    let node = Node::new(&["node-b"]);
    let store = store(&node);
    let odd = self_signed(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "-----BEGIN CERTIFICATE-----");
    });
    store.import(&odd, ImportAs::Peer, NOW).unwrap();
    let [_own, entry] = &store.list().unwrap().entries[..] else { panic!("two certificates") };
    assert_eq!(entry.reason.as_deref(), Some("imported by an operator"));
    assert!(entry.since.is_some());
}

#[tokio::test]
async fn a_revocation_list_is_imported_replaced_and_deleted() {
    let (b, root) = (Node::new(&["node-b"]), Authority::root("Plant CA", plain));
    let key = rcgen::KeyPair::generate().unwrap();
    let a = Node::new(&["node-a"]);
    fs::write(a.certificate(), root.leaf_with(&key, plain)).unwrap();
    fs::write(a.private_key(), key.serialize_pem()).unwrap();
    a.identity.reload().unwrap();
    let (connector, acceptor, store) = (b.connector(TrustMode::Store), a.acceptor(), store(&b));
    store.import(&root.der, ImportAs::Authority, NOW).unwrap();
    assert!(shake(&connector, HOST, &acceptor).await.0.is_ok());

    let change = store.import(&root.crl(&[42], -5, 30), ImportAs::Peer, NOW).unwrap();
    assert!(change.to_string().contains("revocation list of `CN=Plant CA` is here now"), "{change}");
    assert_eq!(failure(shake(&connector, HOST, &acceptor).await.0).0, "tls.revoked");
    let [list] = &store.list().unwrap().crls[..] else { panic!("one list") };
    assert_eq!((list.issuer.as_str(), list.revoked), ("CN=Plant CA", 1));

    let older = store.import(&root.crl(&[], -9, 30), ImportAs::Peer, NOW).unwrap_err();
    assert!(older.to_string().contains("newer revocation list"), "{older}");
    store.import(&root.crl(&[], -1, 30), ImportAs::Peer, NOW).unwrap();
    assert_eq!(support::files(&store.crls()[0]).len(), 1, "it has replaced the older one");
    // Several of one issuer in one file: the newest counts, in whatever order they come.
    let (newer, newest) = (root.crl(&[], -4, 30), root.crl(&[42], 0, 30));
    let both = [&newest, &newer].map(|der| pem_of(der, "X509 CRL")).concat();
    store.import(both.as_bytes(), ImportAs::Peer, NOW).unwrap();
    assert_eq!(support::files(&store.crls()[0]).len(), 1);
    assert_eq!(store.list().unwrap().crls[0].revoked, 1, "the newest");
    store.delete(support::files(&store.crls()[0])[0].file_name().unwrap().to_str().unwrap(), None).unwrap();
    store.import(&root.crl(&[], -1, 30), ImportAs::Peer, NOW).unwrap();
    assert!(shake(&connector, HOST, &acceptor).await.0.is_ok());

    // One that is put there by hand and is none stops every chain, and is said.
    let cut = store.crls()[1].join("cut.crl");
    fs::write(&cut, &root.crl(&[], -1, 30)[..40]).unwrap();
    let (code, words) = failure(shake(&connector, HOST, &acceptor).await.0);
    assert_eq!(code, "tls.revocation_unknown");
    assert!(words.contains("cut.crl"), "{words}");
    assert!(store.list().unwrap().problems[0].contains("cut.crl"));
    store.delete("cut.crl", None).unwrap();
    assert!(shake(&connector, HOST, &acceptor).await.0.is_ok());
}

#[test]
fn a_certificate_in_two_places_is_deleted_where_that_is_said() {
    let node = Node::new(&["node-b"]);
    let (store, one) =
        (store(&node), self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)));
    store.import(&one, ImportAs::Intermediate, NOW).unwrap_err();
    let root = Authority::root("Plant CA", plain);
    for import_as in [ImportAs::Intermediate, ImportAs::Authority] {
        store.import(&root.der, import_as, NOW).unwrap();
    }
    let hex = Fingerprint::of(&root.der).to_hex();
    let error = store.delete(&hex, None).unwrap_err();
    assert_eq!(error.code(), "certs.ambiguous");
    assert!(error.to_string().contains("the one in `trusted` or the one in `issuers`"), "{error}");
    assert_eq!(store.delete(&hex, Some(Place::Rejected)).unwrap_err().code(), "certs.not_found");
    store.delete(&hex, Some(Place::Trusted)).unwrap();
    assert_eq!(places(&store, &root.der), [Place::Issuers]);
    store.delete(&hex, None).unwrap();
    assert!(places(&store, &root.der).is_empty());
}

#[test]
fn what_is_trusted_by_itself_outlives_the_rejection_of_its_authority_and_is_named() {
    let (b, root) = (Node::new(&["node-b"]), Authority::root("Plant CA", plain));
    let (store, leaf) = (store(&b), root.leaf(plain));
    store.import([pem(&leaf), pem(&root.der)].concat().as_bytes(), ImportAs::Peer, NOW).unwrap();
    let change = store.reject(&Fingerprint::of(&root.der).to_hex(), NOW).unwrap();
    let said = change.to_string();
    assert!(said.contains("nothing is accepted any more because it has signed it"), "{said}");
    assert!(
        said.contains("still accepted, are") && said.contains(&Fingerprint::of(&leaf).to_string()),
        "{said}"
    );
    let change = store.reject(&Fingerprint::of(&leaf).to_hex(), NOW).unwrap();
    assert!(!change.to_string().contains("still accepted"));
}
