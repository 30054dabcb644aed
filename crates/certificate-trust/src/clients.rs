//! The certificate of whoever dials (mutual TLS), where the accepting node asks for one.
//!
//! ```text
//!   handshake: a certificate is asked for; whoever shows one must have its private key       AnyClient
//!   proof of the key ─► only then: is the certificate trusted? unknown ones to `rejected`    ClientTrust
//! ```
//!
//! The judgement comes after the proof, so that only the other half of the pair can put something into `rejected` or learns
//! why it is refused; a stranger is turned away by the proof, as everywhere.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use service_kit::Clock;
use tokio::time::timeout;

use crate::bundle::{BundleReceiver, Der, TrustKeeper, Unknown};
use crate::decision::{self, Purpose, Question, TrustMode, decide};
use crate::refusal::Refusal;
use crate::rejected::Kept;
use crate::tls::OWN_FILES;
use crate::{Accepted, TlsError};

/// Judges the certificates of nodes that dial. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientTrust {
    mode: TrustMode,
    bundles: BundleReceiver,
    keeper: Arc<dyn TrustKeeper>,
    clock: Clock,
}

impl ClientTrust {
    /// Decides with the newest of `bundles`, which whoever fills them keeps new: no peer waits for a disk here. `keeper` gets
    /// the certificates that nobody knows.
    #[must_use]
    pub fn watching(
        mode: TrustMode,
        bundles: BundleReceiver,
        keeper: Arc<dyn TrustKeeper>,
        clock: Clock,
    ) -> Self {
        Self { mode, bundles, keeper, clock }
    }

    /// Whether a node that showed these certificates, its own first, is let in. Names do not matter: nobody dialled it. To be
    /// asked only about a peer that has proved the key.
    ///
    /// # Errors
    /// When it is not; [`TlsError::NoCertificate`] when it showed none.
    pub async fn judge(&self, shown: &[Der]) -> Result<Accepted, TlsError> {
        let Some(leaf) = shown.first() else { return Err(TlsError::NoCertificate) };
        let bundle = Arc::clone(&self.bundles.borrow());
        let now_unix = self.clock.now().unix;
        let parts: Vec<&[u8]> = shown.iter().map(Vec::as_slice).collect();
        let question =
            Question { mode: self.mode, shown: &parts, name: None, now_unix, purpose: Purpose::Client };
        match decide(&bundle, &question) {
            Ok(accepted) => Ok(accepted),
            Err(refusal) => Err(refused(&*self.keeper, self.mode, refusal, leaf, now_unix).await),
        }
    }
}

/// A refused certificate in words; one that nobody knows is kept for an operator to look at.
pub(crate) async fn refused(
    keeper: &dyn TrustKeeper,
    mode: TrustMode,
    refusal: Refusal,
    der: &[u8],
    now_unix: u64,
) -> TlsError {
    let certificate = decision::describe(der);
    let kept = if refusal.is_unknown() {
        let (code, reason) = (refusal.code().to_owned(), refusal.to_string());
        let unknown = Unknown { der: der.to_vec(), code, reason, seen_unix: now_unix };
        let late = |_elapsed| Kept::Failed("the certificate folders do not answer".to_owned());
        timeout(OWN_FILES, keeper.keep(unknown)).await.unwrap_or_else(late)
    } else {
        Kept::No
    };
    TlsError::Certificate { certificate, refusal: Box::new(refusal), mode, kept }
}

/// Asks for a certificate and takes every one, or none; the signature of the handshake is verified for real.
#[derive(Debug)]
pub(crate) struct AnyClient {
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        // One that shows none is told so after the proof.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whom this node trusts is nobody's business.
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.2 is never negotiated; if it ever were, this ends it.
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
