//! The node's own certificate and private key in `pki/own`, made at the first start.
//!
//! ```text
//!   a renewal was interrupted between its two files ─► finish it (manage/own.rs)
//!   nothing there ──────────► make key, write key, make certificate, write certificate ─► publish
//!   key, no certificate ────► (a first start was interrupted) certificate for that key ─► publish
//!   certificate, no key ────► error: a certificate cannot be used without its key
//!   both ───────────────────► read, check that they belong together ────────────────────► publish
//! ```
//!
//! Nothing is published before certificate and key have been read whole and found to match. The published pair stands in
//! an `arc-swap`: [`OwnIdentity::reload`] exchanges it under running acceptors, new handshakes see the new one, and
//! a bad pair of files leaves the old one in place.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use service_kit::atomic_file;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::Fingerprint;
use crate::bundle::{BundleReceiver, OwnPair};
use crate::certificate::{CertificateFacts, InvalidCertificate};
use crate::decision;
use crate::manage::{rename, turn};
use crate::pki::{FileProblem, MAX_FILE, PkiError, PkiStore, read_certificates};
use crate::provider::provider;
use crate::refusal::Refusal;
use crate::secret_file::{self, SecretFileError, SecretFileKind};

pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const PRIVATE_KEY: &str = "private.key";
/// The pair that will be shown next; the key alone waits for an authority's answer.
pub(crate) const NEXT_CERTIFICATE: &str = "next.pem";
pub(crate) const NEXT_KEY: &str = "next.key";
/// Names of one node: its name, host names and addresses. More is a mistake in the settings.
const MAX_NAMES: usize = 64;
/// How long a certificate made here is valid, in years. It is pinned by the peer and nobody renews it by itself, so it
/// should outlast the machine rather than end a pair's redundancy one night.
const VALID_YEARS: i16 = 20;
/// 2026-01-01 in Unix seconds. A machine without a battery clock may be in 1970 at its first start: validity is then counted
/// from here, so that the certificate is still valid when the clock has been set.
const EARLIEST_CLOCK: u64 = 1_767_225_600;
/// One day, in seconds: how far the peer's clock may be behind ours at the first start.
const CLOCK_TOLERANCE: u64 = 86_400;

/// Why the node has no usable identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A folder could not be made or written.
    #[error("the folder of the node's own certificate is not usable")]
    Folder(#[from] PkiError),
    /// No names were given to make a certificate for.
    #[error("a certificate needs 1 to {MAX_NAMES} names, {given} are given")]
    NameCount {
        /// How many.
        given: usize,
    },
    /// A name that no certificate can have.
    #[error("`{name}` is neither a host name nor an IP address, so no certificate can be made for it")]
    BadName {
        /// The name.
        name: String,
    },
    /// The cryptography library refused.
    #[error("the node's own certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// The private key is gone.
    #[error(
        "`{}` has no private key beside it: restore `{PRIVATE_KEY}`, or remove the certificate to have a new pair made (the other node must then trust the new one)",
        certificate.display()
    )]
    KeyMissing {
        /// The certificate that is there.
        certificate: PathBuf,
    },
    /// The private key file is not used.
    #[error("the private key `{}` {problem}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: SecretFileError,
    },
    /// The private key file holds no key.
    #[error("the private key `{}` is cut, damaged, or not a private key in PEM", path.display())]
    KeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// The certificate file cannot be read or holds none.
    #[error("the certificate `{}` is not usable: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Certificate and key are each whole, but not a pair.
    #[error("the certificate `{}` does not belong to the private key beside it", certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
    },
}

impl IdentityError {
    /// The machine code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(_) => "identity.folder",
            Self::NameCount { .. } | Self::BadName { .. } => "identity.names",
            Self::Make(_) => "identity.make",
            Self::KeyMissing { .. } => "identity.key_missing",
            Self::KeyFile { problem, .. } => match problem.kind() {
                SecretFileKind::Permissions => "identity.key_permissions",
                SecretFileKind::Unreadable | SecretFileKind::NotAFile | SecretFileKind::TooLarge => {
                    "identity.key_unreadable"
                }
            },
            Self::KeyMalformed { .. } => "identity.key_malformed",
            Self::Certificate { .. } => "identity.certificate",
            Self::Mismatch { .. } => "identity.mismatch",
        }
    }
}

/// A certificate and key that belong together.
struct Published {
    certified: Arc<CertifiedKey>,
    facts: Arc<CertificateFacts>,
    pair: OwnPair,
}

/// The node's own certificate and key. Clones share what is published.
#[derive(Clone)]
pub struct OwnIdentity {
    folder: PathBuf,
    published: Arc<ArcSwap<Published>>,
}

impl OwnIdentity {
    /// Reads the identity, or makes a self-signed one for `names` (host names and IP addresses; the first one is the
    /// subject) and the PKI folders with it. An existing certificate is used as it is; names it lacks are a warning.
    ///
    /// Reads and writes files: not for an async thread.
    ///
    /// # Errors
    /// When files are half-written, damaged, open to others or not a pair, or when a name is not possible.
    pub fn open_or_create(pki_dir: &Path, names: &[String], now_unix: u64) -> Result<Self, IdentityError> {
        let folder = PkiStore::open(pki_dir)?.own();
        finish_renewal(&folder)?;
        let certificate = folder.join(CERTIFICATE);
        let made = match (exists(&certificate)?, exists(&folder.join(PRIVATE_KEY))?) {
            (true, true) => false,
            (true, false) => return Err(IdentityError::KeyMissing { certificate }),
            (false, key_exists) => {
                create(&folder, key_exists, names, now_unix)?;
                true
            }
        };
        let published = load(&folder)?;
        let facts = Arc::clone(&published.facts);
        if made {
            tracing::info!(certificate = %facts, "made this node's own certificate");
        } else {
            report(&published, names, now_unix);
        }
        Ok(Self { folder, published: Arc::new(ArcSwap::from_pointee(published)) })
    }

    /// The fingerprint of the certificate that new handshakes show.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.published.load().facts.fingerprint
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> Arc<CertificateFacts> {
        Arc::clone(&self.published.load().facts)
    }

    /// The certificate with its chain and key, as it travels to the services of this node.
    #[must_use]
    pub fn pair(&self) -> OwnPair {
        self.published.load().pair.clone()
    }

    /// Reads the files again and publishes them for new handshakes; says whether it changed. Running sessions go
    /// on. On an error the old pair stays.
    ///
    /// Reads files: not for an async thread.
    ///
    /// # Errors
    /// As [`OwnIdentity::open_or_create`]; nothing is made here.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        finish_renewal(&self.folder)?;
        let fresh = load(&self.folder)?;
        let changed = fresh.pair != self.published.load().pair;
        if changed {
            self.published.store(Arc::new(fresh));
        }
        Ok(changed)
    }

    /// The files that it is in.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        [CERTIFICATE, PRIVATE_KEY].into_iter().map(|name| self.folder.join(name))
    }

    /// For the acceptor: always the newest published pair.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(Arc::clone(&self.published)))
    }
}

impl fmt::Debug for OwnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIdentity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

struct Resolver(Arc<ArcSwap<Published>>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

/// For both ends, which follow bundles: the pair is made ready once for each change.
pub(crate) struct OwnOfBundle {
    bundles: BundleReceiver,
    ready: ArcSwapOption<(OwnPair, Arc<CertifiedKey>)>,
}

impl OwnOfBundle {
    pub(crate) fn new(bundles: BundleReceiver) -> Self {
        Self { bundles, ready: ArcSwapOption::empty() }
    }
}

impl fmt::Debug for OwnOfBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnOfBundle")
    }
}

impl ResolvesServerCert for OwnOfBundle {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }
}

impl ResolvesClientCert for OwnOfBundle {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }

    fn has_certs(&self) -> bool {
        self.bundles.borrow().own.is_some()
    }
}

impl OwnOfBundle {
    fn newest(&self) -> Option<Arc<CertifiedKey>> {
        let bundle = Arc::clone(&self.bundles.borrow());
        let last = self.ready.load_full();
        let Some(pair) = &bundle.own else { return last.map(|ready| Arc::clone(&ready.1)) };
        match last {
            Some(ready) if ready.0 == *pair => Some(Arc::clone(&ready.1)),
            last => match certified(pair) {
                Ok(fresh) => {
                    let fresh = Arc::new(fresh);
                    self.ready.store(Some(Arc::new((pair.clone(), Arc::clone(&fresh)))));
                    Some(fresh)
                }
                Err(error) => {
                    tracing::error!(%error, "the own certificate of bundle {} cannot be used", bundle.revision);
                    last.map(|ready| Arc::clone(&ready.1))
                }
            },
        }
    }
}

/// The key first and the certificate last: a start interrupted between the two goes on with the same key.
fn create(folder: &Path, key_exists: bool, names: &[String], now_unix: u64) -> Result<(), IdentityError> {
    let params = certificate_params(names, now_unix)?;
    let key = if key_exists {
        let pem = read_key_text(folder, PRIVATE_KEY)?;
        KeyPair::from_pem(&pem).map_err(|_| IdentityError::KeyMalformed { path: folder.join(PRIVATE_KEY) })?
    } else {
        let key = KeyPair::generate().map_err(IdentityError::Make)?;
        let pem = Zeroizing::new(key.serialize_pem());
        write(folder, PRIVATE_KEY, 0o600, pem.as_bytes())?;
        key
    };
    let certificate = params.self_signed(&key).map_err(IdentityError::Make)?;
    write(folder, CERTIFICATE, 0o644, certificate.pem().as_bytes())
}

pub(crate) fn certificate_params(
    names: &[String],
    now_unix: u64,
) -> Result<CertificateParams, IdentityError> {
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        // "node-a." is how DNS writes it; in a certificate (RFC 5280 §4.2.1.6) it has no dot at its end.
        let name = name.strip_suffix('.').unwrap_or(name);
        // What a peer could never dial is refused now, not by the peer one day.
        if ServerName::try_from(name).is_err() {
            return Err(IdentityError::BadName { name: name.chars().take(256).collect() });
        }
        if !unique.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            unique.push(name.to_owned());
        }
    }
    let Some(first) = unique.first().cloned().filter(|_| unique.len() <= MAX_NAMES) else {
        return Err(IdentityError::NameCount { given: unique.len() });
    };
    let mut params = CertificateParams::new(unique).map_err(IdentityError::Make)?;
    params.distinguished_name = DistinguishedName::new();
    // RFC 5280, appendix A: a common name has at most 64 characters. It is for people; the names above decide.
    params.distinguished_name.push(DnType::CommonName, first.chars().take(64).collect::<String>());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (year, month, day) = date(now_unix.saturating_sub(CLOCK_TOLERANCE));
    params.not_before = rcgen::date_time_ymd(year.into(), month, day);
    let (year, month, day) = date(now_unix.max(EARLIEST_CLOCK));
    // The 28th exists in every month of every year.
    params.not_after = rcgen::date_time_ymd(year.saturating_add(VALID_YEARS).into(), month, day.min(28));
    Ok(params)
}

/// Year, month and day in UTC. Out of the calendar's range it is the first day of 1970.
fn date(unix: u64) -> (i16, u8, u8) {
    let time = i64::try_from(unix).ok().and_then(|unix| jiff::Timestamp::from_second(unix).ok());
    let date = time.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn load(folder: &Path) -> Result<Published, IdentityError> {
    load_pair(folder, CERTIFICATE, PRIVATE_KEY)
}

/// Whether two files are a pair.
pub(crate) fn fits(folder: &Path, certificate: &str, key: &str) -> Result<(), IdentityError> {
    load_pair(folder, certificate, key).map(|_| ())
}

/// Whether a certificate belongs to a private key.
pub(crate) fn is_of_key(folder: &Path, key: &str, der: &[u8]) -> Result<bool, IdentityError> {
    let key = read_key(folder, key)?;
    let chain = vec![CertificateDer::from(der.to_vec())];
    Ok(CertifiedKey::from_der(chain, key, &provider()).is_ok())
}

/// The key of a renewal has been put in place, and its certificate has not.
fn finish_renewal(folder: &Path) -> Result<(), IdentityError> {
    let _turn = turn();
    let left = exists(&folder.join(NEXT_CERTIFICATE))? && !exists(&folder.join(NEXT_KEY))?;
    if left && fits(folder, NEXT_CERTIFICATE, PRIVATE_KEY).is_ok() && load(folder).is_err() {
        rename(folder, NEXT_CERTIFICATE, CERTIFICATE)?;
        tracing::info!("finished an interrupted renewal of this node's own certificate");
    }
    Ok(())
}

fn load_pair(folder: &Path, certificate: &str, key: &str) -> Result<Published, IdentityError> {
    let (certificate, private_key) = (folder.join(certificate), key);
    let unusable = |problem: String| IdentityError::Certificate { path: certificate.clone(), problem };
    let chain =
        read_certificates(&certificate).map_err(|problem: FileProblem| unusable(problem.to_string()))?;
    let facts = chain
        .first()
        .map_or(Err(InvalidCertificate::Malformed), |leaf| CertificateFacts::read(leaf))
        .map_err(|problem| unusable(problem.to_string()))?;
    let key = read_key(folder, private_key)?;
    let pair = OwnPair {
        chain: chain.iter().map(|der| der.to_vec()).collect(),
        key_der: Zeroizing::new(key.secret_der().to_vec()),
    };
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(certified) => Ok(Published { certified: Arc::new(certified), facts: Arc::new(facts), pair }),
        Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch { certificate }),
        Err(rustls::Error::InvalidCertificate(problem)) => Err(unusable(format!("{problem:?}"))),
        Err(_) => Err(IdentityError::KeyMalformed { path: folder.join(private_key) }),
    }
}

/// A pair that has travelled, ready for handshakes. It is checked again: nothing that does not match is ever shown.
pub(crate) fn certified(pair: &OwnPair) -> Result<CertifiedKey, rustls::Error> {
    let chain = pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(pair.key_der.to_vec())
        .map_err(|why| rustls::Error::General(why.to_owned()))?;
    CertifiedKey::from_der(chain, key, &provider())
}

fn read_key(folder: &Path, name: &str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read_key_text(folder, name)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| IdentityError::KeyMalformed { path: folder.join(name) })
}

pub(crate) fn read_key_text(folder: &Path, name: &str) -> Result<Zeroizing<String>, IdentityError> {
    let path = folder.join(name);
    let bytes = secret_file::read(&path, MAX_FILE)
        .map_err(|problem| IdentityError::KeyFile { path: path.clone(), problem })?;
    let text = core::str::from_utf8(&bytes).map_err(|_| IdentityError::KeyMalformed { path })?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub(crate) fn write(folder: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), IdentityError> {
    let path = folder.join(name);
    atomic_file::write_with_mode(&path, bytes, mode)
        .map_err(|source| IdentityError::Folder(PkiError { operation: "write", path, source }))
}

/// A file that cannot be looked at is an error, not "absent": else a new identity would be made over the old one.
pub(crate) fn exists(path: &Path) -> Result<bool, IdentityError> {
    path.try_exists().map_err(|source: io::Error| {
        IdentityError::Folder(PkiError { operation: "look at", path: path.to_owned(), source })
    })
}

/// What an operator should know of a certificate that is used as it is: each cause once, not once for every name.
fn report(published: &Published, names: &[String], now_unix: u64) {
    let Some(leaf) = published.pair.chain.first() else { return };
    let mut said: Vec<Refusal> = Vec::new();
    for host in names.iter().filter(|name| ServerName::try_from(name.as_str()).is_ok()) {
        let Err(refusal) = decision::would_be_accepted(leaf, host, now_unix) else { continue };
        if !said.contains(&refusal) {
            let (certificate, code) = (&published.facts, refusal.code());
            tracing::warn!(%certificate, code, "a peer that pins this node's own certificate will refuse it: {refusal}");
            said.push(refusal);
        }
    }
}
