//! What operators ask for in wrong ways: the one place where these errors become gRPC statuses, and the words that help.

use onduty_api::errors::with_reason;
use onduty_api::trust::{MAX_IMPORT, selector};
use rustls::pki_types::PrivateKeyDer;
use tonic::{Code, Status};

use crate::PkiStore;
use crate::manage::ManageError;

/// Similar certificates that are named beside one that is not there.
const NEAR: usize = 3;
/// Digits at the beginning that make a certificate similar.
const NEAR_DIGITS: usize = 2;

/// A selector as the folders understand it: people paste fingerprints with blanks, or with the dots of a table's short form.
pub(super) fn query(given: String) -> Result<String, Status> {
    let given = selector(given)?;
    let given = given.trim().trim_end_matches('…');
    if given.is_empty() {
        let sentence = "say which certificate: by the beginning of its fingerprint, or by its file's name";
        return Err(with_reason(Code::InvalidArgument, "SELECTOR_TOO_SHORT", sentence));
    }
    let bare: String = given.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let is_hex = bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(if is_hex { bare } else { given.to_owned() })
}

/// What is plainly no import is told by its own name.
pub(super) fn refuse_import(content: &[u8]) -> Result<(), Status> {
    let refused = |reason, sentence: String| Err(with_reason(Code::InvalidArgument, reason, sentence));
    if content.iter().all(u8::is_ascii_whitespace) {
        return refused("IMPORT_EMPTY", "nothing was imported: it is empty".to_owned());
    }
    if content.len() > MAX_IMPORT {
        let what =
            format!("nothing was imported: it has {} bytes, at most {MAX_IMPORT} are read", content.len());
        return refused("NOTHING_IMPORTED", what);
    }
    let has_pem_key = content.windows(16).any(|part| part == b"PRIVATE KEY-----");
    if has_pem_key || PrivateKeyDer::try_from(content).is_ok() {
        let what = "nothing was imported: it holds a private key, which belongs to its owner alone; import the certificate \
                    without it";
        return refused("PRIVATE_KEY_GIVEN", what.to_owned());
    }
    Ok(())
}

/// An error of the folders as a status.
pub(super) fn status(error: &ManageError, store: &PkiStore) -> Status {
    let (code, reason) = match error {
        ManageError::NotFound { .. } => (Code::NotFound, "CERTIFICATE_UNKNOWN"),
        ManageError::TooShort { .. } => (Code::InvalidArgument, "SELECTOR_TOO_SHORT"),
        ManageError::Ambiguous { .. } => (Code::InvalidArgument, "SELECTOR_AMBIGUOUS"),
        ManageError::Own => (Code::FailedPrecondition, "OWN_CERTIFICATE"),
        ManageError::IsAuthority { .. } => (Code::FailedPrecondition, "IS_AUTHORITY"),
        ManageError::NotAuthority { .. } => (Code::FailedPrecondition, "NOT_AUTHORITY"),
        ManageError::WasRejected { .. } => (Code::FailedPrecondition, "WAS_REJECTED"),
        ManageError::Unreadable { .. } => (Code::InvalidArgument, "NOTHING_IMPORTED"),
        ManageError::Full { .. } => (Code::ResourceExhausted, "STORE_FULL"),
        ManageError::SignedByOther { .. } => (Code::FailedPrecondition, "SIGNED_BY_OTHER"),
        ManageError::RequestOut => (Code::FailedPrecondition, "REQUEST_OUT"),
        ManageError::NextPrepared => (Code::FailedPrecondition, "NEXT_PREPARED"),
        ManageError::Identity(_) => (Code::FailedPrecondition, "OWN_UNUSABLE"),
        ManageError::Io(_) => (Code::Unavailable, "STORE_UNUSABLE"),
    };
    let mut words = error.to_string();
    let mut cause = core::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    if let ManageError::NotFound { query } = error {
        words.push_str(&near(query, store));
    }
    with_reason(code, reason, words)
}

/// The certificates whose fingerprints begin most alike, for whoever has mistyped one.
fn near(query: &str, store: &PkiStore) -> String {
    let query = query.to_ascii_uppercase();
    let Ok(listing) = store.list() else { return String::new() };
    let alike =
        |fingerprint: &str| fingerprint.bytes().zip(query.bytes()).take_while(|(a, b)| a == b).count();
    let mut all: Vec<(usize, String)> = listing
        .entries
        .iter()
        .map(|entry| (alike(&entry.facts.fingerprint.to_hex()), entry.facts.to_string()))
        .filter(|(alike, _)| *alike >= NEAR_DIGITS)
        .collect();
    all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    all.dedup();
    if all.is_empty() {
        return "; `onduty certs list` shows what there is".to_owned();
    }
    let names: Vec<String> = all.into_iter().take(NEAR).map(|(_, name)| name).collect();
    format!("; similar: {}", names.join(", "))
}
