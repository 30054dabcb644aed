//! `onduty.trust.v1`: what a node shows and trusts, between the services of one node, and the certificates as operators see
//! them. Whether bytes are a certificate is for `certificate-trust` to say; here they are counted and bounded.

use core::fmt;

use zeroize::Zeroizing;

use crate::invalid::{Invalid, bytes, clip, from_timestamp, required, text, to_timestamp};
use crate::wire::trust::v1 as wire;

/// The largest certificate or key, in bytes.
pub const MAX_DER: usize = 64 * 1024;
/// The largest revocation list, in bytes.
pub const MAX_CRL: usize = 1024 * 1024;
/// Certificates of one kind in a bundle, and revocation lists: 256 files of small ones.
pub const MAX_PER_KIND: usize = 4096;
/// Rejected certificates in a bundle.
pub const MAX_DISTRUSTED: usize = 8192;
/// Sentences of one kind in a bundle.
pub const MAX_SENTENCES: usize = 256;
/// Certificates in one answer to an operator.
pub const MAX_LISTED: usize = 1024;
/// Roots of the operating system in a bundle; a usual one has about 150.
pub const MAX_ROOTS: usize = 1024;
/// Revocation lists in one answer to an operator.
pub const MAX_LISTS: usize = 256;
/// Certificates that a node shows: its own, and those that lead to its issuer.
pub const MAX_CHAIN: usize = 64;
/// Notices in one message.
pub const MAX_NOTICES: usize = 64;
/// The longest sentence.
pub const MAX_SENTENCE: usize = 1024;
/// The longest machine code.
const MAX_CODE: usize = 64;
/// The longest selector: a fingerprint with a separator after each digit, and blanks around it.
pub const MAX_SELECTOR: usize = 256;
/// Sentences about the folders in one answer.
pub const MAX_PROBLEMS: usize = 64;
/// The largest bundle message, in bytes.
pub const MAX_BUNDLE_MESSAGE: usize = 8 * 1024 * 1024;
/// The largest import, in bytes: a revocation list.
pub const MAX_IMPORT: usize = MAX_CRL;
/// The largest request of either service, in bytes.
pub const MAX_REQUEST: usize = MAX_IMPORT + 8 * 1024;
/// The largest answer to an operator, in bytes: the list of full folders.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The longest subject or issuer in an answer.
const TEXT: usize = 1024;
/// The longest name in an answer; host names have at most 253.
const NAME: usize = 256;
/// The longest file name in an answer.
const PATH: usize = 4096;
/// Names of one certificate in an answer.
const NAMES: usize = 16;

/// A chain in DER, and the private key of its first certificate.
pub type OwnBytes = (Vec<Vec<u8>>, Zeroizing<Vec<u8>>);

/// Everything that a node needs for TLS, as bytes; the fields are those of [`wire::Bundle`].
#[derive(Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented in the proto file")]
pub struct BundleBytes {
    pub revision: u64,
    pub unusable: Option<String>,
    /// The chain and the key of its first certificate.
    pub own: Option<OwnBytes>,
    pub pinned: Vec<Vec<u8>>,
    pub issuers: Vec<Vec<u8>>,
    pub intermediates: Vec<Vec<u8>>,
    pub crls: Vec<Vec<u8>>,
    pub unreadable_crls: Vec<String>,
    pub distrusted: Vec<[u8; 32]>,
    /// The operating system's roots, and what of them could not be read.
    pub system: Option<(Vec<Vec<u8>>, Vec<String>)>,
    pub problems: Vec<String>,
}

impl fmt::Debug for BundleBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_counts(f, self.revision, [&self.pinned, &self.issuers, &self.intermediates, &self.crls])
    }
}

// Written by hand: a derived one would print the private key into whatever log meets the message.
impl fmt::Debug for wire::Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_counts(f, self.revision, [&self.pinned, &self.issuers, &self.intermediates, &self.crls])
    }
}

fn write_counts(f: &mut fmt::Formatter<'_>, revision: u64, kinds: [&Vec<Vec<u8>>; 4]) -> fmt::Result {
    let [pinned, issuers, intermediates, crls] = kinds.map(Vec::len);
    f.debug_struct("Bundle")
        .field("revision", &revision)
        .field("pinned", &pinned)
        .field("issuers", &issuers)
        .field("intermediates", &intermediates)
        .field("crls", &crls)
        .finish_non_exhaustive()
}

/// A change of the certificates that is to be journalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Counted from 1 in each run of the service.
    pub number: u64,
    /// When, in milliseconds of the Unix clock.
    pub unix_ms: u64,
    /// Who, what, which.
    pub sentence: String,
}

/// What a watcher of the trust service gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleNews {
    /// The run of the service.
    pub instance: [u8; 16],
    /// What is true now.
    pub bundle: BundleBytes,
    /// What nobody has journalled yet.
    pub notices: Vec<Notice>,
}

impl From<BundleNews> for wire::WatchBundleResponse {
    fn from(news: BundleNews) -> Self {
        let BundleNews { instance, bundle, notices } = news;
        Self {
            instance: instance.to_vec(),
            bundle: Some(bundle.into()),
            notices: notices.into_iter().take(MAX_NOTICES).map(from_notice).collect(),
        }
    }
}

impl From<BundleBytes> for wire::Bundle {
    fn from(bundle: BundleBytes) -> Self {
        let (own_chain, mut own_key) = bundle.own.unwrap_or_default();
        Self {
            revision: bundle.revision,
            unusable: clip(bundle.unusable.unwrap_or_default(), MAX_SENTENCE),
            own_chain,
            own_key: core::mem::take(&mut *own_key),
            pinned: bundle.pinned,
            issuers: bundle.issuers,
            intermediates: bundle.intermediates,
            crls: bundle.crls,
            unreadable_crls: from_sentences(bundle.unreadable_crls),
            distrusted: bundle.distrusted.into_iter().map(Vec::from).collect(),
            system: bundle
                .system
                .map(|(roots, problems)| wire::SystemRoots { roots, problems: from_sentences(problems) }),
            problems: from_sentences(bundle.problems),
        }
    }
}

/// Bounded, so that a node never sends what the other end would refuse.
fn from_sentences(sentences: Vec<String>) -> Vec<String> {
    sentences.into_iter().take(MAX_SENTENCES).map(|sentence| clip(sentence, MAX_SENTENCE)).collect()
}

fn from_notice(notice: Notice) -> wire::Notice {
    wire::Notice {
        number: notice.number,
        at: Some(to_timestamp(notice.unix_ms)),
        sentence: clip(notice.sentence, MAX_SENTENCE),
    }
}

impl TryFrom<wire::WatchBundleResponse> for BundleNews {
    type Error = Invalid;

    fn try_from(response: wire::WatchBundleResponse) -> Result<Self, Invalid> {
        let wire::WatchBundleResponse { instance, bundle, notices } = response;
        let bundle = required("bundle", bundle)?;
        Ok(Self {
            instance: bytes("instance", &instance)?,
            bundle: BundleBytes::try_from(bundle).map_err(|error| error.within("bundle"))?,
            notices: at_most("notices", notices, MAX_NOTICES)?
                .into_iter()
                .map(|notice| self::notice(notice).map_err(|error| error.within("notices")))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn notice(notice: wire::Notice) -> Result<Notice, Invalid> {
    if notice.number == 0 {
        return Err(Invalid::new("number", "must be 1 or more"));
    }
    Ok(Notice {
        number: notice.number,
        unix_ms: from_timestamp(&required("at", notice.at)?),
        sentence: text("sentence", notice.sentence, MAX_SENTENCE)?,
    })
}

impl TryFrom<wire::Bundle> for BundleBytes {
    type Error = Invalid;

    fn try_from(bundle: wire::Bundle) -> Result<Self, Invalid> {
        // First of all, so that it is wiped whatever is wrong with the rest.
        let own_key = Zeroizing::new(bundle.own_key);
        let unusable = text("unusable", bundle.unusable, MAX_SENTENCE)?;
        let distrusted = at_most("distrusted", bundle.distrusted, MAX_DISTRUSTED)?;
        Ok(Self {
            revision: bundle.revision,
            unusable: (!unusable.is_empty()).then_some(unusable),
            own: own(ders("own_chain", bundle.own_chain, MAX_CHAIN)?, own_key)?,
            pinned: ders("pinned", bundle.pinned, MAX_PER_KIND)?,
            issuers: ders("issuers", bundle.issuers, MAX_PER_KIND)?,
            intermediates: ders("intermediates", bundle.intermediates, MAX_PER_KIND)?,
            crls: crls(bundle.crls)?,
            unreadable_crls: sentences("unreadable_crls", bundle.unreadable_crls)?,
            distrusted: distrusted.iter().map(|one| bytes("distrusted", one)).collect::<Result<_, _>>()?,
            system: bundle.system.map(system).transpose().map_err(|error| error.within("system"))?,
            problems: sentences("problems", bundle.problems)?,
        })
    }
}

fn crls(all: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Invalid> {
    let all = at_most("crls", all, MAX_PER_KIND)?;
    all.iter().try_for_each(|der| whole("crls", der, MAX_CRL))?;
    Ok(all)
}

/// Both or neither.
fn own(chain: Vec<Vec<u8>>, key: Zeroizing<Vec<u8>>) -> Result<Option<OwnBytes>, Invalid> {
    if chain.is_empty() && key.is_empty() {
        return Ok(None);
    }
    if chain.is_empty() {
        return Err(Invalid::new("own_chain", "is empty, but there is a key"));
    }
    whole("own_key", &key, MAX_DER)?;
    Ok(Some((chain, key)))
}

fn system(system: wire::SystemRoots) -> Result<(Vec<Vec<u8>>, Vec<String>), Invalid> {
    Ok((ders("roots", system.roots, MAX_ROOTS)?, sentences("problems", system.problems)?))
}

fn sentences(field: &str, all: Vec<String>) -> Result<Vec<String>, Invalid> {
    let all = at_most(field, all, MAX_SENTENCES)?;
    all.into_iter().map(|sentence| text(field, sentence, MAX_SENTENCE)).collect()
}

fn ders(field: &str, all: Vec<Vec<u8>>, limit: usize) -> Result<Vec<Vec<u8>>, Invalid> {
    let all = at_most(field, all, limit)?;
    all.iter().try_for_each(|der| whole(field, der, MAX_DER))?;
    Ok(all)
}

fn at_most<T>(field: &str, all: Vec<T>, limit: usize) -> Result<Vec<T>, Invalid> {
    if all.len() <= limit {
        return Ok(all);
    }
    Err(Invalid::new(field, format!("must be at most {limit}, are {}", all.len())))
}

/// Something, and not too much of it.
fn whole(field: &str, der: &[u8], limit: usize) -> Result<(), Invalid> {
    match der.len() {
        0 => Err(Invalid::new(field, "is empty")),
        length if length > limit => {
            Err(Invalid::new(field, format!("must have at most {limit} bytes, has {length}")))
        }
        _ => Ok(()),
    }
}

/// A certificate that a peer has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCertificate {
    /// In DER.
    pub certificate: Vec<u8>,
    /// Why it was refused.
    pub reason: String,
    /// The machine code of the refusal.
    pub code: String,
    /// When it was seen, in Unix seconds; `None`: now.
    pub seen_unix: Option<u64>,
}

impl From<UnknownCertificate> for wire::ReportUnknownRequest {
    fn from(unknown: UnknownCertificate) -> Self {
        Self {
            certificate: unknown.certificate,
            reason: clip(unknown.reason, MAX_SENTENCE),
            code: clip(unknown.code, MAX_CODE),
            seen: unknown.seen_unix.map(|seconds| to_timestamp(seconds.saturating_mul(1000))),
        }
    }
}

impl TryFrom<wire::ReportUnknownRequest> for UnknownCertificate {
    type Error = Invalid;

    fn try_from(request: wire::ReportUnknownRequest) -> Result<Self, Invalid> {
        let wire::ReportUnknownRequest { certificate, reason, code, seen } = request;
        whole("certificate", &certificate, MAX_DER)?;
        if reason.trim().is_empty() {
            return Err(Invalid::new("reason", "is empty"));
        }
        Ok(Self {
            certificate,
            reason: text("reason", reason, MAX_SENTENCE)?,
            code: text("code", code, MAX_CODE)?,
            seen_unix: seen.map(|seen| from_timestamp(&seen) / 1000),
        })
    }
}

/// The instance and the number of a confirmation.
///
/// # Errors
///
/// When there is no such instance.
pub fn confirmation(request: &wire::ConfirmNoticesRequest) -> Result<([u8; 16], u64), Invalid> {
    Ok((bytes("instance", &request.instance)?, request.up_to))
}

/// A selector of a request.
///
/// # Errors
///
/// When it is too long to be one.
pub fn selector(selector: String) -> Result<String, Invalid> {
    text("selector", selector, MAX_SELECTOR)
}

/// A certificate as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEntry {
    /// SHA-256.
    pub fingerprint: [u8; 32],
    /// Where it is kept.
    pub store: wire::CertificateStore,
    /// Whom it was made for.
    pub subject: String,
    /// Who made it.
    pub issuer: String,
    /// Names it is valid for.
    pub names: Vec<String>,
    /// How many there are above those.
    pub more_names: usize,
    /// Valid from, in Unix seconds.
    pub not_before: i64,
    /// Valid until, in Unix seconds.
    pub not_after: i64,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// Its file.
    pub file: String,
    /// Why it is there.
    pub reason: String,
    /// Since when, for people.
    pub since: String,
    /// When its file was changed, in Unix seconds.
    pub changed_unix: Option<u64>,
}

impl From<CertificateEntry> for wire::Certificate {
    fn from(entry: CertificateEntry) -> Self {
        let left_out = entry.names.len().saturating_sub(NAMES);
        Self {
            fingerprint: entry.fingerprint.to_vec(),
            store: entry.store as i32,
            subject: clip(entry.subject, TEXT),
            issuer: clip(entry.issuer, TEXT),
            names: entry.names.into_iter().take(NAMES).map(|name| clip(name, NAME)).collect(),
            more_names: u32::try_from(entry.more_names.saturating_add(left_out)).unwrap_or(u32::MAX),
            not_before: Some(seconds(entry.not_before)),
            not_after: Some(seconds(entry.not_after)),
            is_authority: entry.is_authority,
            file: clip(entry.file, PATH),
            reason: clip(entry.reason, MAX_SENTENCE),
            since: clip(entry.since, MAX_CODE),
            changed: entry.changed_unix.map(|changed| seconds(i64::try_from(changed).unwrap_or(i64::MAX))),
        }
    }
}

fn seconds(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// A revocation list as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Whose.
    pub issuer: String,
    /// Its file.
    pub file: String,
    /// When it was made, in Unix seconds.
    pub made: i64,
    /// When the next one was to be made, in Unix seconds.
    pub next: Option<i64>,
    /// How many certificates it revokes.
    pub revoked: usize,
}

impl From<ListEntry> for wire::RevocationList {
    fn from(entry: ListEntry) -> Self {
        Self {
            issuer: clip(entry.issuer, TEXT),
            file: clip(entry.file, PATH),
            made: Some(seconds(entry.made)),
            next: entry.next.map(seconds),
            revoked: u32::try_from(entry.revoked).unwrap_or(u32::MAX),
        }
    }
}

/// Sentences for an answer, as many and as long as it takes.
#[must_use]
pub fn sentences_for_answer(sentences: Vec<String>) -> Vec<String> {
    sentences.into_iter().take(MAX_PROBLEMS).map(|sentence| clip(sentence, MAX_SENTENCE)).collect()
}

#[cfg(test)]
mod tests;
