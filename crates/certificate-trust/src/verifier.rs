//! The decision about a server's certificate, inside the handshake.
//!
//! One verifier lives for one handshake and holds a snapshot of what is trusted: a verifier must answer at once and
//! cannot read files, and a snapshot made at each dial lets a change of trust bite at the next one.
//!
//! In every mode the handshake signature is verified for real (RFC 8446 §4.4.3): `All` accepts every certificate, but the peer
//! must have its private key, else the channel binding would say nothing.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme};

use crate::Fingerprint;
use crate::certificate::{CertificateFacts, Refusal};

/// What one handshake trusts.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// Every certificate.
    Everything,
    /// These certificates themselves.
    Leaves(BTreeSet<Fingerprint>),
}

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
    pub(crate) trusted: Trusted,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn decide(&self, leaf: &CertificateDer<'_>, host: &ServerName<'_>, now: UnixTime) -> Result<(), Refusal> {
        match &self.trusted {
            Trusted::Everything => Ok(()),
            // Trust first: of a stranger's certificate nothing else matters, and it is the one to be kept.
            Trusted::Leaves(leaves) if !leaves.contains(&Fingerprint::of(leaf)) => Err(Refusal::Unknown),
            Trusted::Leaves(_) => {
                CertificateFacts::read(leaf).map_err(Refusal::Invalid)?.judge(leaf, host, now.as_secs())
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.decide(end_entity, server_name, now).map(|()| ServerCertVerified::assertion()).map_err(
            |refusal| {
                let refused = RefusedCertificate { refusal, der: end_entity.clone().into_owned() };
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
            },
        )
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
