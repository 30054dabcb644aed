//! The pre-shared key of the pair: where it comes from, which form it has, and what is kept of it.
//!
//! ```text
//!   odk1_ + base64url(32 bytes)  ── as it is ──────┐
//!                                                  ├─► HKDF-Extract("onduty-psk/1") ─► three keys, kept
//!   a typed passphrase ── Argon2id (slow) ─────────┘         the text itself is forgotten
//! ```
//!
//! Which keys a node accepts, and from which files, is in [`crate::key_files`]. The key proves, it is never sent; see [`crate::proof`]. Of the text only three derived keys stay in memory, they are
//! zeroized when dropped, and nothing here prints them.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{SecretFileError, SecretFileKind};

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
pub(crate) const MAX_BYTES: usize = 1024;

/// The setting or file a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The setting `redundancy.key`.
    Setting,
    /// An operator gave it.
    Given,
    /// An operator gave it, in this file.
    GivenFile(PathBuf),
    /// The file that `redundancy.key_file` names.
    File(PathBuf),
    /// The file that `redundancy.previous_key_file` names.
    PreviousFile(PathBuf),
    /// The file beside `redundancy.key_file` that keeps the key before, during a rotation.
    OldFile(PathBuf),
    /// The file beside `redundancy.key_file` that holds the next key, during a rotation.
    NextFile(PathBuf),
}

impl KeyOrigin {
    /// The file; `None`: the key stands in the settings.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Setting | Self::Given => None,
            Self::GivenFile(path)
            | Self::File(path)
            | Self::PreviousFile(path)
            | Self::OldFile(path)
            | Self::NextFile(path) => Some(path),
        }
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("the key in `redundancy.key`"),
            Self::Given => f.write_str("the given key"),
            Self::GivenFile(path) => write!(f, "the given key in `{}`", path.display()),
            Self::File(path) => write!(f, "the key file `{}` (`redundancy.key_file`)", path.display()),
            Self::PreviousFile(path) => {
                write!(f, "the key file `{}` (`redundancy.previous_key_file`)", path.display())
            }
            Self::OldFile(path) => {
                write!(f, "the previous key in `{}` (beside `redundancy.key_file`)", path.display())
            }
            Self::NextFile(path) => {
                write!(f, "the next key in `{}` (beside `redundancy.key_file`)", path.display())
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
    /// Trust `all` and a key that people can think of.
    #[error(
        "is a passphrase, which a false primary could guess: with `redundancy.secondary.trust` \"all\" only generated keys are used"
    )]
    Guessable,
    /// A third key.
    #[error(
        "is not accepted while there is the previous key in `{0}`: end that rotation first (`onduty key rotate finish`)"
    )]
    OneTooMany(String),
    /// Argon2id did not run.
    #[error("could not be derived from the passphrase: {0}")]
    Derivation(argon2::Error),
}

impl KeyProblem {
    /// Whether it may be over without any change of the file: what failed is not what is in it, nor who may read it.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::File(SecretFileError::Open(_) | SecretFileError::Read(_)) | Self::Derivation(_) => true,
            Self::File(
                SecretFileError::NotAFile
                | SecretFileError::OthersMayAccess { .. }
                | SecretFileError::ForeignGroup { .. }
                | SecretFileError::TooLarge { .. },
            )
            | Self::Missing
            | Self::TwoSources
            | Self::Empty
            | Self::TooShort { .. }
            | Self::TooLong
            | Self::SeveralLines
            | Self::NotText
            | Self::Malformed
            | Self::Guessable
            | Self::OneTooMany(_) => false,
        }
    }
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
            KeyProblem::Guessable => "key.guessable",
            KeyProblem::OneTooMany(_) => "key.one_too_many",
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
            | KeyProblem::Guessable
            | KeyProblem::OneTooMany(_)
            | KeyProblem::Derivation(_) => None,
        }
    }
}

/// Which of the accepted keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// `redundancy.key` or `redundancy.key_file`: offered first.
    Current,
    /// The one before, while a rotation ends.
    Previous,
    /// The one that follows, while a rotation begins.
    Next,
}

/// By what people tell keys apart: 8 hexadecimal digits, derived from the key beside the three that prove. Nothing of a generated key can
/// be had from it. Of a passphrase it is made after Argon2id: trying words against it costs as much as against a proof, but needs no
/// node, so it is not for a log; and it is short, so that many words fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint([u8; 4]);

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is kept of one pre-shared key: the three keys derived from it. Zeroized when dropped.
pub struct PairKey {
    pub(crate) client: Zeroizing<[u8; 32]>,
    pub(crate) server: Zeroizing<[u8; 32]>,
    pub(crate) check: Zeroizing<[u8; 32]>,
    fingerprint: KeyFingerprint,
    generated: bool,
    origin: KeyOrigin,
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

    /// The same, said to come from there.
    pub(crate) fn from(self, origin: KeyOrigin) -> Self {
        Self { origin, ..self }
    }

    /// Whether it is a generated key: a passphrase can be guessed by whoever gets a proof made with it, and is
    /// therefore refused together with trust `all`.
    #[must_use]
    pub const fn is_generated(&self) -> bool {
        self.generated
    }

    /// By what people tell it from others.
    #[must_use]
    pub const fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// Where it came from.
    #[must_use]
    pub const fn origin(&self) -> &KeyOrigin {
        &self.origin
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
        let [a, b, c, d, ..] = *expand(b"public fingerprint");
        Self {
            client: expand(b"client proof"),
            server: expand(b"server proof"),
            check: expand(b"key check without channel"),
            fingerprint: KeyFingerprint([a, b, c, d]),
            generated,
            origin: KeyOrigin::Setting,
        }
    }

    /// Whether it is the same key, wherever the two came from.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.check.ct_eq(other.check.as_ref()).into()
    }
}

impl fmt::Debug for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairKey").field("generated", &self.generated).finish_non_exhaustive()
    }
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
