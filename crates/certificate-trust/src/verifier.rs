//! The decision about a server's certificate, inside the handshake.
//!
//! One verifier lives for one handshake and holds the snapshot of what is trusted that was the newest when it began: a
//! verifier must answer at once and cannot read files. The decision itself is in `decision.rs`.
//!
//! In every mode the handshake signature is verified for real (RFC 8446 §4.4.3): `All` accepts every certificate, but the peer
//! must have its private key, else the channel binding would say nothing.

use core::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme};

use crate::bundle::Bundle;
use crate::decision::{Purpose, Question, TrustMode, decide};
use crate::refusal::Refusal;

/// A refused certificate, carried through rustls's error to whoever dials.
#[derive(Debug)]
pub(crate) struct RefusedCertificate {
    pub(crate) refusal: Refusal,
    pub(crate) der: CertificateDer<'static>,
}

impl fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl std::error::Error for RefusedCertificate {}

#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) mode: TrustMode,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown: Vec<&[u8]> =
            core::iter::once(end_entity).chain(intermediates).map(|der| der.as_ref()).collect();
        let name = server_name.to_str();
        let question = Question {
            mode: self.mode,
            shown: &shown,
            name: Some(&name),
            now_unix: now.as_secs(),
            purpose: Purpose::Server,
        };
        decide(&self.bundle, &question).map(|_| ServerCertVerified::assertion()).map_err(|refusal| {
            let refused = RefusedCertificate { refusal, der: end_entity.clone().into_owned() };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        })
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
