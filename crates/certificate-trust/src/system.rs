//! The operating system's root certificates, for trust `system`.
//!
//! Found and read as `rustls-native-certs` does it: `SSL_CERT_FILE` and `SSL_CERT_DIR` when one of them is set, else the places
//! where Linux distributions have them. The paths are asked for anew each time, so that a store that is installed later is
//! found; it is read again only when a file or folder of it has changed.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::path::PathBuf;

use crate::bundle::{Der, SystemRoots};

/// More roots than this are not taken, in bytes of DER: a distribution has some 200 KB, and a bundle travels.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Where the roots are.
#[derive(Clone, Debug)]
pub struct SystemStore(Option<Paths>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    pub(crate) file: Option<PathBuf>,
    pub(crate) folders: Vec<PathBuf>,
}

impl SystemStore {
    /// This machine's.
    #[must_use]
    pub const fn of_this_machine() -> Self {
        Self(None)
    }

    /// These, whatever the environment says: a PEM file, and folders with hashed names as `openssl rehash` makes them.
    #[must_use]
    pub const fn at(file: Option<PathBuf>, folders: Vec<PathBuf>) -> Self {
        Self(Some(Paths { file, folders }))
    }

    pub(crate) fn paths(&self) -> Paths {
        if let Some(paths) = &self.0 {
            return paths.clone();
        }
        let file = env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let folders: Vec<PathBuf> = env::var_os("SSL_CERT_DIR")
            .map(|folders| env::split_paths(&folders).filter(|path| !path.as_os_str().is_empty()).collect())
            .unwrap_or_default();
        if file.is_some() || !folders.is_empty() {
            return Paths { file, folders };
        }
        let found = openssl_probe::probe();
        Paths { file: found.cert_file, folders: found.cert_dir }
    }

    /// Reads them all. What cannot be read is named; the rest counts.
    #[must_use]
    pub fn read(&self) -> SystemRoots {
        let Paths { file, folders } = self.paths();
        let mut problems = Vec::new();
        if file.is_none() && folders.is_empty() {
            problems.push("no file or folder of root certificates was found".to_owned());
        }
        let mut found: BTreeSet<Der> = BTreeSet::new();
        let mut take = |result: rustls_native_certs::CertificateResult| {
            found.extend(result.certs.iter().map(|der| der.to_vec()));
            for error in result.errors {
                let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                problems.push(format!("{}{cause}", error.context));
            }
        };
        if let Some(file) = &file {
            take(rustls_native_certs::load_certs_from_paths(Some(file), None));
        }
        for folder in &folders {
            take(rustls_native_certs::load_certs_from_paths(None, Some(folder)));
        }
        let mut room = MAX_BYTES;
        let mut roots: Vec<Der> = found.into_iter().collect();
        let all = roots.len();
        roots.retain(|der| {
            let fits = der.len() <= room;
            room = room.saturating_sub(der.len());
            fits
        });
        if roots.len() < all {
            problems.push(format!("{} of {all} roots are not taken: they are too large", all - roots.len()));
        }
        SystemRoots { roots, problems }
    }
}
