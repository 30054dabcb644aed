//! What a certificate says, in words: read from bytes that a stranger sent, so everything is bounded and nothing is
//! shown as it came.

use core::fmt;
use std::net::IpAddr;

use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Fingerprint;

/// Larger certificates are not looked at, in bytes of DER. TLS itself allows 64 KiB for a whole chain.
pub(crate) const MAX_DER: usize = 64 * 1024;
/// Names shown of one certificate; the rest is counted.
const MAX_NAMES: usize = 16;
/// Characters shown of one text of a certificate; X.520 allows 64 for most of them, host names have 253.
const MAX_TEXT: usize = 256;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 over the certificate.
    pub fingerprint: Fingerprint,
    /// Whom it was made for, for people.
    pub subject: String,
    /// Who made it, for people.
    pub issuer: String,
    /// Host names (in backticks) and addresses it is valid for, for people; at most 16.
    pub names: Vec<String>,
    /// How many names there are above those.
    pub more_names: usize,
    /// Valid from, in Unix seconds.
    pub not_before: i64,
    /// Valid until, in Unix seconds.
    pub not_after: i64,
    /// Whether its extended key usage allows a server (RFC 5280 §4.2.1.12); without the extension everything is allowed.
    pub for_servers: bool,
    /// The same for a client.
    pub for_clients: bool,
    /// Whether its key usage allows digital signatures (§4.2.1.3), without which TLS 1.3 cannot use it; without the extension everything is.
    pub for_signatures: bool,
    /// Whether it is an authority's, which may sign other certificates (§4.2.1.9 and §4.2.1.3).
    pub is_authority: bool,
    /// How many authorities may stand between this one and a certificate it vouches for (§4.2.1.9).
    pub path_length: Option<u32>,
    /// Whether its issuer is itself by name, as of a self-signed one.
    pub is_self_issued: bool,
}

/// Bytes that are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidCertificate {
    /// More bytes than a certificate may have here.
    #[error("it has {0} bytes: at most {MAX_DER} are read")]
    TooLarge(usize),
    /// Not X.509 in DER.
    #[error("it is not an X.509 certificate, or it is cut or damaged")]
    Malformed,
    /// A certificate and something after it.
    #[error("{0} bytes follow after the certificate")]
    TrailingBytes(usize),
}

impl CertificateFacts {
    /// Reads a certificate. Takes any bytes, never panics.
    ///
    /// # Errors
    /// When the bytes are too many, or not exactly one X.509 certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, InvalidCertificate> {
        if der.len() > MAX_DER {
            return Err(InvalidCertificate::TooLarge(der.len()));
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| InvalidCertificate::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidCertificate::TrailingBytes(rest.len()));
        }
        let names = alternative_names(&certificate);
        let malformed = |_| InvalidCertificate::Malformed;
        let usage = certificate.extended_key_usage().map_err(malformed)?;
        let key_usage = certificate.key_usage().map_err(malformed)?;
        let basic = certificate.basic_constraints().map_err(malformed)?;
        let may_sign_certificates = key_usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign());
        Ok(Self {
            fingerprint: Fingerprint::of(der),
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            more_names: names.len().saturating_sub(MAX_NAMES),
            names: names.into_iter().take(MAX_NAMES).collect(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            for_servers: usage.as_ref().is_none_or(|usage| usage.value.any || usage.value.server_auth),
            for_clients: usage.as_ref().is_none_or(|usage| usage.value.any || usage.value.client_auth),
            for_signatures: key_usage.as_ref().is_none_or(|usage| usage.value.digital_signature()),
            is_authority: basic.as_ref().is_some_and(|basic| basic.value.ca) && may_sign_certificates,
            path_length: basic.and_then(|basic| basic.value.path_len_constraint),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }

    /// The names as one text for people.
    #[must_use]
    pub fn names_text(&self) -> String {
        match (self.names.is_empty(), self.more_names) {
            (true, _) => "no names".to_owned(),
            (false, 0) => self.names.join(", "),
            (false, more) => format!("{} and {more} more", self.names.join(", ")),
        }
    }

    /// The time of validity as one text for people: two RFC 3339 times.
    #[must_use]
    pub fn validity_text(&self) -> String {
        format!("{} to {}", self.not_before_text(), self.not_after_text())
    }

    /// From when it is valid, as RFC 3339.
    #[must_use]
    pub fn not_before_text(&self) -> String {
        rfc3339(self.not_before)
    }

    /// Until when it is valid, as RFC 3339.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        rfc3339(self.not_after)
    }
}

impl fmt::Display for CertificateFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}; {})", self.fingerprint, self.subject, self.names_text())
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().map(general_name).collect()
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("`{}`", printable(name)),
        GeneralName::IPAddress(bytes) => address(bytes),
        GeneralName::URI(uri) => printable(uri),
        GeneralName::RFC822Name(mail) => printable(mail),
        GeneralName::RegisteredID(id) => printable(&id.to_id_string()),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::Invalid(..) => "a name of another kind".to_owned(),
    }
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok();
    v4.or_else(v6).map_or_else(|| "a damaged address".to_owned(), |address| address.to_string())
}

/// A stranger's text made harmless: no control characters, no line ends, nothing that reorders a terminal's line, nothing
/// that looks like the end of a quotation, and not longer than needed.
pub(crate) fn printable(text: &str) -> String {
    one_line(text).replace('`', "?")
}

/// The same of a sentence of ours, which quotes.
pub(crate) fn one_line(text: &str) -> String {
    let is_safe = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() || c == '…';
    let mut shown: String = text.chars().take(MAX_TEXT).map(|c| if is_safe(c) { c } else { '?' }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        shown.push('…');
    }
    shown
}

/// A number of seconds in the largest unit that fits: "3 days", "1 hour", "20 seconds".
pub(crate) fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

pub(crate) fn rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or_else(|_| format!("{unix_seconds} s after 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_the_largest_unit() {
        let cases =
            [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (7_199, "1 hour")];
        for (seconds, words) in cases {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(span(3 * 86_400 + 5), "3 days");
        assert_eq!(span(i64::MAX), format!("{} days", i64::MAX / 86_400));
    }

    #[test]
    fn a_strangers_text_is_made_harmless() {
        assert_eq!(printable("CN=a\n-----BEGIN CERTIFICATE-----"), "CN=a?-----BEGIN CERTIFICATE-----");
        assert_eq!(printable("\u{1b}[31mred `x` \u{202e}abc"), "?[31mred ?x? ?abc");
        assert_eq!(printable("Zürich 工場"), "Zürich 工場");
        assert_eq!(one_line("`a`\n`b`"), "`a`?`b`");
        assert_eq!(printable(&"x".repeat(10_000)).chars().count(), MAX_TEXT + 1);
    }
}
