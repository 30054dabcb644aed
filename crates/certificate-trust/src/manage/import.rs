//! Importing: certificates and revocation lists from outside, PEM or DER, alone or as chains. Everything is read and judged
//! before anything is written.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use service_kit::atomic_file;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::change::{check_authority, decided_text, time_note};
use super::look::{describe_list, read_lists};
use super::{Action, Change, CrlEntry, Entry, ManageError, Moved, Place};
use crate::bundle::Der;
use crate::certificate::CertificateFacts;
use crate::folders::{MAX_CRL, MAX_CRLS, MAX_FILES, parse_crls};
use crate::pki::{MAX_FILE, PkiError, PkiStore, list, parse_certificates};
use crate::{Fingerprint, files};

/// Certificates of one import.
const MAX_CERTIFICATES: usize = 64;
/// What the files of imported certificates say.
const REASON: &str = "imported by an operator";

/// What the certificates are imported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportAs {
    /// A peer's: it is trusted itself. Authorities that come with it complete its chain and are not trusted.
    Peer,
    /// Authorities: everything they have signed is trusted.
    Authority,
    /// Authorities that only complete chains.
    Intermediate,
}

impl PkiStore {
    /// Imports certificates and revocation lists. A list replaces an older one of the same issuer.
    ///
    /// # Errors
    /// When anything in the bytes cannot be read, or is not what `import_as` says: then nothing was written.
    pub fn import(&self, bytes: &[u8], import_as: ImportAs, now_unix: u64) -> Result<Change, ManageError> {
        let (certificates, lists) = read(bytes).map_err(|why| ManageError::Unreadable { why })?;
        let planned = self.plan(&certificates, import_as)?;
        let lists = self.plan_lists(&lists)?;
        let known = self.list()?;
        self.check_room(&planned, &known.entries, now_unix)?;
        let mut change = Change {
            action: Action::Imported,
            certificates: Vec::new(),
            crls: Vec::new(),
            notes: Vec::new(),
        };
        // What takes trust away comes first, what gives it last.
        for (name, der, entry) in lists {
            let path = self.crls()[0].join(name);
            atomic_file::write_with_mode(&path, der, 0o640).map_err(|source| PkiError {
                operation: "write",
                path,
                source,
            })?;
            change.crls.push(entry.issuer);
        }
        for (place, der, facts) in planned {
            let from: Vec<Place> = known
                .entries
                .iter()
                .filter(|entry| entry.facts.fingerprint == facts.fingerprint)
                .map(|entry| entry.place)
                .collect();
            if from.contains(&place) {
                change.notes.push(format!("{} was there already", facts.subject));
            } else {
                self.write(place, der, now_unix, REASON)?;
            }
            if place == Place::Trusted && from.contains(&Place::Rejected) {
                // It has been decided about.
                let _ = self.delete(&facts.fingerprint.to_hex(), Some(Place::Rejected))?;
            }
            change.notes.extend(time_note(&facts, now_unix));
            change.certificates.push(Moved { facts, from, to: Some(place) });
        }
        Ok(change)
    }

    /// Where each goes; those that only complete chains before those that are trusted.
    fn plan<'a>(
        &self,
        certificates: &'a [Der],
        import_as: ImportAs,
    ) -> Result<Vec<(Place, &'a Der, CertificateFacts)>, ManageError> {
        let mut planned = Vec::new();
        let distrusted: Vec<Fingerprint> = self
            .list()?
            .entries
            .iter()
            .filter(|entry| entry.place == Place::Distrusted)
            .map(|entry| entry.facts.fingerprint)
            .collect();
        for der in certificates {
            let facts = CertificateFacts::read(der)
                .map_err(|problem| ManageError::Unreadable { why: problem.to_string() })?;
            if distrusted.contains(&facts.fingerprint) {
                return Err(ManageError::WasRejected { subject: facts.subject });
            }
            let place = match import_as {
                ImportAs::Peer if !facts.is_authority => Place::Trusted,
                ImportAs::Peer => Place::Issuers,
                ImportAs::Authority => Place::Trusted,
                ImportAs::Intermediate => Place::Issuers,
            };
            if import_as != ImportAs::Peer {
                check_authority(&facts, true)?;
            }
            planned.push((place, der, facts));
        }
        let only_authorities = planned.iter().all(|(place, ..)| *place == Place::Issuers);
        if let (ImportAs::Peer, true, Some((_, _, facts))) = (import_as, only_authorities, planned.first()) {
            check_authority(facts, false)?;
        }
        planned.sort_by_key(|(place, ..)| core::cmp::Reverse(*place));
        Ok(planned)
    }

    /// Whether all of it can be written, so that it can also be read.
    fn check_room(
        &self,
        planned: &[(Place, &Der, CertificateFacts)],
        known: &[Entry],
        now_unix: u64,
    ) -> Result<(), ManageError> {
        for place in [Place::Trusted, Place::Issuers] {
            let is_there = |facts: &CertificateFacts| {
                known.iter().any(|entry| entry.place == place && entry.facts.fingerprint == facts.fingerprint)
            };
            let mut new: Vec<Fingerprint> = Vec::new();
            for (_, der, facts) in planned.iter().filter(|(to, _, facts)| *to == place && !is_there(facts)) {
                let size = decided_text(der, now_unix, REASON).len();
                if size > MAX_FILE {
                    let subject = &facts.subject;
                    let why = format!(
                        "the file of `{subject}` would have {size} bytes: at most {MAX_FILE} are read"
                    );
                    return Err(ManageError::Unreadable { why });
                }
                new.push(facts.fingerprint);
            }
            new.sort_unstable();
            new.dedup();
            if !new.is_empty() && list(&self.folder(place))?.len() + new.len() > MAX_FILES {
                return Err(ManageError::Full { place, most: MAX_FILES });
            }
        }
        Ok(())
    }

    fn plan_lists<'a>(&self, lists: &'a [Der]) -> Result<Vec<(String, &'a Der, CrlEntry)>, ManageError> {
        let mut planned: Vec<(String, &'a Der, CrlEntry)> = Vec::new();
        for der in lists {
            let unreadable = |why| ManageError::Unreadable { why };
            let entry = describe_list(&self.crls()[0], der).map_err(unreadable)?;
            // One file for each issuer.
            let name = format!("{}.crl", issuer_of(der).map_err(unreadable)?.to_hex());
            // Of several of one issuer that come together the newest counts.
            match planned.iter_mut().find(|(known, ..)| *known == name) {
                Some(known) if known.2.made_unix < entry.made_unix => *known = (name, der, entry),
                Some(_newer) => {}
                None => planned.push((name, der, entry)),
            }
        }
        for (name, _, entry) in &planned {
            let here = read_lists(&self.crls()[0].join(name)).unwrap_or_default();
            if let Some(newer) = here.iter().find(|list| list.made_unix > entry.made_unix) {
                let why = format!("there is a newer revocation list of `{}` already", newer.issuer);
                return Err(ManageError::Unreadable { why });
            }
        }
        self.check_room_for_lists(&planned)?;
        Ok(planned)
    }

    /// One list too many, and the node could use none of them.
    fn check_room_for_lists(&self, planned: &[(String, &Der, CrlEntry)]) -> Result<(), ManageError> {
        if planned.is_empty() {
            return Ok(());
        }
        let mut size: usize = planned.iter().map(|(_, der, _)| der.len()).sum();
        let [ours, others] = self.crls();
        for file in list(&ours)?.into_iter().chain(list(&others)?) {
            let is_replaced = planned.iter().any(|(name, ..)| ours.join(name) == file);
            if is_replaced {
                continue;
            }
            let lists = files::read_bounded(&file, MAX_CRL).map(|bytes| parse_crls(&bytes));
            size += lists.ok().and_then(Result::ok).unwrap_or_default().iter().map(Vec::len).sum::<usize>();
        }
        if size <= MAX_CRLS {
            return Ok(());
        }
        let why =
            format!("all revocation lists together would have {size} bytes: at most {MAX_CRLS} are read");
        Err(ManageError::Unreadable { why })
    }
}

/// The issuer of a revocation list, by the bytes of its name: what people read of it may be another one's, too.
fn issuer_of(der: &[u8]) -> Result<Fingerprint, String> {
    let (_, list) =
        CertificateRevocationList::from_der(der).map_err(|_| "it is no revocation list".to_owned())?;
    Ok(Fingerprint::of(list.issuer().as_raw()))
}

/// Everything that is in the bytes.
fn read(bytes: &[u8]) -> Result<(Vec<Der>, Vec<Der>), String> {
    if bytes.len() > MAX_CRL {
        return Err(format!("it has more than {MAX_CRL} bytes"));
    }
    if bytes.windows(16).any(|part| part == b"PRIVATE KEY-----") {
        return Err(
            "it holds a private key, which belongs to its owner alone: import the certificate without it"
                .to_owned(),
        );
    }
    if bytes.first() == Some(&0x30) {
        return match parse_certificates(bytes) {
            Ok(certificates) => Ok((certificates.iter().map(|der| der.to_vec()).collect(), Vec::new())),
            Err(problem) => {
                parse_crls(bytes).map(|lists| (Vec::new(), lists)).map_err(|_| problem.to_string())
            }
        };
    }
    let has_lists = bytes.windows(15).any(|part| part == b"BEGIN X509 CRL-");
    let has_certificates = CertificateDer::pem_slice_iter(bytes).next().is_some();
    let certificates = if has_certificates || !has_lists {
        parse_certificates(bytes).map_err(|problem| problem.to_string())?
    } else {
        Vec::new()
    };
    if certificates.len() > MAX_CERTIFICATES {
        return Err(format!(
            "it holds {} certificates: at most {MAX_CERTIFICATES} at once",
            certificates.len()
        ));
    }
    let lists = if has_lists { parse_crls(bytes)? } else { Vec::new() };
    Ok((certificates.iter().map(|der| der.to_vec()).collect(), lists))
}
