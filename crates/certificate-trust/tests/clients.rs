//! The certificate of whoever dials: shown when it is asked for, and judged like any other.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::fs;
use std::sync::Arc;

use certificate_trust::{
    Acceptor, ClientTrust, Connector, OwnIdentity, PkiStore, TlsError, TrustFolders, TrustMode,
    shown_by_client,
};
use failover_core::BootTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service_kit::Clock;
use support::{DAY, NOW, Node, shake};
use tokio_rustls::TlsConnector;

fn clock(unix: u64) -> Clock {
    Clock::simulated(BootTime::from_nanos(0), unix)
}

fn folders(node: &Node) -> TrustFolders {
    let own = OwnIdentity::open_or_create(&node.pki(), &[], NOW).unwrap();
    let folders = TrustFolders::new(PkiStore::open(&node.pki()).unwrap(), Some(own), None);
    let _ = folders.look();
    folders
}

/// A node as a process has it: with its own certificate in the bundle.
fn connector(node: &Node) -> Connector {
    let folders = folders(node);
    Connector::watching(TrustMode::All, folders.receiver(), Arc::new(folders), clock(NOW))
}

fn asking(node: &Node, unix: u64) -> Acceptor {
    let folders = folders(node);
    let bundles = folders.receiver();
    let trust = ClientTrust::watching(TrustMode::Store, bundles.clone(), Arc::new(folders), clock(unix));
    Acceptor::asking(bundles, trust)
}

/// What `primary` makes of a dial, at this time.
async fn judged(primary: &Node, connector: &Connector, unix: u64) -> Result<(), TlsError> {
    let acceptor = asking(primary, unix);
    let (dialled, accepted) = shake(connector, "primary", &acceptor).await;
    dialled.unwrap();
    acceptor.judge(&shown_by_client(&accepted.unwrap().0)).await
}

#[tokio::test]
async fn nothing_is_shown_unless_it_is_asked_for() {
    let (a, b) = (Node::new(&["primary"]), Node::new(&["secondary"]));
    let (_, accepted) = shake(&connector(&b), "primary", &a.acceptor()).await;
    assert!(shown_by_client(&accepted.unwrap().0).is_empty());
}

#[tokio::test]
async fn an_unknown_certificate_is_kept_for_an_operator_and_trusted_it_is_let_in() {
    let (a, b) = (Node::new(&["primary"]), Node::new(&["secondary"]));
    let refused = judged(&a, &connector(&b), NOW).await.unwrap_err();
    assert_eq!(refused.code(), "tls.unknown_certificate");
    assert!(refused.to_string().contains("trust it with `onduty certs trust`"), "{refused}");
    assert_eq!(a.rejected().len(), 1);
    let trusted = a.trust(&b);
    judged(&a, &connector(&b), NOW).await.unwrap();
    // Made for twenty years.
    let expired = judged(&a, &connector(&b), NOW + 21 * 365 * DAY).await.unwrap_err();
    assert_eq!(expired.code(), "tls.expired");
    fs::remove_file(trusted).unwrap();
    assert_eq!(judged(&a, &connector(&b), NOW).await.unwrap_err().code(), "tls.unknown_certificate");
}

#[tokio::test]
async fn a_node_without_a_certificate_is_told_which_setting_asks_for_one() {
    let (a, b) = (Node::new(&["primary"]), Node::new(&["secondary"]));
    let refused = judged(&a, &b.connector(TrustMode::All), NOW).await.unwrap_err();
    assert_eq!(refused.code(), "tls.no_certificate");
    assert!(refused.to_string().contains("redundancy.primary.client_trust"), "{refused}");
}

/// What is public of a node is its certificate; without the key it gets nobody in.
#[tokio::test]
async fn a_stolen_certificate_does_not_even_finish_the_handshake() {
    let (a, b, thief) = (Node::new(&["primary"]), Node::new(&["secondary"]), Node::new(&["thief"]));
    a.trust(&b);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(a.certificate()).unwrap()).unwrap();
    certificate_trust::install_crypto_provider();
    let provider = rustls::crypto::CryptoProvider::get_default().cloned().unwrap();
    // rustls itself refuses a pair that does not match, so its parts are put together by hand.
    let signer = PrivateKeyDer::from_pem_file(thief.private_key()).unwrap();
    let signer = provider.key_provider.load_private_key(signer).unwrap();
    let stolen = vec![CertificateDer::from_pem_file(b.certificate()).unwrap()];
    let own = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(stolen, signer));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = tokio::io::duplex(64 * 1024);
    let thief = TlsConnector::from(Arc::new(config));
    let acceptor = asking(&a, NOW);
    let (_, accepted) =
        tokio::join!(thief.connect("primary".try_into().unwrap(), near), acceptor.accept(far));
    assert_eq!(accepted.map(|_| ()).unwrap_err().code(), "tls.bad_signature");
}
