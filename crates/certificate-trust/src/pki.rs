//! The PKI folders, in the habit of OPC UA (OPC 10000-12 §7): an operator trusts a certificate by moving its file.
//!
//! ```text
//!   pki/own                      this node's certificate and private key        (identity.rs)
//!   pki/trusted/certs, crl       accepted peers: read afresh at each dial
//!   pki/issuers/certs, crl       issuers that chains may pass through
//!   pki/rejected                 what unknown peers have shown, to look at      (rejected.rs)
//! ```
//!
//! Here only the certificate itself is trusted (pinned); revocation lists and issuers are folders that every OPC UA user expects,
//! and a file in them is reported as not used.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use crate::certificate::{CertificateFacts, InvalidCertificate};
use crate::{Fingerprint, files};

/// Larger files in the folders are skipped, in bytes.
pub(crate) const MAX_FILE: usize = 64 * 1024;
/// Files looked at in `trusted/certs`, in the order of their names; a pair needs one or two. More are skipped and
/// said, so that a folder filled by mistake does not slow each dial.
const MAX_TRUSTED_FILES: usize = 256;

/// A PKI folder that cannot be used.
#[derive(Debug, Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct PkiError {
    /// What was tried.
    pub operation: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl PkiError {
    /// The machine code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "pki.io"
    }
}

/// The PKI folders of a node.
#[derive(Clone, Debug)]
pub struct PkiStore {
    root: PathBuf,
    /// What was wrong in the folders at the last reading, so that a dial each second says it once. As many
    /// entries as files are read.
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl PkiStore {
    /// Makes the folders that are missing: `own` for the process alone, the others also readable by its group.
    ///
    /// # Errors
    /// When a folder can be neither found nor made.
    pub fn open(root: &Path) -> Result<Self, PkiError> {
        let store = Self { root: root.to_owned(), said: Arc::default() };
        let shared = ["trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected"];
        make_folder(root, 0o750)?;
        make_folder(&store.own(), 0o700)?;
        for folder in shared {
            make_folder(&root.join(folder), 0o750)?;
        }
        Ok(store)
    }

    /// Where the node's own certificate and key are.
    pub(crate) fn own(&self) -> PathBuf {
        self.root.join("own")
    }

    /// Where trusted certificates are.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.root.join("trusted/certs")
    }

    /// Where unknown certificates are kept.
    #[must_use]
    pub fn rejected(&self) -> PathBuf {
        self.root.join("rejected")
    }

    /// The fingerprints of all trusted certificates as the folder is now, PEM or DER. A file that is no
    /// certificate is skipped with a warning: it must not take the trust in the others away.
    ///
    /// Reads files: not for an async thread.
    pub(crate) fn trusted_leaves(&self) -> Result<BTreeSet<Fingerprint>, PkiError> {
        let folder = self.trusted();
        let mut problems = self.unused();
        let mut paths = list(&folder)?;
        if paths.len() > MAX_TRUSTED_FILES {
            problems.insert(format!(
                "`{}` has {} files: only the first {MAX_TRUSTED_FILES} by name are read",
                folder.display(),
                paths.len()
            ));
            paths.truncate(MAX_TRUSTED_FILES);
        }
        let mut leaves = BTreeSet::new();
        for path in paths {
            match read_certificates(&path) {
                Ok(certificates) => leaves.extend(certificates.iter().map(|der| Fingerprint::of(der))),
                Err(problem) => {
                    problems.insert(format!("`{}` is skipped: {problem}", path.display()));
                }
            }
        }
        self.say(problems);
        Ok(leaves)
    }

    /// Folders whose files have no effect here: whoever put a revocation list there must not believe that it works.
    fn unused(&self) -> BTreeSet<String> {
        let folders = ["trusted/crl", "issuers/certs", "issuers/crl"].map(|folder| self.root.join(folder));
        let used = folders.iter().filter(|folder| list(folder).is_ok_and(|files| !files.is_empty()));
        used.map(|folder| {
            format!(
                "files in `{}` have no effect: only pinned certificates are trusted; to revoke one, move it out of `{}`",
                folder.display(),
                self.trusted().display()
            )
        })
        .collect()
    }

    fn say(&self, problems: BTreeSet<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.difference(&said) {
            tracing::warn!("trusted certificates: {problem}");
        }
        *said = problems;
    }
}

/// Why a file gives no certificates.
#[derive(Debug, Error)]
pub(crate) enum FileProblem {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("its PEM text is cut or damaged: {0}")]
    Pem(rustls::pki_types::pem::Error),
    #[error("it holds no certificate")]
    Empty,
    #[error("{0}")]
    Certificate(#[from] InvalidCertificate),
}

/// All certificates of a file, PEM or DER, each checked to be one. Takes any bytes.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    parse_certificates(&files::read_bounded(path, MAX_FILE)?)
}

pub(crate) fn parse_certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    // DER begins with the tag of a SEQUENCE (X.690 §8.9); PEM is text.
    let certificates = if bytes.first() == Some(&0x30) {
        vec![CertificateDer::from(bytes.to_vec())]
    } else {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(FileProblem::Pem)?
    };
    if certificates.is_empty() {
        return Err(FileProblem::Empty);
    }
    for der in &certificates {
        CertificateFacts::read(der)?;
    }
    Ok(certificates)
}

/// The files of a folder by name, without hidden ones (half-written, or an editor's).
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, PkiError> {
    let failed = |source| PkiError { operation: "read the folder", path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|source| PkiError {
        operation: "make the folder",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]
mod tests {
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn certificate() -> (Vec<u8>, String) {
        let made = rcgen::generate_simple_self_signed(vec!["node-a".to_owned()]).unwrap().cert;
        (made.der().to_vec(), made.pem())
    }

    #[test]
    fn what_is_not_wholly_a_certificate_is_said() {
        let (der, pem) = certificate();
        let said = |bytes: &[u8]| parse_certificates(bytes).unwrap_err().to_string();
        assert_eq!(said(b""), "it holds no certificate");
        assert_eq!(said(b"hello"), "it holds no certificate");
        assert_eq!(said(&[&der[..], &[0]].concat()), "1 bytes follow after the certificate");
        assert!(said(&der[..der.len() - 1]).contains("cut or damaged"));
        assert!(said(&pem.as_bytes()[..pem.len() / 2]).contains("cut or damaged"));
        let second_is_none = format!("{pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(said(second_is_none.as_bytes()).contains("not an X.509 certificate"));
    }

    #[test]
    fn a_file_above_the_limit_is_not_read_also_when_it_begins_well() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("large.pem");
        let (_, pem) = certificate();
        fs::write(&path, pem.clone() + &"\n".repeat(MAX_FILE - pem.len())).unwrap();
        assert_eq!(read_certificates(&path).unwrap().len(), 1);
        fs::write(&path, pem.clone() + &"\n".repeat(MAX_FILE - pem.len() + 1)).unwrap();
        assert!(read_certificates(&path).unwrap_err().to_string().contains("larger than 65536 bytes"));
    }

    /// A dial each second must not fill the log, and a problem that comes back must be said again.
    #[test]
    fn a_problem_is_said_once_while_it_lasts() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = PkiStore::open(folder.path()).unwrap();
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            let bad = store.trusted().join("bad.pem");
            fs::write(&bad, "hello").unwrap();
            fs::write(folder.path().join("trusted/crl/list.crl"), "x").unwrap();
            store.trusted_leaves().unwrap();
            let said = log.take();
            assert!(said.contains("bad.pem` is skipped: it holds no certificate"), "{said}");
            assert!(said.contains("trusted/crl` have no effect"), "{said}");
            store.trusted_leaves().unwrap();
            assert_eq!(log.take(), "");
            fs::remove_file(&bad).unwrap();
            store.trusted_leaves().unwrap();
            fs::write(&bad, "hello").unwrap();
            store.clone().trusted_leaves().unwrap();
            assert!(log.take().contains("bad.pem"));
        });
    }

    #[test]
    fn a_folder_with_too_many_files_is_read_in_part_and_said() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = PkiStore::open(folder.path()).unwrap();
        let (der, _) = certificate();
        for number in 0..MAX_TRUSTED_FILES {
            fs::write(store.trusted().join(format!("{number:04}")), "").unwrap();
        }
        fs::write(store.trusted().join("9999"), &der).unwrap();
        assert!(store.trusted_leaves().unwrap().is_empty());
        assert!(store.said.lock().unwrap().iter().any(|problem| problem.contains("has 257 files")));
        fs::remove_file(store.trusted().join("0000")).unwrap();
        assert_eq!(store.trusted_leaves().unwrap().len(), 1);
    }
}
