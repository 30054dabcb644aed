//! The node's own certificate: the next one, shown when everybody is ready for it.
//!
//! ```text
//!   prepare ─► next.key, next.pem ──────────┐
//!                                           ├─ show ─► next.key → private.key, next.pem → certificate.pem
//!   request ─► next.key ─► CSR ─► authority │
//!                └──────── install ─► next.pem
//! ```
//!
//! Two files cannot be exchanged at once. The key goes first: whoever finds a certificate that does not fit its key, and beside
//! it a `next.pem` that does, finishes what was begun (`identity.rs`). A running node goes on showing the old pair until both
//! are there; sessions are not touched by any of it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rcgen::KeyPair;
use zeroize::Zeroizing;

use super::{Action, Change, ManageError, Moved, Place};
use crate::bundle::Der;
use crate::certificate::CertificateFacts;
use crate::decision::would_be_accepted;
use crate::identity::{
    CERTIFICATE, IdentityError, NEXT_CERTIFICATE, NEXT_KEY, PRIVATE_KEY, certificate_params, exists, fits,
    is_of_key, read_key_text, write,
};
use crate::pki::{PkiError, PkiStore, certificates_in};
use crate::refusal::Refusal;

/// One change of the own files at a time in this process; other processes are kept out by the lock of the data directory.
static TURN: Mutex<()> = Mutex::new(());

/// Held by whoever changes the own files, and by whoever would take two of them for a change that was cut in half.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One day, in seconds.
const DAY: i64 = 86_400;
/// So long before its end a certificate that was made here gets a successor.
const PREPARED_BEFORE: i64 = 30 * DAY;
/// So long before its end the successor is shown, whether or not anybody has trusted it: the old one would be refused anyway.
const SHOWN_BEFORE: i64 = DAY;

impl PkiStore {
    /// Makes the next self-signed certificate and its key beside those in use, and nobody is shown it yet. One that is there
    /// already stays.
    ///
    /// # Errors
    /// When the one in use was signed by an authority, a request is out, or files cannot be read or written.
    pub fn prepare(&self, names: &[String], now_unix: u64) -> Result<Change, ManageError> {
        let _turn = turn();
        self.prepare_in_turn(names, now_unix)
    }

    fn prepare_in_turn(&self, names: &[String], now_unix: u64) -> Result<Change, ManageError> {
        if let Some(next) = self.next()? {
            return Ok(own_change(Action::Prepared, next, true));
        }
        let folder = self.own();
        if exists(&folder.join(NEXT_KEY))? {
            return Err(ManageError::RequestOut);
        }
        let current = self.current()?;
        if !current.is_self_issued {
            return Err(ManageError::SignedByOther { issuer: current.issuer });
        }
        let key = KeyPair::generate().map_err(IdentityError::Make)?;
        let made = certificate_params(names, now_unix)?.self_signed(&key).map_err(IdentityError::Make)?;
        // The key last: alone it would look like one whose request is out.
        write(&folder, NEXT_CERTIFICATE, 0o644, made.pem().as_bytes())?;
        write(&folder, NEXT_KEY, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        Ok(own_change(Action::Prepared, facts_of(made.der())?, false))
    }

    /// Shows the next certificate from now on; makes one first if there is none. Running sessions go on.
    ///
    /// # Errors
    /// As [`PkiStore::prepare`], and when the next pair does not fit together.
    pub fn show_next(&self, names: &[String], now_unix: u64) -> Result<Change, ManageError> {
        let _turn = turn();
        if self.next()?.is_none() {
            let _made = self.prepare_in_turn(names, now_unix)?;
        }
        let next = self.next()?.ok_or(ManageError::RequestOut)?;
        let folder = self.own();
        fits(&folder, NEXT_CERTIFICATE, NEXT_KEY)?;
        rename(&folder, NEXT_KEY, PRIVATE_KEY)?;
        rename(&folder, NEXT_CERTIFICATE, CERTIFICATE)?;
        Ok(own_change(Action::Shown, next, false))
    }

    /// What an automatic renewal does now, if anything: prepares a successor 30 days before the end of a certificate that was
    /// made here, and shows it one day before.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn renew_when_due(&self, names: &[String], now_unix: u64) -> Result<Option<Change>, ManageError> {
        let current = self.current()?;
        let left = current.not_after.saturating_sub(i64::try_from(now_unix).unwrap_or(i64::MAX));
        let next = self.next()?;
        let requested = next.is_none() && exists(&self.own().join(NEXT_KEY))?;
        if !current.is_self_issued || requested || left > PREPARED_BEFORE {
            return Ok(None);
        }
        match next {
            None => self.prepare(names, now_unix).map(Some),
            Some(_) if left <= SHOWN_BEFORE => self.show_next(names, now_unix).map(Some),
            Some(_) => Ok(None),
        }
    }

    /// A request (PKCS #10, RFC 2986) for an authority to sign, with a key of its own that waits here for the answer. Asked
    /// again it is the same key.
    ///
    /// # Errors
    /// When a prepared certificate is there, or files cannot be read or written.
    pub fn request(&self, names: &[String], now_unix: u64) -> Result<String, ManageError> {
        let _turn = turn();
        let folder = self.own();
        if self.next()?.is_some() {
            return Err(ManageError::NextPrepared);
        }
        let key = if exists(&folder.join(NEXT_KEY))? {
            key_in(&folder, NEXT_KEY)?
        } else {
            let key = KeyPair::generate().map_err(IdentityError::Make)?;
            // Of a preparation that was cut in half.
            remove(&folder, NEXT_CERTIFICATE)?;
            write(&folder, NEXT_KEY, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes())?;
            key
        };
        let params = certificate_params(names, now_unix)?;
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        Ok(request.map_err(IdentityError::Make)?)
    }

    /// Takes the certificate that an authority has signed, with what leads to it, and shows it from now on. It belongs to the key
    /// of the request, or to the one in use.
    ///
    /// # Errors
    /// When none of them belongs to a key of this node, when a peer would refuse it, or when files cannot be read or written.
    pub fn install(&self, bytes: &[u8], names: &[String], now_unix: u64) -> Result<Change, ManageError> {
        let _turn = turn();
        let mut chain = certificates_in(bytes).map_err(|why| ManageError::Unreadable { why })?;
        let folder = self.own();
        let (index, file) = self.belongs(&chain)?;
        // TLS wants it first; the rest keeps its order, and peers sort it (RFC 8446 §4.4.2).
        let leaf = chain.remove(index);
        let facts = facts_of(&leaf)?;
        let notes = check_own(&leaf, names, now_unix)?;
        let pem: String =
            core::iter::once(&leaf).chain(&chain).map(|der| crate::rejected::pem(der)).collect();
        if file == PRIVATE_KEY && self.next()?.is_some() {
            // What was prepared is not needed any more; the key first, for alone it would look like one whose request is out.
            remove(&folder, NEXT_KEY)?;
        }
        write(&folder, NEXT_CERTIFICATE, 0o644, pem.as_bytes())?;
        if file == NEXT_KEY {
            rename(&folder, NEXT_KEY, PRIVATE_KEY)?;
        }
        rename(&folder, NEXT_CERTIFICATE, CERTIFICATE)?;
        Ok(Change { notes, ..own_change(Action::Shown, facts, false) })
    }

    /// Which of these belongs to which key of this node.
    fn belongs(&self, chain: &[Der]) -> Result<(usize, &'static str), ManageError> {
        let folder = self.own();
        for file in [NEXT_KEY, PRIVATE_KEY] {
            if !exists(&folder.join(file))? {
                continue;
            }
            for (index, der) in chain.iter().enumerate() {
                if is_of_key(&folder, file, der)? {
                    return Ok((index, file));
                }
            }
        }
        let why =
            "none of its certificates belongs to the key of the request or to the key in use".to_owned();
        Err(ManageError::Unreadable { why })
    }

    fn current(&self) -> Result<CertificateFacts, ManageError> {
        let file = self.own().join(CERTIFICATE);
        self.read_own(&file)
    }

    /// The prepared certificate, when it and its key are there.
    fn next(&self) -> Result<Option<CertificateFacts>, ManageError> {
        let (certificate, key) = (self.own().join(NEXT_CERTIFICATE), self.own().join(NEXT_KEY));
        let there = exists(&certificate)? && exists(&key)?;
        there.then(|| self.read_own(&certificate)).transpose()
    }

    fn read_own(&self, file: &Path) -> Result<CertificateFacts, ManageError> {
        let unusable = |problem: String| IdentityError::Certificate { path: file.to_owned(), problem };
        let chain = crate::pki::read_certificates(file).map_err(|problem| unusable(problem.to_string()))?;
        let leaf = chain.first().ok_or_else(|| unusable("it holds no certificate".to_owned()))?;
        facts_of(leaf)
    }
}

/// What a peer would refuse is not shown; of names that it lacks one is told.
fn check_own(leaf: &[u8], names: &[String], now_unix: u64) -> Result<Vec<String>, ManageError> {
    let mut missing = Vec::new();
    for name in names {
        match would_be_accepted(leaf, name, now_unix) {
            Ok(()) => {}
            Err(Refusal::NameMismatch { wanted, .. } | Refusal::BadHost { host: wanted }) => {
                missing.push(wanted)
            }
            Err(refusal) => return Err(ManageError::Unreadable { why: refusal.to_string() }),
        }
    }
    let all = !missing.is_empty() && missing.len() == names.len();
    let missing: Vec<String> = missing.into_iter().map(|name| format!("`{name}`")).collect();
    if all {
        let why = format!("it has none of this node's names: {}", missing.join(", "));
        return Err(ManageError::Unreadable { why });
    }
    Ok(if missing.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "a peer that dials one of these is refused, for it is not in the certificate: {}",
            missing.join(", ")
        )]
    })
}

fn own_change(action: Action, facts: CertificateFacts, was_there: bool) -> Change {
    let from = if was_there { vec![Place::Own] } else { Vec::new() };
    Change {
        action,
        certificates: vec![Moved { facts, from, to: Some(Place::Own) }],
        crls: Vec::new(),
        notes: Vec::new(),
    }
}

fn facts_of(der: &[u8]) -> Result<CertificateFacts, ManageError> {
    CertificateFacts::read(der).map_err(|problem| ManageError::Unreadable { why: problem.to_string() })
}

fn key_in(folder: &Path, name: &str) -> Result<KeyPair, ManageError> {
    let pem = read_key_text(folder, name)?;
    let malformed = |_| IdentityError::KeyMalformed { path: folder.join(name) };
    Ok(KeyPair::from_pem(&pem).map_err(malformed)?)
}

/// Gone also after a power cut, or not there.
fn remove(folder: &Path, name: &str) -> Result<(), PkiError> {
    let failed = |source: io::Error| PkiError { operation: "remove", path: folder.join(name), source };
    match fs::remove_file(folder.join(name)) {
        Ok(()) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// In place also after a power cut.
pub(crate) fn rename(folder: &Path, from: &str, to: &str) -> Result<(), PkiError> {
    let failed = |source: io::Error| PkiError { operation: "rename", path: folder.join(from), source };
    fs::rename(folder.join(from), folder.join(to)).map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
