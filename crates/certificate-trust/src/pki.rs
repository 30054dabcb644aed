//! The PKI folders, in the habit of OPC UA (OPC 10000-12 §7): an operator trusts a certificate by moving its file.
//!
//! ```text
//!   pki/own              this node's certificate and private key                             (identity.rs)
//!   pki/trusted/certs    accepted themselves; an authority's also with everything it has signed
//!   pki/issuers/certs    nobody trusts them: they complete chains between the two
//!   pki/*/crl            revocation lists of either
//!   pki/rejected         what unknown peers have shown, waiting to be looked at: no decision (rejected.rs)
//!   pki/distrusted       what an operator has decided against: it wins over everything else
//! ```
//!
//! Who reads them all is `folders.rs`; what people do with them is `manage/`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use crate::bundle::Der;
use crate::certificate::{CertificateFacts, InvalidCertificate};
use crate::files;

/// Larger files in the folders are skipped, in bytes.
pub(crate) const MAX_FILE: usize = 64 * 1024;
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
}

impl PkiStore {
    /// The folders where they are, for whoever only reads.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes the folders that are missing: `own` for the process alone, the others also readable by its group.
    ///
    /// # Errors
    /// When a folder can be neither found nor made.
    pub fn open(root: &Path) -> Result<Self, PkiError> {
        let store = Self::at(root);
        let shared =
            ["trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected", "distrusted"];
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

    /// Where certificates are that only complete chains.
    #[must_use]
    pub fn issuers(&self) -> PathBuf {
        self.root.join("issuers/certs")
    }

    /// Where certificates are that an operator has rejected for good.
    #[must_use]
    pub fn distrusted(&self) -> PathBuf {
        self.root.join("distrusted")
    }

    /// Where revocation lists are.
    #[must_use]
    pub fn crls(&self) -> [PathBuf; 2] {
        ["trusted/crl", "issuers/crl"].map(|folder| self.root.join(folder))
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

/// All certificates in these bytes, PEM or DER, in their order, each checked to be one. Takes any bytes, never panics.
///
/// # Errors
/// Says in words what is wrong.
pub fn certificates_in(bytes: &[u8]) -> Result<Vec<Der>, String> {
    let found = parse_certificates(bytes).map_err(|problem| problem.to_string())?;
    Ok(found.iter().map(|der| der.to_vec()).collect())
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
    use super::*;

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
}
