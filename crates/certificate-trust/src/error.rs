//! Why a connection did not come about, in words for people and with a code for machines.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use thiserror::Error as ThisError;

use crate::decision::TrustMode;
use crate::refusal::Refusal;
use crate::rejected::Kept;
use crate::verifier::RefusedCertificate;

/// Why there is no TLS connection.
#[derive(Debug, ThisError)]
pub enum TlsError {
    /// The host cannot be a name in a certificate.
    #[error("{0}")]
    BadHost(Refusal),
    /// The peer's certificate is refused here.
    #[error("the certificate {certificate} is refused: {refusal}{}", advice(kept, *mode))]
    Certificate {
        /// Fingerprint, subject and names.
        certificate: String,
        /// Why.
        refusal: Box<Refusal>,
        /// Whom this node trusts.
        mode: TrustMode,
        /// Where an unknown certificate was put, for an operator to look at.
        kept: Kept,
    },
    /// The peer was asked for a certificate and showed none.
    #[error("it shows no certificate, which `redundancy.primary.client_trust` asks for")]
    NoCertificate,
    /// The peer does not have the private key of the certificate it shows.
    #[error(
        "the peer's handshake signature is wrong: it does not have the private key of the certificate it shows"
    )]
    BadSignature,
    /// The peer refused us.
    #[error("the other end refused the connection with the TLS alert {alert:?}")]
    RefusedByPeer {
        /// What it said.
        alert: AlertDescription,
    },
    /// Something other than TLS is spoken at the other end.
    #[error("the other end does not speak TLS")]
    NotTls,
    /// The other end does not speak TLS 1.3, or nothing in common with us.
    #[error("the other end cannot do TLS 1.3 as it is needed here")]
    Version(#[source] Error),
    /// The other end does not speak HTTP/2.
    #[error("the other end does not speak the protocol `h2` (ALPN)")]
    Alpn,
    /// The session was resumed, which neither end offers.
    #[error("the other end resumed an earlier TLS session, which is never allowed here")]
    Resumed,
    /// The other end went away during the handshake.
    #[error("the other end closed the connection during the TLS handshake")]
    Closed,
    /// The connection broke.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
    /// What is trusted is not known: nobody is until it is.
    #[error("nobody is trusted for now: {0}")]
    Store(Refusal),
    /// Anything else that TLS found wrong.
    #[error("the TLS handshake failed")]
    Handshake {
        /// What rustls says.
        #[source]
        source: Error,
    },
    /// The process is ending.
    #[error("this node is stopping")]
    Stopping,
}

impl TlsError {
    /// The machine code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadHost(refusal) | Self::Store(refusal) => refusal.code(),
            Self::Certificate { refusal, .. } => refusal.code(),
            Self::NoCertificate => "tls.no_certificate",
            Self::BadSignature => "tls.bad_signature",
            Self::RefusedByPeer { .. } => "tls.refused_by_peer",
            Self::NotTls => "tls.not_tls",
            Self::Version(_) => "tls.version",
            Self::Alpn => "tls.alpn",
            Self::Resumed => "tls.resumed",
            Self::Closed => "tls.closed",
            Self::Io(_) => "tls.io",
            Self::Handshake { .. } => "tls.handshake",
            Self::Stopping => "tls.stopping",
        }
    }
}

fn advice(kept: &Kept, mode: TrustMode) -> String {
    match kept {
        Kept::No => String::new(),
        Kept::At(path) if mode == TrustMode::System => format!(
            " (kept as `{}` for a look at it: with trust \"system\" only what the operating system's authorities have signed is accepted)",
            path.display()
        ),
        Kept::At(path) => format!(
            " (kept as `{}`: compare the fingerprint with the one the other node shows, then trust it with `onduty certs trust`)",
            path.display()
        ),
        Kept::Failed(why) => format!(" (and could not be kept for a look at it: {why})"),
    }
}

/// The certificate that our own verifier refused, if that is the cause.
pub(crate) fn refused_certificate(cause: &io::Error) -> Option<&RefusedCertificate> {
    let Error::InvalidCertificate(CertificateError::Other(other)) = tls_cause(cause)? else { return None };
    other.0.downcast_ref()
}

pub(crate) fn from_handshake(cause: io::Error) -> TlsError {
    match tls_cause(&cause) {
        Some(tls) => from_tls(tls),
        None if cause.kind() == io::ErrorKind::UnexpectedEof => TlsError::Closed,
        None => TlsError::Io(cause),
    }
}

fn tls_cause(cause: &io::Error) -> Option<&Error> {
    cause.get_ref()?.downcast_ref()
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "rustls's errors are open-ended; the rest keeps rustls's words"
)]
fn from_tls(cause: &Error) -> TlsError {
    match cause {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        )
        | Error::PeerSentOversizedRecord => TlsError::NotTls,
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            TlsError::Version(cause.clone())
        }
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            TlsError::Alpn
        }
        Error::AlertReceived(alert) => TlsError::RefusedByPeer { alert: *alert },
        Error::InvalidCertificate(CertificateError::BadSignature) => TlsError::BadSignature,
        _ => TlsError::Handshake { source: cause.clone() },
    }
}
