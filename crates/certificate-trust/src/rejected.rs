//! The folder of unknown certificates: what a stranger showed is kept for an operator to look at, bounded, under the
//! fingerprint's name.
//!
//! One file holds both the words and the certificate, because PEM allows text before it (RFC 7468 §5.2): an operator
//! reads it with any editor, compares the fingerprint with the other node's, and moves that one file to `trusted/certs`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use service_kit::atomic_file;

use crate::Fingerprint;
use crate::bundle::Unknown;
use crate::certificate::{CertificateFacts, one_line, rfc3339};
use crate::pki::{MAX_FILE, PkiError, PkiStore, list, read_certificates};

/// Certificates kept. Many more than a plant has nodes; a flood of self-made ones pushes out what has not been seen
/// for longest.
const MAX_KEPT: usize = 100;

/// Whether a refused certificate has been kept for an operator to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Only unknown certificates are.
    No,
    /// In this file.
    At(PathBuf),
    /// It should have been, but could not; the refusal stands all the same.
    Failed(String),
}

/// Keeps an unknown certificate. Seen again, the file's time is renewed and its words stay.
///
/// Writes files: not for an async thread.
pub(crate) fn keep(store: &PkiStore, unknown: &Unknown) -> Kept {
    let der = &CertificateDer::from(unknown.der.as_slice());
    let folder = store.rejected();
    let name = format!("{}.pem", Fingerprint::of(der).to_hex());
    let path = folder.join(&name);
    let seen = UNIX_EPOCH.checked_add(Duration::from_secs(unknown.seen_unix)).unwrap_or(UNIX_EPOCH);
    // Read, not only looked for: a power cut may have left an empty file of that name.
    let is_there = read_certificates(&path).is_ok_and(|known| known.contains(der));
    if is_there && mark_seen(&path, seen).is_ok() {
        return Kept::At(path);
    }
    let first_seen = rfc3339(i64::try_from(unknown.seen_unix).unwrap_or(i64::MAX));
    let words =
        [("Reason", one_line(&unknown.reason).as_str()), ("First seen", &first_seen)].map(line).concat();
    let text = file_text(der, &words);
    if text.len() > MAX_FILE {
        return Kept::Failed(format!("it would be larger than {MAX_FILE} bytes"));
    }
    let written = make_room(&folder).and_then(|()| {
        atomic_file::write_with_mode(&path, text.as_bytes(), 0o640)
            .and_then(|()| mark_seen(&path, seen))
            .map_err(|source| PkiError { operation: "write into", path: folder, source })
    });
    match written {
        Ok(()) => Kept::At(path),
        Err(problem) => Kept::Failed(format!("{problem}: {}", problem.source)),
    }
}

fn mark_seen(path: &Path, seen: SystemTime) -> io::Result<()> {
    File::options().append(true).open(path)?.set_modified(seen)
}

/// The text of a file that holds one certificate: what it says, these further lines, and the certificate itself.
pub(crate) fn file_text(der: &[u8], further: &str) -> String {
    let words = match CertificateFacts::read(der) {
        Ok(facts) => format!(
            "Subject:     {}\nIssuer:      {}\nNames:       {}\nValid:       {}\n",
            facts.subject,
            facts.issuer,
            facts.names_text(),
            facts.validity_text(),
        ),
        Err(problem) => format!("Unreadable:  {problem}\n"),
    };
    format!("Fingerprint: {}\n{words}{further}\n{}", Fingerprint::of(der), pem(der))
}

/// One line of such a file.
pub(crate) fn line((name, value): (&str, &str)) -> String {
    format!("{:<13}{value}\n", format!("{name}:"))
}

/// The certificate in PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Lines of 64 characters (RFC 7468 §2); base64 is ASCII, so that every place is a character's.
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Removes the files not seen for longest until one more fits. Only files that this module has named: what an operator
/// put here stays.
fn make_room(folder: &Path) -> Result<(), PkiError> {
    let mut ours: Vec<(SystemTime, PathBuf)> = list(folder)?
        .into_iter()
        .filter(|path| is_ours(path))
        .map(|path| (fs::metadata(&path).and_then(|about| about.modified()).unwrap_or(UNIX_EPOCH), path))
        .collect();
    ours.sort();
    let surplus = (ours.len() + 1).saturating_sub(MAX_KEPT);
    for (_, path) in ours.into_iter().take(surplus) {
        match fs::remove_file(&path) {
            // Gone already: an operator has just moved it.
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PkiError { operation: "remove", path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn is_ours(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.extension().is_some_and(|extension| extension == "pem")
        && stem.len() == 64
        && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
}
