//! The two ends of the link's TLS: one way only to do it, with nothing to negotiate.
//!
//! TLS 1.3, ALPN `h2` required at both ends, a full handshake each time: no tickets, no resumption, no 0-RTT, so that a change of
//! trust bites at once and each connection has a channel binding of its own. What admits a client is the proof of the key
//! ([`crate::proof`]); where the server asks for it, the client shows its node's certificate too (`clients.rs`).
//!
//! Neither end has a deadline of its own: the caller has one for the whole dial. Dropping the future closes the
//! connection and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use service_kit::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ChannelBinding;
use crate::bundle::{Bundle, BundleReceiver, Der, TrustKeeper};
use crate::clients::{self, AnyClient, ClientTrust};
use crate::decision::{self, TrustMode};
use crate::error::{self, TlsError};
use crate::folders::TrustFolders;
use crate::identity::{OwnIdentity, OwnOfBundle};
use crate::pki::PkiStore;
use crate::provider::provider;
use crate::refusal::Refusal;
use crate::system::SystemStore;
use crate::verifier::{RefusedCertificate, Verifier};

/// The only application protocol of the link (RFC 7301, RFC 9113).
const ALPN: &[u8] = b"h2";
/// RFC 9266 §2: the label of `tls-exporter`; its context is empty.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// How long a handshake waits for this node's own certificate folders, or for the service that keeps them. A dial has 200 ms in
/// all where timings are short, and a disk that stalls must not make a peer that answers look silent.
pub(crate) const OWN_FILES: Duration = Duration::from_millis(50);

/// The accepting end of a connection.
pub type ServerTls<IO> = tokio_rustls::server::TlsStream<IO>;
/// The dialling end of a connection.
pub type ClientTls<IO> = tokio_rustls::client::TlsStream<IO>;

/// Accepts connections with the node's own certificate. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    /// Judges the certificates of those who dial; without it they are not asked for one.
    clients: Option<ClientTrust>,
}

impl Acceptor {
    /// Always shows the newest certificate that `identity` has published.
    #[must_use]
    pub fn new(identity: &OwnIdentity) -> Self {
        Self::with(identity.resolver(), None)
    }

    /// Always shows the own certificate of the newest bundle; while there has been none, every handshake fails.
    #[must_use]
    pub fn watching(bundles: BundleReceiver) -> Self {
        Self::with(Arc::new(OwnOfBundle::new(bundles)), None)
    }

    /// The same, and asks whoever dials for a certificate, which `clients` judges ([`Self::judge`]).
    #[must_use]
    pub fn asking(bundles: BundleReceiver, clients: ClientTrust) -> Self {
        Self::with(Arc::new(OwnOfBundle::new(bundles)), Some(clients))
    }

    fn with(resolver: Arc<dyn ResolvesServerCert>, clients: Option<ClientTrust>) -> Self {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("both providers know TLS 1.3");
        let config = if clients.is_some() {
            config.with_client_cert_verifier(Arc::new(AnyClient { algorithms }))
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Self { tls: TlsAcceptor::from(Arc::new(config)), clients }
    }

    /// Does the handshake and hands out the stream with its channel binding.
    ///
    /// # Errors
    /// When the other end does not speak TLS 1.3 with ALPN `h2`, refuses our certificate, or goes away.
    pub async fn accept<IO>(&self, io: IO) -> Result<(ServerTls<IO>, ChannelBinding), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.tls.accept(io).await.map_err(error::from_handshake)?;
        let (_, connection) = stream.get_ref();
        let binding = finish(connection.alpn_protocol(), connection.handshake_kind(), |out| {
            connection.export_keying_material(out, EXPORTER_LABEL, Some(&[]))
        })?;
        Ok((stream, binding))
    }

    /// Whether what the client has shown ([`shown_by_client`]) lets it in. To be asked only about one that has proved the key.
    ///
    /// # Errors
    /// As [`ClientTrust::judge`]; never when no certificate was asked for.
    pub async fn judge(&self, shown: &[Der]) -> Result<(), TlsError> {
        match &self.clients {
            Some(clients) => clients.judge(shown).await.map(|_accepted| ()),
            None => Ok(()),
        }
    }
}

/// What the client has shown, its own certificate first; nothing when it was not asked, or has none.
#[must_use]
pub fn shown_by_client<IO>(stream: &ServerTls<IO>) -> Vec<Der> {
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().unwrap_or_default().iter().map(|der| der.to_vec()).collect()
}

/// Dials servers and decides whether their certificate is trusted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    mode: TrustMode,
    bundles: BundleReceiver,
    /// Shown to servers that ask for it.
    own: Arc<OwnOfBundle>,
    keeper: Arc<dyn TrustKeeper>,
    clock: Clock,
}

impl Connector {
    /// Reads the folders of `store`, and with [`TrustMode::System`] the system's roots, as they are at each connection.
    #[must_use]
    pub fn new(mode: TrustMode, store: PkiStore, clock: Clock) -> Self {
        let system = (mode == TrustMode::System).then(SystemStore::of_this_machine);
        let folders = TrustFolders::new(store, None, system);
        Self::watching(mode, folders.receiver(), Arc::new(folders), clock)
    }

    /// Decides with the newest of `bundles`. `keeper` is asked before each connection to bring them up to date, and gets
    /// the certificates that nobody knows.
    #[must_use]
    pub fn watching(
        mode: TrustMode,
        bundles: BundleReceiver,
        keeper: Arc<dyn TrustKeeper>,
        clock: Clock,
    ) -> Self {
        let own = Arc::new(OwnOfBundle::new(bundles.clone()));
        Self { mode, bundles, own, keeper, clock }
    }

    /// Does the handshake over `io` and hands out the stream with its channel binding. `host` is what the address
    /// names: a host name, an IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// A certificate that nobody here knows is kept in `pki/rejected`.
    ///
    /// # Errors
    /// When the certificate is not trusted, or the other end does not speak TLS 1.3 with ALPN `h2`, or goes away.
    pub async fn connect<IO>(&self, host: &str, io: IO) -> Result<(ClientTls<IO>, ChannelBinding), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = decision::server_name(host).map_err(TlsError::BadHost)?;
        let config = self.config(self.bundle().await?);
        let stream = match TlsConnector::from(Arc::new(config)).connect(name, io).await {
            Ok(stream) => stream,
            Err(cause) => return Err(self.explain(cause).await),
        };
        let (_, connection) = stream.get_ref();
        let binding = finish(connection.alpn_protocol(), connection.handshake_kind(), |out| {
            connection.export_keying_material(out, EXPORTER_LABEL, Some(&[]))
        })?;
        Ok((stream, binding))
    }

    /// The snapshot of one handshake.
    async fn bundle(&self) -> Result<Arc<Bundle>, TlsError> {
        if self.mode != TrustMode::All {
            // Own files are never on the path of a dial: late, it decides with what it has.
            let _ = timeout(OWN_FILES, self.keeper.refresh()).await;
        }
        let bundle = Arc::clone(&self.bundles.borrow());
        match &bundle.unusable {
            Some(why) if self.mode != TrustMode::All => Err(TlsError::Store(Refusal::Unusable(why.clone()))),
            Some(_) | None => Ok(bundle),
        }
    }

    fn config(&self, bundle: Arc<Bundle>) -> ClientConfig {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config =
            ClientConfig::builder_with_details(provider, Arc::new(ClockTime(self.clock.clone())))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("both providers know TLS 1.3")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier { mode: self.mode, bundle, algorithms }))
                .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config
    }

    /// Turns a failed handshake into words, and keeps an unknown certificate.
    async fn explain(&self, cause: std::io::Error) -> TlsError {
        let Some(RefusedCertificate { refusal, der }) = error::refused_certificate(&cause) else {
            return error::from_handshake(cause);
        };
        let now_unix = self.clock.now().unix;
        clients::refused(&*self.keeper, self.mode, refusal.clone(), der, now_unix).await
    }
}

/// The node's clock, as rustls wants it.
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now().unix)))
    }
}

/// What must hold of a finished handshake, and its channel binding.
fn finish(
    alpn: Option<&[u8]>,
    kind: Option<HandshakeKind>,
    export: impl FnOnce(ChannelBinding) -> Result<ChannelBinding, rustls::Error>,
) -> Result<ChannelBinding, TlsError> {
    if alpn != Some(ALPN) {
        return Err(TlsError::Alpn);
    }
    if kind == Some(HandshakeKind::Resumed) {
        return Err(TlsError::Resumed);
    }
    export([0; 32]).map_err(|source| TlsError::Handshake { source })
}
