//! Why a certificate is not accepted: a code for machines that never changes its meaning, and a sentence for people.

use thiserror::Error;

use crate::certificate::{CertificateFacts, InvalidCertificate, rfc3339, span};

/// Why a peer's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing can be decided: what is trusted is not known.
    #[error("{0}")]
    Unusable(String),
    /// What was dialled cannot be in a certificate.
    #[error("`{host}` is neither a host name nor an IP address")]
    BadHost {
        /// What was dialled.
        host: String,
    },
    /// It cannot be read.
    #[error("{0}")]
    Invalid(InvalidCertificate),
    /// An operator has said that it is never to be accepted.
    #[error("it was rejected by an operator (it is in `distrusted`)")]
    Distrusted,
    /// An authority above it was rejected by an operator.
    #[error("an operator has rejected the authority `{issuer}` above it (it is in `distrusted`)")]
    IssuerDistrusted {
        /// Whose.
        issuer: String,
    },
    /// It is not among the trusted ones, and nobody else has signed it.
    #[error("it is not trusted here")]
    Unknown,
    /// It is not among the trusted ones, nor is who signed it.
    #[error("it is not trusted here, and neither is its issuer `{issuer}`{}", only_completes(*.is_known))]
    UnknownIssuer {
        /// Who signed it, by its own words.
        issuer: String,
        /// Whether that one is in `issuers/certs`, whose certificates are not trusted by being there.
        is_known: bool,
    },
    /// The operating system has no roots.
    #[error("the operating system's store of root certificates is empty or cannot be read{}", because(why))]
    NoSystemRoots {
        /// What could not be read; may be empty.
        why: String,
    },
    /// Its time is over.
    #[error("it expired {ago} ago, at {at}")]
    Expired {
        /// How long since, for people.
        ago: String,
        /// When, as RFC 3339.
        at: String,
    },
    /// Its time has not come.
    #[error("it is not valid for another {until}, until {at}: are the clocks of both nodes right?")]
    NotYetValid {
        /// How long to wait, for people.
        until: String,
        /// When, as RFC 3339.
        at: String,
    },
    /// The time of an authority above it is over.
    #[error("the authority `{issuer}` above it expired {ago} ago, at {at}")]
    IssuerExpired {
        /// Whose.
        issuer: String,
        /// How long since, for people.
        ago: String,
        /// When, as RFC 3339.
        at: String,
    },
    /// The time of an authority above it has not come.
    #[error(
        "the authority `{issuer}` above it is not valid for another {until}, until {at}: are the clocks of both nodes right?"
    )]
    IssuerNotYetValid {
        /// Whose.
        issuer: String,
        /// How long to wait, for people.
        until: String,
        /// When, as RFC 3339.
        at: String,
    },
    /// It was made for other names.
    #[error("name `{wanted}` not in certificate: has {has}")]
    NameMismatch {
        /// The name or address that was dialled.
        wanted: String,
        /// The names it has.
        has: String,
    },
    /// It was made for something else.
    #[error("its {0}")]
    WrongUsage(WrongUsage),
    /// It is an authority's own certificate, and not trusted itself.
    #[error("it is the certificate of an authority (CA), which is accepted only when it is trusted itself")]
    CaAsLeaf,
    /// It was signed by something that is no authority.
    #[error("`{issuer}`, which has signed it, is no authority (CA) that may sign certificates")]
    IssuerNotCa {
        /// Whose.
        issuer: String,
    },
    /// There are more authorities between than one of them allows.
    #[error("there are more authorities above it than one of them allows (path length)")]
    PathLength,
    /// An authority above it may not sign for its names.
    #[error("an authority above it may not sign for its names: {has} (name constraints)")]
    NameConstraint {
        /// The names it has.
        has: String,
    },
    /// A signature in the chain is wrong.
    #[error("a signature in its chain is wrong: it was not made by `{issuer}` as it says, or was changed")]
    ChainSignature {
        /// Who should have signed.
        issuer: String,
    },
    /// A signature in the chain uses something weak or new.
    #[error("a signature in its chain uses an algorithm that is not accepted, as SHA-1 or a short RSA key")]
    Algorithm,
    /// Something in the chain must be understood and is not.
    #[error("a certificate of its chain has a critical extension that is not known here")]
    UnknownExtension,
    /// Its issuer, or one above, has taken it back.
    #[error("{what} was revoked by its issuer")]
    Revoked {
        /// Itself, or an authority above it.
        what: &'static str,
    },
    /// A revocation list that matters is too old.
    #[error(
        "the revocation list of an authority above it expired {ago} ago, at {at}: put the newest into the PKI folder"
    )]
    CrlExpired {
        /// How long since, for people.
        ago: String,
        /// When, as RFC 3339.
        at: String,
    },
    /// A revocation list cannot be used, so that nobody can say whether it was revoked.
    #[error("nobody can say whether it was revoked: {why}")]
    RevocationUnknown {
        /// Which list, and what is wrong with it.
        why: String,
    },
    /// Anything else that is wrong in its chain.
    #[error("its chain of certificates is wrong: {why}")]
    Chain {
        /// The words of the library.
        why: String,
    },
}

/// What a certificate was not made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrongUsage {
    /// RFC 5280 §4.2.1.12.
    #[error("extended key usage does not allow a server")]
    NoServer,
    /// RFC 5280 §4.2.1.12.
    #[error("extended key usage does not allow a client")]
    NoClient,
    /// RFC 5280 §4.2.1.3; TLS 1.3 does nothing else with it (RFC 8446 §4.4.2.2).
    #[error("key usage does not allow digital signatures")]
    NoSignatures,
    /// RFC 5280 §4.2.1.12, of an authority above.
    #[error("authority may not sign for this extended key usage")]
    Issuer,
}

impl Refusal {
    /// The machine code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "tls.store_unreadable",
            Self::BadHost { .. } => "tls.bad_host",
            Self::Invalid(_) => "tls.bad_certificate",
            Self::Distrusted => "tls.distrusted",
            Self::IssuerDistrusted { .. } => "tls.issuer_distrusted",
            Self::Unknown => "tls.unknown_certificate",
            Self::UnknownIssuer { .. } => "tls.unknown_issuer",
            Self::NoSystemRoots { .. } => "tls.no_system_roots",
            Self::Expired { .. } => "tls.expired",
            Self::NotYetValid { .. } => "tls.not_yet_valid",
            Self::IssuerExpired { .. } => "tls.issuer_expired",
            Self::IssuerNotYetValid { .. } => "tls.issuer_not_yet_valid",
            Self::NameMismatch { .. } => "tls.name_mismatch",
            Self::WrongUsage(_) => "tls.wrong_usage",
            Self::CaAsLeaf => "tls.ca_as_leaf",
            Self::IssuerNotCa { .. } => "tls.issuer_not_ca",
            Self::PathLength => "tls.path_length",
            Self::NameConstraint { .. } => "tls.name_constraint",
            Self::ChainSignature { .. } => "tls.chain_signature",
            Self::Algorithm => "tls.chain_algorithm",
            Self::UnknownExtension => "tls.unknown_extension",
            Self::Revoked { .. } => "tls.revoked",
            Self::CrlExpired { .. } => "tls.crl_expired",
            Self::RevocationUnknown { .. } => "tls.revocation_unknown",
            Self::Chain { .. } => "tls.chain",
        }
    }

    /// Whether nobody here knows the certificate, so that it is worth an operator's look: it goes into `rejected/`.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::UnknownIssuer { .. })
    }

    /// Out of its time, or none.
    pub(crate) fn of_time(facts: &CertificateFacts, now: i64) -> Option<Self> {
        out_of_time(facts, now).map(|when| match when {
            OutOfTime::Over { ago, at } => Self::Expired { ago, at },
            OutOfTime::NotYet { until, at } => Self::NotYetValid { until, at },
        })
    }

    /// The same of an authority above.
    pub(crate) fn of_issuers_time(facts: &CertificateFacts, now: i64) -> Option<Self> {
        let issuer = facts.subject.clone();
        out_of_time(facts, now).map(|when| match when {
            OutOfTime::Over { ago, at } => Self::IssuerExpired { issuer, ago, at },
            OutOfTime::NotYet { until, at } => Self::IssuerNotYetValid { issuer, until, at },
        })
    }
}

enum OutOfTime {
    Over { ago: String, at: String },
    NotYet { until: String, at: String },
}

/// RFC 5280 §4.1.2.5: both ends are inside.
fn out_of_time(facts: &CertificateFacts, now: i64) -> Option<OutOfTime> {
    if now > facts.not_after {
        let ago = span(now.saturating_sub(facts.not_after));
        return Some(OutOfTime::Over { ago, at: rfc3339(facts.not_after) });
    }
    (now < facts.not_before).then(|| {
        let until = span(facts.not_before.saturating_sub(now));
        OutOfTime::NotYet { until, at: rfc3339(facts.not_before) }
    })
}

const fn only_completes(is_known: bool) -> &'static str {
    if is_known {
        ". That one is in `issuers/certs`, which only completes chains: to trust everything it has signed, put it into `trusted/certs`"
    } else {
        ""
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}
