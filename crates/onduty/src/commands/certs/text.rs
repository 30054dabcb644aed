//! Certificates for people and, as JSON, for machines.

use jiff::Timestamp;
use onduty_api::wire::trust::v1::{Certificate, CertificateStore, ListCertificatesResponse};
use serde_json::{Value, json};

use crate::output::{Colour, paint};
use crate::tables;

/// Bytes of a fingerprint in a table: enough to name a certificate by, and too few to compare one with.
const SHORT: usize = 8;

/// The whole fingerprint, as every other tool shows it.
pub(in crate::commands) fn fingerprint(certificate: &Certificate) -> String {
    grouped(&certificate.fingerprint)
}

fn grouped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Where it is, in a word.
pub(in crate::commands) fn store_name(certificate: &Certificate) -> &'static str {
    store(certificate.store())
}

fn store(store: CertificateStore) -> &'static str {
    match store {
        CertificateStore::Unspecified => "none",
        CertificateStore::Own => "own",
        CertificateStore::Trusted => "trusted",
        CertificateStore::Issuers => "issuers",
        CertificateStore::Rejected => "rejected",
        CertificateStore::Distrusted => "distrusted",
    }
}

/// The list as a table, and what is wrong below it.
pub(super) fn list(listed: &ListCertificatesResponse) -> String {
    let mut text = if listed.certificates.is_empty() {
        "no certificates".to_owned()
    } else {
        let mut table = tables::plain(&["store", "fingerprint", "subject", "names", "valid until", "note"]);
        for certificate in &listed.certificates {
            let short = certificate.fingerprint.get(..SHORT).unwrap_or(&certificate.fingerprint);
            let _ = table.add_row([
                store(certificate.store()).to_owned(),
                format!("{}…", grouped(short)),
                certificate.subject.clone(),
                names(certificate),
                certificate.not_after.as_ref().map(day).unwrap_or_default(),
                note(certificate),
            ]);
        }
        tables::text(&table)
    };
    for list in &listed.lists {
        let until = list.next.as_ref().map_or_else(String::new, |next| format!(", until {}", day(next)));
        text.push_str(&format!(
            "\nrevocation list of {}: {} revoked{until} ({})",
            list.issuer, list.revoked, list.file
        ));
    }
    for problem in &listed.problems {
        text.push_str(&format!("\n{} {problem}", paint(Colour::Yellow, "warning:")));
    }
    text
}

/// One certificate, in lines.
pub(super) fn show(certificate: &Certificate) -> String {
    let moment = |at: Option<&prost_types::Timestamp>| at.and_then(rfc3339).unwrap_or_default();
    let mut rows = vec![
        ("fingerprint", fingerprint(certificate)),
        ("store", store(certificate.store()).to_owned()),
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("names", names(certificate)),
        ("valid from", moment(certificate.not_before.as_ref())),
        ("valid until", moment(certificate.not_after.as_ref())),
        ("authority", if certificate.is_authority { "yes" } else { "no" }.to_owned()),
        ("file", certificate.file.clone()),
        ("reason", certificate.reason.clone()),
        ("since", certificate.since.clone()),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.join("\n")
}

fn names(certificate: &Certificate) -> String {
    let shown = certificate.names.join(", ");
    match (certificate.names.is_empty(), certificate.more_names) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown,
        (false, more) => format!("{shown} and {more} more"),
    }
}

/// What makes a certificate unusable, or why it was refused.
fn note(certificate: &Certificate) -> String {
    let now = Timestamp::now().as_second();
    let after = |at: Option<&prost_types::Timestamp>| at.is_some_and(|at| at.seconds > now);
    if certificate.not_after.is_some() && !after(certificate.not_after.as_ref()) {
        return "expired".to_owned();
    }
    if after(certificate.not_before.as_ref()) {
        return "not valid yet".to_owned();
    }
    certificate.reason.clone()
}

fn moment(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

fn rfc3339(at: &prost_types::Timestamp) -> Option<String> {
    moment(at).map(|at| at.to_string())
}

fn day(at: &prost_types::Timestamp) -> String {
    moment(at).map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// The list for machines.
pub(super) fn list_json(listed: &ListCertificatesResponse) -> Value {
    json!({
        "certificates": listed.certificates.iter().map(json).collect::<Vec<_>>(),
        "revocation_lists": listed.lists.iter().map(|list| json!({
            "issuer": list.issuer,
            "file": list.file,
            "made": list.made.as_ref().and_then(rfc3339),
            "next": list.next.as_ref().and_then(rfc3339),
            "revoked": list.revoked,
        })).collect::<Vec<_>>(),
        "problems": listed.problems,
    })
}

/// One certificate for machines.
pub(super) fn json(certificate: &Certificate) -> Value {
    json!({
        "fingerprint": fingerprint(certificate),
        "store": store(certificate.store()),
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": certificate.names,
        "more_names": certificate.more_names,
        "not_before": certificate.not_before.as_ref().and_then(rfc3339),
        "not_after": certificate.not_after.as_ref().and_then(rfc3339),
        "is_authority": certificate.is_authority,
        "file": (!certificate.file.is_empty()).then_some(&certificate.file),
        "reason": (!certificate.reason.is_empty()).then_some(&certificate.reason),
        "since": (!certificate.since.is_empty()).then_some(&certificate.since),
        "changed": certificate.changed.as_ref().and_then(rfc3339),
    })
}
