//! Asks each row twice: the function, and the link.

use std::sync::Arc;

use certificate_trust::{
    Connector, Kept, Later, Purpose, TlsError, TrustKeeper, TrustMode, Unknown, install_crypto_provider,
};
use failover_core::BootTime;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use service_kit::Clock;
use tokio_rustls::TlsAcceptor;

use crate::authority::node_key;
use crate::rows::Row;

/// A larger certificate is ended by the TLS library.
const LARGEST: usize = 0xffff;

/// Each row: what it shows, the row, the code, and a part of the sentence.
pub(crate) fn check(rows: Vec<(&str, Row<'_>, &str, &str)>) {
    install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (what, row, code, words) in rows {
        let (found, sentence) = row.decide();
        assert_eq!(found, code, "{what}: {sentence}");
        assert!(sentence.contains(words), "{what}: `{words}` is missing in: {sentence}");
        assert!(!sentence.contains("Error") && !sentence.contains("  "), "{what}: {sentence}");
        // A node that dials decides about servers, and TLS carries no more than its own limit.
        if row.purpose == Purpose::Server && row.leaf.len() <= LARGEST {
            let verdict = runtime.block_on(dial(&row));
            let accepted = code.starts_with("tls.accepted");
            let expected = if accepted { Ok(()) } else { Err((found, sentence)) };
            assert_eq!(verdict, expected, "{what}, over the link");
        }
    }
}

/// The verdict of a connector that trusts what the row trusts, on a server that shows what the row shows.
async fn dial(row: &Row<'_>) -> Result<(), (&'static str, String)> {
    let clock = Clock::simulated(BootTime::from_nanos(0), row.now);
    let connector = Connector::watching(row.mode, row.bundle.clone().fixed(), Arc::new(KeepsNothing), clock);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (dialled, _accepted) = tokio::join!(connector.connect(row.name, near), server(row).accept(far));
    match dialled {
        Ok(_) => Ok(()),
        // Trust `all` has not looked at what is no certificate; then nothing can be signed with it.
        Err(TlsError::Handshake { .. }) if row.mode == TrustMode::All => Ok(()),
        Err(TlsError::Certificate { refusal, .. }) => Err((refusal.code(), refusal.to_string())),
        Err(TlsError::BadHost(refusal) | TlsError::Store(refusal)) => {
            Err((refusal.code(), refusal.to_string()))
        }
        Err(other) => Err((other.code(), other.to_string())),
    }
}

/// It has the private key of every node's certificate in these tests.
fn server(row: &Row<'_>) -> TlsAcceptor {
    let provider = CryptoProvider::get_default().unwrap();
    let key = PrivateKeyDer::Pkcs8(node_key().serialize_der().into());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = row.shown.iter().map(|authority| authority.der.clone());
    let chain = core::iter::once(row.leaf.clone()).chain(shown).map(CertificateDer::from).collect();
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Debug)]
struct KeepsNothing;

impl TrustKeeper for KeepsNothing {
    fn keep(&self, _unknown: Unknown) -> Later<'_, Kept> {
        Box::pin(core::future::ready(Kept::No))
    }
}
