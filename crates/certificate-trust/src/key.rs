//! The pre-shared key of the pair: where it comes from, which form it has, and what is kept of it.
//!
//! ```text
//!   odk1_ + base64url(32 bytes)  ── as it is ──────┐
//!                                                  ├─► HKDF-Extract("onduty-psk/1") ─► three keys, kept
//!   a typed passphrase ── Argon2id (slow) ─────────┘         the text itself is forgotten
//! ```
//!
//! The key proves, it is never sent; see [`crate::proof`]. Of the text only three derived keys stay in memory, they are
//! zeroized when dropped, and nothing here prints them.

use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError, SecretFileKind};

/// What a generated key begins with.
const PREFIX: &str = "odk1_";
/// The salt of HKDF-Extract (RFC 5869 §3.1); its number is the version of the derivation.
const EXTRACT_SALT: &[u8] = b"onduty-psk/1";
/// The salt of Argon2id: the same for everybody, because both nodes must derive the same key from the passphrase
/// alone. So a passphrase has no protection by salt; that is why `odk1_` keys are the recommended form.
const PASSPHRASE_SALT: &[u8; 16] = b"onduty-passphr/1";
/// RFC 9106 §4, the second recommended choice: 64 MiB, 3 passes, 4 lanes. About a third of a second, once per start.
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 4;
/// Shorter passphrases are refused, in bytes.
const MIN_BYTES: usize = 16;
/// Longer texts are not keys but the wrong file, in bytes.
const MAX_BYTES: usize = 1024;

/// The setting or file a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The setting `redundancy.key`.
    Setting,
    /// The file that `redundancy.key_file` names.
    File(PathBuf),
    /// The file that `redundancy.previous_key_file` names.
    PreviousFile(PathBuf),
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("the key in `redundancy.key`"),
            Self::File(path) => write!(f, "the key file `{}` (`redundancy.key_file`)", path.display()),
            Self::PreviousFile(path) => {
                write!(f, "the key file `{}` (`redundancy.previous_key_file`)", path.display())
            }
        }
    }
}

/// Which rule a key breaks.
#[derive(Debug, Error)]
pub enum KeyProblem {
    /// Neither `key` nor `key_file` is set.
    #[error(
        "is not set: give `redundancy.key_file` or `redundancy.key`, or make a key with `onduty key generate`"
    )]
    Missing,
    /// Both `key` and `key_file` are set.
    #[error("is set, and so is `redundancy.key_file`: only one of the two may be")]
    TwoSources,
    /// Nothing in it.
    #[error("is empty: an empty key is invalid")]
    Empty,
    /// A passphrase that is too short to keep a secret.
    #[error("has {bytes} bytes: at least {MIN_BYTES} are required")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// Not a key but the wrong file.
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Text with line ends inside.
    #[error("has more than one line, or control characters inside")]
    SeveralLines,
    /// Bytes that are no text.
    #[error("is not UTF-8 text")]
    NotText,
    /// It begins as a generated key and does not go on as one.
    #[error("begins with `{PREFIX}`, but what follows is not base64url of 32 bytes: it was cut or changed")]
    Malformed,
    /// The file cannot be used.
    #[error("{0}")]
    File(SecretFileError),
    /// Argon2id did not run.
    #[error("could not be derived from the passphrase: {0}")]
    Derivation(argon2::Error),
}

/// A key that is not used, and why.
#[derive(Debug)]
pub struct KeyError {
    /// Where it came from.
    pub origin: KeyOrigin,
    /// What is wrong with it.
    pub problem: KeyProblem,
}

impl KeyError {
    /// The machine code of the problem.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match &self.problem {
            KeyProblem::Missing => "key.missing",
            KeyProblem::TwoSources => "key.two_sources",
            KeyProblem::Empty => "key.empty",
            KeyProblem::TooShort { .. } => "key.too_short",
            KeyProblem::TooLong => "key.too_long",
            KeyProblem::SeveralLines => "key.several_lines",
            KeyProblem::NotText => "key.not_utf8",
            KeyProblem::Malformed => "key.malformed",
            KeyProblem::Derivation(_) => "key.derivation",
            KeyProblem::File(file) => match file.kind() {
                SecretFileKind::Permissions => "key.permissions",
                SecretFileKind::Unreadable => "key.unreadable",
                SecretFileKind::NotAFile => "key.not_a_file",
                SecretFileKind::TooLarge => "key.too_long",
            },
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.origin, self.problem)
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            KeyProblem::File(file) => std::error::Error::source(file),
            KeyProblem::Missing
            | KeyProblem::TwoSources
            | KeyProblem::Empty
            | KeyProblem::TooShort { .. }
            | KeyProblem::TooLong
            | KeyProblem::SeveralLines
            | KeyProblem::NotText
            | KeyProblem::Malformed
            | KeyProblem::Derivation(_) => None,
        }
    }
}

/// Which of the accepted keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// `redundancy.key` or `redundancy.key_file`.
    Current,
    /// `redundancy.previous_key_file`, during a rotation.
    Previous,
}

/// What is kept of one pre-shared key: the three keys derived from it. Zeroized when dropped.
pub struct PairKey {
    pub(crate) client: Zeroizing<[u8; 32]>,
    pub(crate) server: Zeroizing<[u8; 32]>,
    pub(crate) check: Zeroizing<[u8; 32]>,
    generated: bool,
}

impl PairKey {
    /// A new strong key as text: `odk1_` and base64url of 32 random bytes.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> io::Result<Zeroizing<String>> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 44));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_ref(), &mut text);
        Ok(text)
    }

    /// Reads a key from text. White space at both ends is not part of it.
    ///
    /// A passphrase takes a third of a second and 64 MiB: never call this on an async thread.
    ///
    /// # Errors
    /// When the text is empty, too short, too long, of several lines, or a damaged `odk1_` key.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyProblem::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(KeyProblem::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(KeyProblem::SeveralLines);
        }
        let mut secret = Zeroizing::new([0_u8; 32]);
        if let Some(encoded) = text.strip_prefix(PREFIX) {
            decode(encoded, &mut secret)?;
            return Ok(Self::derive(&secret, true));
        }
        if text.len() < MIN_BYTES {
            return Err(KeyProblem::TooShort { bytes: text.len() });
        }
        stretch(text, &mut secret)?;
        Ok(Self::derive(&secret, false))
    }

    /// Whether it is a generated key: a passphrase can be guessed by whoever gets a proof made with it, and is
    /// therefore refused together with trust `all`.
    #[must_use]
    pub const fn is_generated(&self) -> bool {
        self.generated
    }

    /// RFC 5869: PRK = HKDF-Extract(salt, key), then one HKDF-Expand for each use.
    fn derive(secret: &[u8; 32], generated: bool) -> Self {
        let prk = Hkdf::<Sha256>::new(Some(EXTRACT_SALT), secret);
        let expand = |info: &[u8]| {
            let mut key = Zeroizing::new([0_u8; 32]);
            // 32 bytes is one block; HKDF fails above 255 blocks only.
            let done = prk.expand(info, key.as_mut());
            debug_assert!(done.is_ok());
            key
        };
        Self {
            client: expand(b"client proof"),
            server: expand(b"server proof"),
            check: expand(b"key check without channel"),
            generated,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.check.ct_eq(other.check.as_ref()).into()
    }
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairKey").field("generated", &self.generated).finish_non_exhaustive()
    }
}

/// Where the settings say that the keys are.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeySources<'a> {
    /// `redundancy.key`.
    pub key: Option<&'a SecretString>,
    /// `redundancy.key_file`.
    pub key_file: Option<&'a Path>,
    /// `redundancy.previous_key_file`.
    pub previous_key_file: Option<&'a Path>,
}

/// The keys this node accepts: one, or two during a rotation.
#[derive(Debug)]
pub struct PairKeys {
    /// The key in use.
    pub current: PairKey,
    /// The key before it, while a rotation lasts.
    pub previous: Option<PairKey>,
}

impl PairKeys {
    /// Loads what the settings name. May take a second (passphrases): never call this on an async thread.
    ///
    /// A previous key that equals the current one is left out: there is no rotation then.
    ///
    /// # Errors
    /// When a key is missing, named twice, unreadable, open to others, or not a key.
    pub fn load(sources: KeySources<'_>) -> Result<Self, KeyError> {
        let current = match (sources.key, sources.key_file) {
            (Some(_), Some(_)) => {
                Err(KeyError { origin: KeyOrigin::Setting, problem: KeyProblem::TwoSources })
            }
            (None, None) => Err(KeyError { origin: KeyOrigin::Setting, problem: KeyProblem::Missing }),
            (Some(text), None) => PairKey::parse(text.expose_secret())
                .map_err(|problem| KeyError { origin: KeyOrigin::Setting, problem }),
            (None, Some(path)) => {
                load_file(path).map_err(|problem| KeyError { origin: KeyOrigin::File(path.into()), problem })
            }
        }?;
        let previous = sources
            .previous_key_file
            .map(|path| {
                load_file(path)
                    .map_err(|problem| KeyError { origin: KeyOrigin::PreviousFile(path.into()), problem })
            })
            .transpose()?
            .filter(|previous| !previous.is_same(&current));
        Ok(Self { current, previous })
    }

    /// How many keys are accepted, and so offered: 1 or 2.
    #[must_use]
    pub const fn count(&self) -> usize {
        if self.previous.is_some() { 2 } else { 1 }
    }

    /// Whether every key is a generated one.
    #[must_use]
    pub fn are_generated(&self) -> bool {
        self.newest_first().all(|(_, key)| key.is_generated())
    }

    /// The key in a slot.
    #[must_use]
    pub const fn get(&self, slot: KeySlot) -> Option<&PairKey> {
        match slot {
            KeySlot::Current => Some(&self.current),
            KeySlot::Previous => self.previous.as_ref(),
        }
    }

    /// The accepted keys, in the order in which they are offered.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (KeySlot, &PairKey)> {
        let previous = self.previous.iter().map(|key| (KeySlot::Previous, key));
        core::iter::once((KeySlot::Current, &self.current)).chain(previous)
    }
}

/// Writes a key to a new file that only its owner may read (0600), and flushes file and folder to the disk.
///
/// # Errors
/// When the file exists already (a key is never overwritten) or cannot be written.
pub fn write_key_file(path: &Path, key: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let written = file
        .write_all(key.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Half a key is worse than none; the first error is the one to report.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn load_file(path: &Path) -> Result<PairKey, KeyProblem> {
    // Room for white space around the longest key.
    let bytes = secret_file::read(path, MAX_BYTES + 64).map_err(KeyProblem::File)?;
    let text = core::str::from_utf8(&bytes).map_err(|_| KeyProblem::NotText)?;
    PairKey::parse(text)
}

fn decode(encoded: &str, secret: &mut [u8; 32]) -> Result<(), KeyProblem> {
    // Room for more than a key, so that a text which is too long is told from one that fits. What does not fit fails too.
    let mut room = Zeroizing::new([0_u8; 48]);
    let length = URL_SAFE_NO_PAD.decode_slice(encoded, room.as_mut()).map_err(|_| KeyProblem::Malformed)?;
    let bytes = room.get(..length).and_then(|bytes| <&[u8; 32]>::try_from(bytes).ok());
    secret.copy_from_slice(bytes.ok_or(KeyProblem::Malformed)?);
    Ok(())
}

fn stretch(passphrase: &str, secret: &mut [u8; 32]) -> Result<(), KeyProblem> {
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(secret.len()))
        .map_err(KeyProblem::Derivation)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), PASSPHRASE_SALT, secret)
        .map_err(KeyProblem::Derivation)
}
