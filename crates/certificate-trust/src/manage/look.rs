//! Looking: everything that is there, and one certificate by the beginning of its fingerprint or its file's name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{CrlEntry, Entry, Exported, Listing, ManageError, Place};
use crate::certificate::{CertificateFacts, one_line, printable};
use crate::files;
use crate::folders::{MAX_CRL, MAX_DISTRUSTED, parse_crls};
use crate::pki::{MAX_FILE, PkiError, PkiStore, list, parse_certificates};

/// Digits of a fingerprint that are enough to ask for a certificate.
pub(crate) const MIN_DIGITS: usize = 4;
/// Characters of a question that are looked at.
const MAX_QUERY: usize = 256;

impl PkiStore {
    /// Everything in the folders. A file that is no use is among the problems.
    ///
    /// Reads files, as everything here: not for an async thread.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn list(&self) -> Result<Listing, PkiError> {
        let mut listing = Listing::default();
        for place in Place::ALL {
            for file in self.files_of(place)? {
                match read_entries(place, &file) {
                    // The own file also holds what the certificate was signed by.
                    Ok(entries) if place == Place::Own => listing.entries.extend(entries.into_iter().take(1)),
                    Ok(entries) => listing.entries.extend(entries),
                    Err(why) => listing.problems.push(format!("`{}`: {why}", file.display())),
                }
            }
        }
        for folder in self.crls() {
            for file in list(&folder)?.into_iter().take(MAX_DISTRUSTED) {
                match read_lists(&file) {
                    Ok(lists) => listing.crls.extend(lists),
                    Err(why) => listing.problems.push(format!("`{}`: {why}", file.display())),
                }
            }
        }
        Ok(listing)
    }

    /// One certificate, everywhere it is: by at least four digits of its fingerprint's beginning (colons do not matter), its file's
    /// name, or `own`. For display, and to be handed out.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn show(&self, query: &str) -> Result<Exported, ManageError> {
        let entries = self.find(query)?;
        let mut chain: Vec<_> = entries.iter().take(1).map(|entry| entry.der.clone()).collect();
        if let Some(own) = entries.iter().find(|entry| entry.place == Place::Own) {
            let file = read_entries(Place::Own, &own.file).unwrap_or_default();
            chain = file.into_iter().map(|entry| entry.der).collect();
        }
        Ok(Exported { entries, chain })
    }

    pub(super) fn find(&self, query: &str) -> Result<Vec<Entry>, ManageError> {
        let shown: String = printable(&query.chars().take(MAX_QUERY).collect::<String>());
        let digits: String = query.chars().filter(|c| *c != ':').collect::<String>().to_ascii_uppercase();
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let by_fingerprint = is_hex && digits.len() >= MIN_DIGITS;
        let is_meant = |entry: &Entry| {
            let named = |part: Option<&std::ffi::OsStr>| part.is_some_and(|name| name == query);
            (by_fingerprint && entry.facts.fingerprint.to_hex().starts_with(&digits))
                || named(entry.file.file_name())
                || named(entry.file.file_stem())
                || (entry.is_shown() && query == "own")
        };
        let all = self.list()?.entries;
        let found: Vec<&Entry> = all.iter().filter(|entry| is_meant(entry)).collect();
        let Some(first) = found.first().map(|entry| entry.facts.fingerprint) else {
            return Err(if is_hex && !by_fingerprint {
                ManageError::TooShort { query: shown }
            } else {
                ManageError::NotFound { query: shown }
            });
        };
        let mut others: Vec<_> = found.iter().map(|entry| &entry.facts).collect();
        others.sort_by_key(|facts| facts.fingerprint);
        others.dedup_by_key(|facts| facts.fingerprint);
        if others.len() > 1 {
            let candidates = others.iter().take(5).map(ToString::to_string).collect();
            let hint = "give more digits of the fingerprint";
            return Err(ManageError::Ambiguous { query: shown, candidates, hint });
        }
        // Asked for by its file's name it may also be elsewhere.
        let mut everywhere = all;
        everywhere.retain(|entry| entry.facts.fingerprint == first);
        Ok(everywhere)
    }

    pub(super) fn folder(&self, place: Place) -> PathBuf {
        match place {
            Place::Own => self.own(),
            Place::Trusted => self.trusted(),
            Place::Issuers => self.issuers(),
            Place::Rejected => self.rejected(),
            Place::Distrusted => self.distrusted(),
        }
    }

    fn files_of(&self, place: Place) -> Result<Vec<PathBuf>, PkiError> {
        let folder = self.folder(place);
        Ok(match place {
            // The key lies beside it.
            Place::Own => [crate::identity::CERTIFICATE, crate::identity::NEXT_CERTIFICATE]
                .into_iter()
                .map(|name| folder.join(name))
                .filter(|file| file.exists())
                .collect(),
            Place::Trusted | Place::Issuers | Place::Rejected | Place::Distrusted => {
                list(&folder)?.into_iter().take(MAX_DISTRUSTED).collect()
            }
        })
    }
}

pub(super) fn read_entries(place: Place, file: &Path) -> Result<Vec<Entry>, String> {
    let bytes = files::read_bounded(file, MAX_FILE).map_err(|error| error.to_string())?;
    let certificates = parse_certificates(&bytes).map_err(|problem| problem.to_string())?;
    let changed = fs::metadata(file).and_then(|about| about.modified()).unwrap_or(UNIX_EPOCH);
    let changed_unix = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = text_before(&bytes);
    let line = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| one_line(value.trim()))
    };
    let entry = |der: &[u8]| {
        let facts = CertificateFacts::read(der).map_err(|problem| problem.to_string())?;
        Ok(Entry {
            place,
            file: file.to_owned(),
            facts,
            der: der.to_vec(),
            reason: line("Reason"),
            since: line("Decided").or_else(|| line("First seen")),
            changed_unix,
        })
    };
    certificates.iter().map(|der| entry(der)).collect()
}

/// What stands before the certificate in a file that was written here. It begins a line: within one it is a stranger's name.
fn text_before(bytes: &[u8]) -> String {
    let end = bytes.windows(12).position(|part| part == b"\n-----BEGIN ").map_or(0, |end| end + 1);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

pub(super) fn read_lists(file: &Path) -> Result<Vec<CrlEntry>, String> {
    let bytes = files::read_bounded(file, MAX_CRL).map_err(|error| error.to_string())?;
    parse_crls(&bytes)?.iter().map(|der| describe_list(file, der)).collect()
}

pub(super) fn describe_list(file: &Path, der: &[u8]) -> Result<CrlEntry, String> {
    let (_, list) =
        CertificateRevocationList::from_der(der).map_err(|_| "it is no revocation list".to_owned())?;
    Ok(CrlEntry {
        file: file.to_owned(),
        issuer: printable(&list.issuer().to_string()),
        made_unix: list.last_update().timestamp(),
        next_unix: list.next_update().map(|next| next.timestamp()),
        revoked: list.iter_revoked_certificates().count(),
    })
}
