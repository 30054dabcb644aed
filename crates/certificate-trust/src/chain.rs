//! Chains: does this certificate lead, signature by signature, to an authority that is trusted?
//!
//! Paths are found and validated by webpki (RFC 5280 §6, RFC 4158): signatures, time, basic constraints, path length, name
//! constraints, extended key usages, revocation lists. What webpki leaves to its caller is checked here of each
//! path it finds: key usages of the authorities, the time and path length of the trusted one, and that an operator has
//! rejected none of them. A path that fails there is not the end: another may hold.
//!
//! Revocation lists: an issuer without one says nothing, and its certificates pass. An issuer whose list has expired is
//! refused, since an old list can say nothing of what was revoked since; so is everything while a list cannot be
//! read. Of two lists of an issuer the newer one counts.

use std::cell::RefCell;
use std::cmp::Reverse;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage,
    RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::bundle::{Bundle, Der};
use crate::certificate::{CertificateFacts, rfc3339, span};
use crate::decision::Purpose;
use crate::provider::provider;
use crate::refusal::{Refusal, WrongUsage};

/// Certificates of a peer's chain that are looked at; webpki goes six authorities deep.
const MAX_SHOWN: usize = 16;

/// What a chain may be made of.
pub(crate) struct Material<'a> {
    /// Trusted authorities.
    pub(crate) anchors: &'a [Der],
    /// Intermediates, revocation lists, rejected ones.
    pub(crate) bundle: &'a Bundle,
    /// What the peer has shown beside its own.
    pub(crate) shown: &'a [&'a [u8]],
    pub(crate) now_unix: u64,
    pub(crate) purpose: Purpose,
}

/// The subjects above the certificate: its issuer first, the trusted authority last.
pub(crate) fn verify(
    leaf: &[u8],
    facts: &CertificateFacts,
    material: &Material<'_>,
) -> Result<Vec<String>, Refusal> {
    let noted = RefCell::new(None);
    let found = search(leaf, material, &noted);
    match found {
        Ok(_) if !material.bundle.unreadable_crls.is_empty() => {
            Err(Refusal::RevocationUnknown { why: material.bundle.unreadable_crls.join("; ") })
        }
        Ok(subjects) => Ok(subjects),
        // Whatever else is wrong with it, nobody here knows it.
        Err(_) if !reach(leaf, material).1 => Err(unknown(facts, leaf, material)),
        Err(Error::CertDistrusted) => {
            let why = || "a key in it is known to be unsafe".to_owned();
            Err(noted.take().unwrap_or_else(|| Refusal::Chain { why: why() }))
        }
        Err(error) => Err(explain(&error, leaf, facts, material)),
    }
}

fn search(
    leaf: &[u8],
    material: &Material<'_>,
    noted: &RefCell<Option<Refusal>>,
) -> Result<Vec<String>, Error> {
    let der = CertificateDer::from(leaf);
    let certificate = EndEntityCert::try_from(&der)?;
    let anchor_ders: Vec<CertificateDer<'_>> =
        material.anchors.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Vec<(TrustAnchor<'_>, &CertificateDer<'_>)> = anchor_ders
        .iter()
        .filter_map(|der| webpki::anchor_from_trusted_cert(der).ok().map(|anchor| (anchor, der)))
        .collect();
    let (anchors, anchor_ders): (Vec<_>, Vec<_>) = anchors.into_iter().unzip();
    let intermediates: Vec<CertificateDer<'_>> = candidates(material).map(CertificateDer::from).collect();
    let crls = usable_crls(&material.bundle.crls)?;
    let crls: Vec<&CertRevocationList<'_>> = crls.iter().collect();
    let usage = match material.purpose {
        Purpose::Server => KeyUsage::server_auth(),
        Purpose::Client => KeyUsage::client_auth(),
    };
    let check = |path: &VerifiedPath<'_>| {
        let anchor = anchors.iter().position(|anchor| core::ptr::eq(anchor, path.anchor()));
        let anchor = anchor.and_then(|index| anchor_ders.get(index)).map(|der| der.as_ref());
        check_path(path, anchor, material).map(|_| ()).map_err(|refusal| {
            let _ = noted.borrow_mut().get_or_insert(refusal);
            Error::CertDistrusted
        })
    };
    let now = UnixTime::since_unix_epoch(core::time::Duration::from_secs(material.now_unix));
    let algorithms = provider().signature_verification_algorithms;
    let path = certificate.verify_for_usage(
        algorithms.all,
        &anchors,
        &intermediates,
        now,
        usage,
        revocation(&crls),
        Some(&check),
    )?;
    let anchor = anchors.iter().position(|anchor| core::ptr::eq(anchor, path.anchor()));
    let anchor = anchor.and_then(|index| anchor_ders.get(index)).map(|der| der.as_ref());
    check_path(&path, anchor, material).map_err(|_| Error::UnknownIssuer)
}

fn revocation<'a>(crls: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    let options = RevocationOptionsBuilder::new(crls).ok()?;
    Some(
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build(),
    )
}

/// Err: one cannot be used, and so nobody can say what it revokes.
fn usable_crls(crls: &[Der]) -> Result<Vec<CertRevocationList<'_>>, Error> {
    let parse = |der| BorrowedCertRevocationList::from_der(der).map(CertRevocationList::from);
    newest_first(crls).into_iter().map(parse).collect()
}

/// webpki takes the first one that an issuer has made.
fn newest_first(crls: &[Der]) -> Vec<&[u8]> {
    let mut crls: Vec<&[u8]> = crls.iter().map(Vec::as_slice).collect();
    if crls.len() > 1 {
        crls.sort_by_cached_key(|der| Reverse(this_update(der)));
    }
    crls
}

fn this_update(der: &[u8]) -> i64 {
    CertificateRevocationList::from_der(der).map_or(i64::MIN, |(_, crl)| crl.last_update().timestamp())
}

/// Whether bytes are a revocation list that [`verify`] can use: whole, of version 2, direct and complete.
pub(crate) fn check_crl(der: &[u8]) -> Result<(), String> {
    BorrowedCertRevocationList::from_der(der).map_err(|error| format!("{error}"))?;
    match CertificateRevocationList::from_der(der) {
        Ok(([], _)) => Ok(()),
        Ok((rest, _)) => Err(format!("{} bytes follow after the revocation list", rest.len())),
        Err(_) => Err("it is not a revocation list, or it is cut or damaged".to_owned()),
    }
}

/// Of a pinned certificate, which needs no chain: whether a list of its issuer's name has its number.
pub(crate) fn is_listed(leaf: &[u8], crls: &[Der]) -> bool {
    let der = CertificateDer::from(leaf);
    let Ok(certificate) = EndEntityCert::try_from(&der) else { return false };
    let lists =
        newest_first(crls).into_iter().filter_map(|der| BorrowedCertRevocationList::from_der(der).ok());
    let list = lists.map(CertRevocationList::from).find(|crl| crl.issuer() == certificate.issuer());
    list.is_some_and(|crl| !matches!(crl.find_serial(certificate.serial()), Ok(None)))
}

/// What webpki leaves to its caller.
fn check_path(
    path: &VerifiedPath<'_>,
    anchor: Option<&[u8]>,
    material: &Material<'_>,
) -> Result<Vec<String>, Refusal> {
    let now = i64::try_from(material.now_unix).unwrap_or(i64::MAX);
    let mut subjects = Vec::new();
    for intermediate in path.intermediate_certificates() {
        let facts = authority(&intermediate.der(), material)?;
        if !facts.is_authority {
            return Err(Refusal::IssuerNotCa { issuer: facts.subject });
        }
        subjects.push(facts.subject);
    }
    let Some(anchor) = anchor else { return Err(Refusal::Chain { why: "it has no end".to_owned() }) };
    let facts = authority(anchor, material)?;
    if let Some(refusal) = Refusal::of_issuers_time(&facts, now) {
        return Err(refusal);
    }
    if facts.path_length.is_some_and(|most| usize::try_from(most).is_ok_and(|most| subjects.len() > most)) {
        return Err(Refusal::PathLength);
    }
    subjects.push(facts.subject);
    Ok(subjects)
}

fn authority(der: &[u8], material: &Material<'_>) -> Result<CertificateFacts, Refusal> {
    let facts = CertificateFacts::read(der).map_err(|problem| Refusal::Chain { why: problem.to_string() })?;
    if material.bundle.distrusted.contains(&facts.fingerprint) {
        return Err(Refusal::IssuerDistrusted { issuer: facts.subject });
    }
    Ok(facts)
}

/// What may stand between. A peer may show a few: the rest is not looked at.
fn candidates<'a>(material: &'a Material<'_>) -> impl Iterator<Item = &'a [u8]> {
    material
        .bundle
        .intermediates
        .iter()
        .map(Vec::as_slice)
        .chain(material.shown.iter().copied().take(MAX_SHOWN))
}

/// The certificates that names alone lead to, from issuer to issuer, whatever their signatures are; and whether one of them is
/// trusted. Only then is a stranger's certificate, which may bring a chain of its own, something of ours that is wrong.
fn reach<'a>(leaf: &'a [u8], material: &'a Material<'_>) -> (Vec<X509Certificate<'a>>, bool) {
    let parse = |der: &'a [u8]| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
    let own = parse(leaf);
    let others: Vec<X509Certificate<'a>> =
        candidates(material).filter(|der| *der != leaf).filter_map(parse).collect();
    let anchors: Vec<X509Certificate<'a>> =
        material.anchors.iter().map(Vec::as_slice).filter(|der| *der != leaf).filter_map(parse).collect();
    let mut reached: Vec<usize> = Vec::new();
    let mut ends = Vec::new();
    let mut issuers: Vec<&[u8]> = own.iter().map(|certificate| certificate.issuer().as_raw()).collect();
    while let Some(issuer) = issuers.pop() {
        for (index, other) in others.iter().enumerate() {
            if other.subject().as_raw() == issuer && !reached.contains(&index) {
                reached.push(index);
                issuers.push(other.issuer().as_raw());
            }
        }
        ends.extend((0..anchors.len()).filter(|index| anchors[*index].subject().as_raw() == issuer));
    }
    ends.sort_unstable();
    ends.dedup();
    let is_trusted = !ends.is_empty();
    let mut found: Vec<_> = reached.iter().map(|index| others[*index].clone()).collect();
    found.extend(ends.iter().map(|index| anchors[*index].clone()));
    (found, is_trusted)
}

fn is_of(der: &[u8], subject: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.subject().as_raw() == subject)
}

fn unknown(facts: &CertificateFacts, leaf: &[u8], material: &Material<'_>) -> Refusal {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Refusal::Unknown };
    if facts.is_self_issued {
        return Refusal::Unknown;
    }
    let issuer = certificate.issuer().as_raw();
    let is_known = material.bundle.intermediates.iter().any(|der| is_of(der, issuer));
    Refusal::UnknownIssuer { issuer: facts.issuer.clone(), is_known }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "webpki's errors are open-ended; the rest keeps webpki's words"
)]
fn explain(error: &Error, leaf: &[u8], facts: &CertificateFacts, material: &Material<'_>) -> Refusal {
    let now = i64::try_from(material.now_unix).unwrap_or(i64::MAX);
    let issuer = || facts.issuer.clone();
    match error {
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => Refusal::of_time(facts, now)
            .or_else(|| issuers_time(leaf, material, now))
            .unwrap_or_else(|| Refusal::Chain { why: error.to_string() }),
        Error::CertRevoked => {
            let it = is_listed(leaf, &material.bundle.crls);
            Refusal::Revoked { what: if it { "it" } else { "an authority above it" } }
        }
        Error::CrlExpired { next_update, .. } => {
            let at = i64::try_from(next_update.as_secs()).unwrap_or(i64::MAX);
            Refusal::CrlExpired { ago: span(now.saturating_sub(at)), at: rfc3339(at) }
        }
        Error::RequiredEkuNotFoundContext(_) => Refusal::WrongUsage(match material.purpose {
            Purpose::Server if !facts.for_servers => WrongUsage::NoServer,
            Purpose::Client if !facts.for_clients => WrongUsage::NoClient,
            Purpose::Server | Purpose::Client => WrongUsage::Issuer,
        }),
        Error::NameConstraintViolation => Refusal::NameConstraint { has: facts.names_text() },
        Error::PathLenConstraintViolated => Refusal::PathLength,
        Error::CaUsedAsEndEntity => Refusal::CaAsLeaf,
        Error::EndEntityUsedAsCa => Refusal::IssuerNotCa { issuer: issuer() },
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => {
            Refusal::ChainSignature { issuer: issuer() }
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::Algorithm,
        Error::UnsupportedCriticalExtension => Refusal::UnknownExtension,
        Error::UnknownRevocationStatus
        | Error::InvalidCrlSignatureForPublicKey
        | Error::IssuerNotCrlSigner
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            Refusal::RevocationUnknown { why: crl_words(error).to_owned() }
        }
        _ => Refusal::Chain { why: error.to_string() },
    }
}

fn issuers_time(leaf: &[u8], material: &Material<'_>, now: i64) -> Option<Refusal> {
    let (above, _) = reach(leaf, material);
    let facts = above.iter().filter_map(|certificate| CertificateFacts::read(certificate.as_raw()).ok());
    facts.into_iter().find_map(|facts| Refusal::of_issuers_time(&facts, now))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "only called with the errors of lists")]
const fn crl_words(error: &Error) -> &'static str {
    match error {
        Error::InvalidCrlSignatureForPublicKey => {
            "a revocation list that names an authority above it was not signed by that one"
        }
        Error::IssuerNotCrlSigner => {
            "a revocation list above it was signed by an authority that may not sign any"
        }
        _ => "a revocation list above it cannot be used",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_has_no_words_of_its_own_keeps_those_of_the_library() {
        let made = rcgen::generate_simple_self_signed(vec!["node-a".to_owned()]).unwrap().cert;
        let facts = CertificateFacts::read(made.der()).unwrap();
        let bundle = Bundle::default();
        let material = Material {
            anchors: &[],
            bundle: &bundle,
            shown: &[],
            now_unix: 1_700_000_000,
            purpose: Purpose::Server,
        };
        // Not made here: it takes a hundred certificates with one and the same name.
        let refusal = explain(&Error::MaximumSignatureChecksExceeded, made.der(), &facts, &material);
        assert_eq!(refusal.code(), "tls.chain");
        assert!(refusal.to_string().contains("MaximumSignatureChecksExceeded"), "{refusal}");
    }
}
