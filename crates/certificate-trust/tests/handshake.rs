//! The TLS ends against each other and against peers that do it otherwise.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod support;

use std::sync::Arc;

use certificate_trust::{TlsError, TrustMode};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, SignatureScheme, SupportedProtocolVersion};
use support::{DAY, NOW, Node, failure, shake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_pair_that_trusts_each_other_talks_and_sees_one_binding() {
    let (a, b) = (Node::new(&["node-a", "10.0.0.5", "::1"]), Node::new(&["node-b"]));
    b.trust(&a);
    for host in ["node-a", "NODE-A", "10.0.0.5", "::1", "[::1]"] {
        let (dialled, accepted) = shake(&b.connector(TrustMode::Store), host, &a.acceptor()).await;
        let ((mut client, at_client), (mut server, at_server)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(at_client, at_server, "both ends of one connection have one binding");
        assert_ne!(at_client, [0; 32]);
        client.write_all(b"beat").await.unwrap();
        client.flush().await.unwrap();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"beat");
    }
}

/// Names as machines have them: capitals, underscores, the dot that DNS writes at the end.
#[tokio::test]
async fn names_are_compared_as_dns_does() {
    let (a, b) = (Node::new(&["PLC_7.Plant.local.", "node-a"]), Node::new(&["node-b"]));
    assert_eq!(a.identity.facts().names, ["`PLC_7.Plant.local`", "`node-a`"]);
    b.trust(&a);
    for host in ["plc_7.plant.local", "PLC_7.Plant.local.", "node-a."] {
        let (dialled, _) = shake(&b.connector(TrustMode::Store), host, &a.acceptor()).await;
        assert!(dialled.is_ok(), "{host}: {}", dialled.err().unwrap());
    }
}

#[tokio::test]
async fn each_connection_has_a_binding_of_its_own() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let connector = b.connector(TrustMode::All);
    let (first, _) = shake(&connector, "node-a", &a.acceptor()).await;
    let (second, _) = shake(&connector, "node-a", &a.acceptor()).await;
    assert_ne!(first.unwrap().1, second.unwrap().1);
}

#[tokio::test]
async fn works_over_tcp() {
    let (a, b) = (Node::new(&["127.0.0.1"]), Node::new(&["node-b"]));
    b.trust(&a);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, connector) = (a.acceptor(), b.connector(TrustMode::Store));
    let serve = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap().1 };
    let dial =
        async { connector.connect("127.0.0.1", TcpStream::connect(address).await.unwrap()).await.unwrap().1 };
    let (at_server, at_client) = tokio::join!(serve, dial);
    assert_eq!(at_server, at_client);
}

#[tokio::test]
async fn mode_all_takes_any_certificate_name_and_time() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let connector = b.connector_at(TrustMode::All, NOW + 100 * 365 * DAY);
    let (dialled, accepted) = shake(&connector, "another-name", &a.acceptor()).await;
    assert_eq!(dialled.unwrap().1, accepted.unwrap().1);
    assert!(b.rejected().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_says_since_when() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    b.trust(&a);
    let end = u64::try_from(a.identity.facts().not_after).unwrap();
    let (dialled, accepted) =
        shake(&b.connector_at(TrustMode::Store, end + 3 * DAY + 60), "node-a", &a.acceptor()).await;
    let (code, words) = failure(dialled);
    assert_eq!(code, "tls.expired");
    assert!(words.contains("expired 3 days ago"), "{words}");
    assert!(words.contains(&a.identity.fingerprint().to_string()), "{words}");
    assert_eq!(failure(accepted).0, "tls.refused_by_peer");
    assert!(b.rejected().is_empty(), "a trusted certificate is not unknown, only old");
    let (last_second, _) = shake(&b.connector_at(TrustMode::Store, end), "node-a", &a.acceptor()).await;
    assert!(last_second.is_ok(), "RFC 5280 §4.1.2.5: the last second is inside");
}

#[tokio::test]
async fn a_certificate_of_the_future_points_at_the_clocks() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    b.trust(&a);
    let (dialled, _) =
        shake(&b.connector_at(TrustMode::Store, NOW - 40 * DAY), "node-a", &a.acceptor()).await;
    let (code, words) = failure(dialled);
    assert_eq!(code, "tls.not_yet_valid");
    assert!(words.contains("another 39 days") && words.contains("clocks"), "{words}");
}

#[tokio::test]
async fn a_wrong_name_says_both_the_wanted_and_the_present_ones() {
    let (a, b) = (Node::new(&["node-a", "10.0.0.5"]), Node::new(&["node-b"]));
    b.trust(&a);
    for (host, wanted) in
        [("plc7", "name `plc7` not in certificate: has `node-a`, 10.0.0.5"), ("10.0.0.6", "`10.0.0.6`")]
    {
        let (dialled, _) = shake(&b.connector(TrustMode::Store), host, &a.acceptor()).await;
        let (code, words) = failure(dialled);
        assert_eq!(code, "tls.name_mismatch");
        assert!(words.contains(wanted), "{words}");
    }
}

#[tokio::test]
async fn a_host_that_is_no_name_is_refused_before_anything_is_sent() {
    let b = Node::new(&["node-b"]);
    for host in ["", "a b", "[::1", "-", "http://x", "x:5001"] {
        let (near, mut far) = tokio::io::duplex(1024);
        assert_eq!(
            failure(b.connector(TrustMode::All).connect(host, near).await).0,
            "tls.bad_host",
            "{host}"
        );
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "nothing was sent");
    }
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let a = Node::new(&["node-a"]);
    let (client, accepted) = foreign_client(&a, foreign(&[&rustls::version::TLS12], &[b"h2"])).await;
    assert!(client.is_err());
    assert_eq!(failure(accepted).0, "tls.version");
}

#[tokio::test]
async fn a_client_with_another_protocol_or_none_is_refused() {
    let a = Node::new(&["node-a"]);
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let (_, accepted) = foreign_client(&a, foreign(&[&rustls::version::TLS13], alpn)).await;
        assert_eq!(failure(accepted).0, "tls.alpn", "{alpn:?}");
    }
}

#[tokio::test]
async fn a_server_without_h2_is_refused() {
    let b = Node::new(&["node-b"]);
    for alpn in [vec![b"http/1.1".to_vec()], vec![]] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = foreign_acceptor(&[&rustls::version::TLS13], alpn);
        let connector = b.connector(TrustMode::All);
        let (dialled, _) = tokio::join!(connector.connect("x", near), acceptor.accept(far));
        assert_eq!(failure(dialled).0, "tls.alpn");
    }
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_refused() {
    let b = Node::new(&["node-b"]);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = foreign_acceptor(&[&rustls::version::TLS12], vec![b"h2".to_vec()]);
    let connector = b.connector(TrustMode::All);
    let (dialled, _) = tokio::join!(connector.connect("x", near), acceptor.accept(far));
    assert_eq!(failure(dialled).0, "tls.version");
}

/// A client that would love to resume gets no ticket, and its second handshake is a full one.
#[tokio::test]
async fn nothing_can_be_resumed() {
    let a = Node::new(&["node-a"]);
    let mut config = foreign(&[&rustls::version::TLS13], &[b"h2"]);
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    for _ in 0..2 {
        let (client, accepted) = foreign_client(&a, config.clone()).await;
        let (mut client, (mut server, _)) = (client.unwrap(), accepted.unwrap());
        // Tickets would come with the first data.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        let (_, connection) = client.get_ref();
        assert_eq!(connection.tls13_tickets_received(), 0);
        assert_ne!(connection.handshake_kind(), Some(HandshakeKind::Resumed));
        assert!(!connection.is_early_data_accepted());
    }
}

/// Nor by us, from a server that hands out tickets.
#[tokio::test]
async fn we_never_resume() {
    let b = Node::new(&["node-b"]);
    let (connector, acceptor) =
        (b.connector(TrustMode::All), foreign_acceptor(&[&rustls::version::TLS13], vec![b"h2".to_vec()]));
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (dialled, accepted) = tokio::join!(connector.connect("x", near), acceptor.accept(far));
        let ((mut client, _), mut server) = (dialled.unwrap(), accepted.unwrap());
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        assert!(client.get_ref().1.tls13_tickets_received() > 0, "this server does offer them");
        assert_eq!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// RFC 9266 §2: any other implementation finds the same 32 bytes under the registered label.
#[tokio::test]
async fn the_binding_is_the_registered_exporter() {
    let a = Node::new(&["node-a"]);
    let (client, accepted) = foreign_client(&a, foreign(&[&rustls::version::TLS13], &[b"h2"])).await;
    let client = client.unwrap();
    let theirs =
        client.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
    assert_eq!(theirs, accepted.unwrap().1);
}

/// Trust `all` still wants the private key of the certificate that is shown: here a thief shows node-a's certificate.
#[tokio::test]
async fn a_stolen_certificate_without_its_key_fails_also_with_all() {
    let (a, thief, b) = (Node::new(&["node-a"]), Node::new(&["thief"]), Node::new(&["node-b"]));
    let acceptor = mismatched_acceptor(&a, &thief);
    for mode in [TrustMode::All, TrustMode::Store] {
        b.trust(&a);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = b.connector(mode);
        let (dialled, _) = tokio::join!(connector.connect("node-a", near), acceptor.accept(far));
        assert_eq!(failure(dialled).0, "tls.bad_signature", "{mode:?}");
    }
}

#[tokio::test]
async fn something_that_is_not_tls_is_named() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let answers: [&[u8]; 3] =
        [b"ONDUTY-TOMBSTONE/1\n01234567", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"];
    for answer in answers {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(answer).await.unwrap();
        assert_eq!(failure(b.connector(TrustMode::All).connect("node-a", near).await).0, "tls.not_tls");
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(answer).await.unwrap();
        assert_eq!(failure(a.acceptor().accept(far).await).0, "tls.not_tls");
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_during_the_handshake_is_an_error() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    for sent in [&b""[..], &[0x16, 3, 1], &[0x16, 3, 1, 0, 200, 1, 0]] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(sent).await.unwrap();
        drop(near);
        assert!(matches!(a.acceptor().accept(far).await.err().unwrap(), TlsError::Closed | TlsError::Io(_)));
    }
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let hang_up = async {
        far.read_exact(&mut [0; 32]).await.unwrap();
        drop(far);
    };
    let connector = b.connector(TrustMode::All);
    let (dialled, ()) = tokio::join!(connector.connect("node-a", near), hang_up);
    assert!(matches!(dialled.err().unwrap(), TlsError::Closed | TlsError::Io(_)));
}

/// A garbage generator does not make the acceptor hang or panic: each ends in an error as soon as the bytes are there.
#[tokio::test]
async fn garbage_is_refused() {
    let a = Node::new(&["node-a"]);
    let acceptor = a.acceptor();
    for seed in 0_u8..64 {
        let garbage: Vec<u8> =
            (0..400_u16).map(|i| i.to_be_bytes()[1].wrapping_mul(seed | 1).wrapping_add(seed)).collect();
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(&garbage).await.unwrap();
        drop(near);
        assert!(acceptor.accept(far).await.is_err(), "seed {seed}");
    }
}

// ---- peers that are not ours

type ForeignStream = tokio_rustls::client::TlsStream<tokio::io::DuplexStream>;

async fn foreign_client(
    a: &Node,
    config: ClientConfig,
) -> (std::io::Result<ForeignStream>, support::Accepted) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("node-a").unwrap();
    let acceptor = a.acceptor();
    let (client, accepted) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    (client, accepted)
}

fn foreign(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> ClientConfig {
    certificate_trust::install_crypto_provider();
    let mut config = ClientConfig::builder_with_protocol_versions(versions)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

fn foreign_acceptor(
    versions: &[&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
) -> tokio_rustls::TlsAcceptor {
    certificate_trust::install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn;
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Shows the certificate of `shown` and signs with the key of `signer`.
fn mismatched_acceptor(shown: &Node, signer: &Node) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    certificate_trust::install_crypto_provider();
    let provider = rustls::crypto::CryptoProvider::get_default().unwrap();
    let certificate = CertificateDer::from_pem_file(shown.certificate()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(signer.private_key()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let pair = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Believes everything, as a careless client does.
#[derive(Debug)]
struct Blind;

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
