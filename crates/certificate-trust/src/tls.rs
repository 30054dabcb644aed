//! The two ends of the link's TLS: one way only to do it, with nothing to negotiate.
//!
//! TLS 1.3, ALPN `h2` required at both ends, a full handshake each time: no tickets, no resumption, no 0-RTT, so that a change of
//! trust bites at once and each connection has a channel binding of its own. The client shows no certificate: what
//! admits it is the proof of the key ([`crate::proof`]).
//!
//! Neither end has a deadline of its own: the caller has one for the whole dial. Dropping the future closes the
//! connection and leaves nothing behind.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use service_kit::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ChannelBinding;
use crate::certificate::{CertificateFacts, Refusal};
use crate::error::{self, TlsError};
use crate::identity::OwnIdentity;
use crate::pki::PkiStore;
use crate::provider::provider;
use crate::rejected::{self, Kept};
use crate::verifier::{RefusedCertificate, Trusted, Verifier};

/// The only application protocol of the link (RFC 7301, RFC 9113).
const ALPN: &[u8] = b"h2";
/// RFC 9266 §2: the label of `tls-exporter`; its context is empty.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Threads of one connector that may be in the PKI folders at once: two dials run at most.
const FILE_THREADS: usize = 2;

/// The accepting end of a connection.
pub type ServerTls<IO> = tokio_rustls::server::TlsStream<IO>;
/// The dialling end of a connection.
pub type ClientTls<IO> = tokio_rustls::client::TlsStream<IO>;

/// Which server certificates are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustMode {
    /// Every one (unsafe): the proof of the key alone protects the pair.
    All,
    /// Those in `pki/trusted/certs`, if their names and time are right.
    Store,
}

/// Accepts connections with the node's own certificate. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Always shows the newest certificate that `identity` has published.
    ///
    /// # Panics
    /// Never: the provider of this crate knows TLS 1.3, which a test makes sure of.
    #[must_use]
    pub fn new(identity: &OwnIdentity) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("both providers know TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// Does the handshake and hands out the stream with its channel binding.
    ///
    /// # Errors
    /// When the other end does not speak TLS 1.3 with ALPN `h2`, refuses our certificate, or goes away.
    pub async fn accept<IO>(&self, io: IO) -> Result<(ServerTls<IO>, ChannelBinding), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.0.accept(io).await.map_err(error::from_handshake)?;
        let (_, connection) = stream.get_ref();
        let binding = finish(connection.alpn_protocol(), connection.handshake_kind(), |out| {
            connection.export_keying_material(out, EXPORTER_LABEL, Some(&[]))
        })?;
        Ok((stream, binding))
    }
}

/// Dials servers and decides whether their certificate is trusted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    mode: TrustMode,
    store: PkiStore,
    clock: Clock,
    file_turns: Arc<Semaphore>,
}

impl Connector {
    /// In mode [`TrustMode::Store`] the store is read afresh at each connection.
    #[must_use]
    pub fn new(mode: TrustMode, store: PkiStore, clock: Clock) -> Self {
        Self { mode, store, clock, file_turns: Arc::new(Semaphore::new(FILE_THREADS)) }
    }

    /// Does the handshake over `io` and hands out the stream with its channel binding. `host` is what the address
    /// names: a host name, an IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// An unknown certificate is kept in `pki/rejected`.
    ///
    /// # Errors
    /// When the certificate is not trusted, or the other end does not speak TLS 1.3 with ALPN `h2`, or goes away.
    pub async fn connect<IO>(&self, host: &str, io: IO) -> Result<(ClientTls<IO>, ChannelBinding), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(host)?;
        let config = self.config(self.trusted().await?);
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

    async fn trusted(&self) -> Result<Trusted, TlsError> {
        match self.mode {
            TrustMode::All => Ok(Trusted::Everything),
            TrustMode::Store => {
                let store = self.store.clone();
                let leaves = self.off_thread(move || store.trusted_leaves()).await?;
                leaves.map(Trusted::Leaves).map_err(TlsError::Store)
            }
        }
    }

    fn config(&self, trusted: Trusted) -> ClientConfig {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config =
            ClientConfig::builder_with_details(provider, Arc::new(ClockTime(self.clock.clone())))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("both providers know TLS 1.3")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier { trusted, algorithms }))
                .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config
    }

    /// Turns a failed handshake into words, and keeps an unknown certificate.
    async fn explain(&self, cause: std::io::Error) -> TlsError {
        match error::refused_certificate(&cause) {
            Some(RefusedCertificate { refusal, der }) => {
                let (refusal, der) = (refusal.clone(), der.clone());
                let kept = if refusal == Refusal::Unknown { self.keep(der.clone()).await } else { Kept::No };
                TlsError::Certificate { certificate: describe(&der), refusal, kept }
            }
            None => error::from_handshake(cause),
        }
    }

    async fn keep(&self, der: CertificateDer<'static>) -> Kept {
        let (store, now) = (self.store.clone(), self.clock.now().unix);
        let work = move || rejected::keep(&store, &der, &Refusal::Unknown, now);
        // The refusal stands whether or not the certificate could be kept.
        self.off_thread(work).await.unwrap_or_else(|stopping| Kept::Failed(stopping.to_string()))
    }

    /// Files are read and written away from the async threads, which carry heartbeats. On a disk that hangs, the dials wait
    /// here in turn, each until its caller's deadline, and only [`FILE_THREADS`] threads hang with it.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TlsError> {
        let turn = Arc::clone(&self.file_turns).acquire_owned().await.map_err(|_| TlsError::Stopping)?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| TlsError::Stopping)
    }
}

/// The node's clock, as rustls wants it.
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(core::time::Duration::from_secs(self.0.now().unix)))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| TlsError::BadHost { host: host.chars().take(256).collect() })
}

fn describe(der: &CertificateDer<'_>) -> String {
    CertificateFacts::read(der)
        .map_or_else(|_| format!("{} (unreadable)", crate::Fingerprint::of(der)), |facts| facts.to_string())
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
