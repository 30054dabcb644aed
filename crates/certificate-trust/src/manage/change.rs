//! Deciding: trust, reject, delete.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use service_kit::atomic_file;

use super::look::{read_entries, read_lists};
use super::{Action, Change, Entry, ManageError, Moved, Place};
use crate::certificate::{CertificateFacts, one_line, printable, rfc3339};
use crate::folders::{MAX_DISTRUSTED, MAX_FILES};
use crate::pki::{PkiError, PkiStore, list};
use crate::refusal::Refusal;
use crate::rejected::{file_text, line};

/// What the files of people's decisions are readable by: the node's user and its group.
const MODE: u32 = 0o640;

impl PkiStore {
    /// Trusts a certificate that is here: it moves to `trusted/certs`, and an earlier rejection is taken back. An authority's is
    /// only trusted when `as_authority` says that everything it has signed is meant.
    ///
    /// # Errors
    /// When it is not found, is the own one, or is an authority's or none against `as_authority`.
    pub fn trust(&self, query: &str, as_authority: bool, now_unix: u64) -> Result<Change, ManageError> {
        let Peer { facts, entries } = peer(self.find(query)?)?;
        check_authority(&facts, as_authority)?;
        self.put(Place::Trusted, &entries, now_unix, "trusted by an operator")?;
        let from = self.remove_others(&entries, Place::Trusted)?;
        let mut notes = already(&from, &entries, Place::Trusted);
        notes.extend(time_note(&facts, now_unix));
        Ok(Change {
            action: Action::Trusted,
            certificates: vec![Moved { facts, from, to: Some(Place::Trusted) }],
            crls: Vec::new(),
            notes,
        })
    }

    /// Rejects a certificate that is here, for good: it moves to `distrusted`, and nothing else can make it accepted; of an
    /// authority also nothing because it has signed it. What is trusted by itself stays so, and is named.
    ///
    /// # Errors
    /// When it is not found or is the own one.
    pub fn reject(&self, query: &str, now_unix: u64) -> Result<Change, ManageError> {
        let Peer { facts, entries } = peer(self.find(query)?)?;
        self.put(Place::Distrusted, &entries, now_unix, "rejected by an operator")?;
        let from = self.remove_others(&entries, Place::Distrusted)?;
        let mut notes = already(&from, &entries, Place::Distrusted);
        if facts.is_authority {
            notes
                .push("it is an authority: nothing is accepted any more because it has signed it".to_owned());
            notes.extend(self.trusted_itself(&facts)?);
        }
        Ok(Change {
            action: Action::Rejected,
            certificates: vec![Moved { facts, from, to: Some(Place::Distrusted) }],
            crls: Vec::new(),
            notes,
        })
    }

    /// What an authority has signed and people have trusted by itself goes on being accepted.
    fn trusted_itself(&self, authority: &CertificateFacts) -> Result<Option<String>, ManageError> {
        let signed: Vec<String> = self
            .list()?
            .entries
            .iter()
            .filter(|entry| entry.place == Place::Trusted && !entry.facts.is_authority)
            .filter(|entry| entry.facts.issuer == authority.subject)
            .map(|entry| entry.facts.to_string())
            .collect();
        Ok((!signed.is_empty()).then(|| {
            format!(
                "trusted by themselves, and so still accepted, are {}: reject them, too",
                signed.join(", ")
            )
        }))
    }

    /// Removes a certificate from one place, or a revocation list by its file's name. Without `place` it must be in one only.
    ///
    /// # Errors
    /// When it is not found, is in several places, or is the own one.
    pub fn delete(&self, query: &str, place: Option<Place>) -> Result<Change, ManageError> {
        if let Some(change) = self.delete_list(query)? {
            return Ok(change);
        }
        let Peer { facts, entries } = peer(self.find(query)?)?;
        let mut places: Vec<Place> = entries.iter().map(|entry| entry.place).collect();
        places.dedup();
        let place = match (place, &places[..]) {
            (Some(place), _) => place,
            (None, [only]) => *only,
            (None, _) => {
                let candidates = places.iter().map(|place| format!("the one in `{place}`")).collect();
                let query = printable(query);
                return Err(ManageError::Ambiguous { query, candidates, hint: "say which place" });
            }
        };
        let there: Vec<Entry> = entries.into_iter().filter(|entry| entry.place == place).collect();
        if there.is_empty() {
            return Err(ManageError::NotFound { query: format!("{} in {place}", printable(query)) });
        }
        for entry in &there {
            take_out(entry)?;
        }
        let notes = match place {
            Place::Distrusted => vec!["it may be accepted again, if something speaks for it".to_owned()],
            Place::Own | Place::Trusted | Place::Issuers | Place::Rejected => Vec::new(),
        };
        let certificates = vec![Moved { facts, from: vec![place], to: None }];
        Ok(Change { action: Action::Deleted, certificates, crls: Vec::new(), notes })
    }

    fn delete_list(&self, query: &str) -> Result<Option<Change>, ManageError> {
        for folder in self.crls() {
            for file in list(&folder)? {
                if file.file_name().is_none_or(|name| name != query) {
                    continue;
                }
                // A list that cannot be read is deleted too: while it is there, no chain is accepted.
                let crls = read_lists(&file).map_or_else(
                    |_| vec!["nobody knows".to_owned()],
                    |lists| lists.into_iter().map(|list| list.issuer).collect(),
                );
                remove_file(&file)?;
                let notes = vec!["what it has revoked is no longer refused because of it".to_owned()];
                return Ok(Some(Change { action: Action::Deleted, certificates: Vec::new(), crls, notes }));
            }
        }
        Ok(None)
    }

    /// Writes the certificate to a place, unless it is there. `how` is for whoever opens the file.
    fn put(&self, place: Place, entries: &[Entry], now_unix: u64, how: &str) -> Result<(), ManageError> {
        let Some(first) = entries.first().filter(|_| entries.iter().all(|entry| entry.place != place)) else {
            return Ok(());
        };
        let since = entries.iter().find_map(|entry| entry.reason.clone());
        let reason = since.map_or_else(|| how.to_owned(), |reason| format!("{how}; before: {reason}"));
        self.write(place, &first.der, now_unix, &reason)
    }

    /// Writes one certificate with the words of a decision.
    pub(super) fn write(
        &self,
        place: Place,
        der: &[u8],
        now_unix: u64,
        reason: &str,
    ) -> Result<(), ManageError> {
        let folder = self.folder(place);
        let most = if place == Place::Distrusted { MAX_DISTRUSTED } else { MAX_FILES };
        if list(&folder)?.len() >= most {
            return Err(ManageError::Full { place, most });
        }
        let path = folder.join(format!("{}.pem", crate::Fingerprint::of(der).to_hex()));
        atomic_file::write_with_mode(&path, decided_text(der, now_unix, reason).as_bytes(), MODE)
            .map_err(|source| PkiError { operation: "write", path, source }.into())
    }

    /// Takes the certificate out of every other place; says of which.
    fn remove_others(&self, entries: &[Entry], keep: Place) -> Result<Vec<Place>, ManageError> {
        let mut from = Vec::new();
        for entry in entries.iter().filter(|entry| entry.place != keep) {
            take_out(entry)?;
            from.push(entry.place);
        }
        from.dedup();
        Ok(from)
    }
}

/// The text of a file with the words of a decision.
pub(super) fn decided_text(der: &[u8], now_unix: u64, reason: &str) -> String {
    let decided = rfc3339(i64::try_from(now_unix).unwrap_or(i64::MAX));
    let words = [("Reason", one_line(reason).as_str()), ("Decided", &decided)].map(line).concat();
    file_text(der, &words)
}

/// A certificate that an operator may decide about, and everywhere it is.
struct Peer {
    facts: CertificateFacts,
    entries: Vec<Entry>,
}

fn peer(entries: Vec<Entry>) -> Result<Peer, ManageError> {
    let is_own = entries.iter().any(|entry| entry.place == Place::Own);
    match entries.first().map(|entry| entry.facts.clone()) {
        Some(facts) if !is_own => Ok(Peer { facts, entries }),
        Some(_) | None => Err(ManageError::Own),
    }
}

/// Whether it is what the operator says it is.
pub(super) fn check_authority(facts: &CertificateFacts, as_authority: bool) -> Result<(), ManageError> {
    let subject = facts.subject.clone();
    match (facts.is_authority, as_authority) {
        (true, false) => Err(ManageError::IsAuthority { subject }),
        (false, true) => Err(ManageError::NotAuthority { subject }),
        (true, true) | (false, false) => Ok(()),
    }
}

fn already(from: &[Place], entries: &[Entry], to: Place) -> Vec<String> {
    let was_there = entries.iter().any(|entry| entry.place == to);
    if from.is_empty() && was_there { vec!["it was there already".to_owned()] } else { Vec::new() }
}

/// A certificate that is trusted out of its time is refused all the same.
pub(super) fn time_note(facts: &CertificateFacts, now_unix: u64) -> Option<String> {
    let now = i64::try_from(now_unix).unwrap_or(i64::MAX);
    Refusal::of_time(facts, now).map(|refusal| format!("it will be refused all the same: {refusal}"))
}

/// Removes one certificate from its file; the others of that file stay.
fn take_out(entry: &Entry) -> Result<(), ManageError> {
    let unreadable =
        |why| PkiError { operation: "read", path: entry.file.clone(), source: io::Error::other(why) };
    let others: Vec<Entry> = read_entries(entry.place, &entry.file)
        .map_err(unreadable)?
        .into_iter()
        .filter(|other| other.facts.fingerprint != entry.facts.fingerprint)
        .collect();
    if others.is_empty() {
        return Ok(remove_file(&entry.file)?);
    }
    let text: String = others.iter().map(|other| file_text(&other.der, "")).collect();
    atomic_file::write_with_mode(&entry.file, text.as_bytes(), MODE)
        .map_err(|source| PkiError { operation: "write", path: entry.file.clone(), source }.into())
}

/// Gone also after a power cut.
fn remove_file(path: &Path) -> Result<(), PkiError> {
    let failed = |source| PkiError { operation: "remove", path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()))
        .map_err(failed)
}
