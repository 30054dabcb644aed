//! The keys that a node accepts, and the files they come from: one, or two while they are exchanged.
//!
//! ```text
//!   pair.key              redundancy.key_file: offered first, always there
//!   pair.key.next         the key that follows: accepted, offered second      ─┬─ one of the two at a time,
//!   pair.key.previous     the key before: accepted, offered second            ─┘  or redundancy.previous_key_file
//! ```
//!
//! The two beside it are found by their names, so that a rotation changes no settings (docs/adr/0022). What is wrong with
//! them keeps no node from starting: they are left out, and that is said. How people change the files is in [`crate::rotation`], how a
//! running node follows them in [`crate::key_store`].

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyFingerprint, KeyOrigin, KeyProblem, KeySlot, MAX_BYTES, PairKey};
use crate::secret_file::{self, SecretFileError};

/// Room for white space around the longest key.
const MAX_FILE: usize = MAX_BYTES + 64;

/// The key file, and the names of those beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    key: PathBuf,
}

impl KeyFiles {
    /// Of this key file.
    #[must_use]
    pub fn of(key: &Path) -> Self {
        Self { key: key.to_owned() }
    }

    /// The key in use.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The one that follows.
    #[must_use]
    pub fn next(&self) -> PathBuf {
        self.beside(".next")
    }

    /// The one before.
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.beside(".previous")
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = OsString::from(&self.key);
        name.push(end);
        name.into()
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
    /// The key in use: offered first.
    pub current: PairKey,
    /// The other key, while a rotation lasts: the one before or, by its origin, the one that follows.
    pub previous: Option<PairKey>,
}

impl PairKeys {
    /// Loads what the settings name, and what lies beside. May take a second (passphrases): never call this on an async thread.
    ///
    /// A second key that equals the current one is left out: there is no rotation then.
    ///
    /// # Errors
    /// When the key that the settings name is missing, or one of them named twice, unreadable, open to others, or not a key. A previous
    /// key that is named and not there is none.
    pub fn load(sources: KeySources<'_>) -> Result<Self, KeyError> {
        Self::load_all(sources).map(|(keys, _left_out)| keys)
    }

    /// The same, with what is wrong with the files beside the key file, and that the previous one that is named is not there; they are
    /// left out.
    ///
    /// # Errors
    /// As [`PairKeys::load`].
    pub fn load_all(sources: KeySources<'_>) -> Result<(Self, Vec<KeyError>), KeyError> {
        let current = match (sources.key, sources.key_file) {
            (Some(_), Some(_)) => Err(wrong(KeyOrigin::Setting, KeyProblem::TwoSources)),
            (None, None) => Err(wrong(KeyOrigin::Setting, KeyProblem::Missing)),
            (Some(text), None) => {
                PairKey::parse(text.expose_secret()).map_err(|problem| wrong(KeyOrigin::Setting, problem))
            }
            (None, Some(path)) => load_file(KeyOrigin::File(path.into())),
        }?;
        let mut left_out = Vec::new();
        let named = sources.previous_key_file.map(|path| load_file(KeyOrigin::PreviousFile(path.into())));
        // Removing the file is how the key before is dropped, also for those who do it before they change the settings.
        let named = match named {
            Some(Err(error)) if is_not_there(&error) => {
                left_out.push(error);
                None
            }
            read => read.transpose()?,
        };
        let mut beside = |origin| match load_file(origin) {
            Err(error) if is_not_there(&error) => None,
            Err(error) => {
                left_out.push(error);
                None
            }
            Ok(key) => Some(key),
        };
        let files = sources.key_file.map(KeyFiles::of);
        let kept = match named {
            Some(key) => Some(key),
            None => files.as_ref().and_then(|files| beside(KeyOrigin::OldFile(files.previous()))),
        };
        let next = files.as_ref().and_then(|files| beside(KeyOrigin::NextFile(files.next())));
        let other = |key: &PairKey| !key.is_same(&current);
        let (kept, next) = (kept.filter(other), next.filter(other));
        let previous = match (kept, next) {
            (Some(kept), Some(next)) => {
                if !next.is_same(&kept) {
                    let why = KeyProblem::OneTooMany(kept.origin().to_string());
                    left_out.push(wrong(next.origin().clone(), why));
                }
                Some(kept)
            }
            (kept, next) => kept.or(next),
        };
        Ok((Self { current, previous }, left_out))
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
    pub fn get(&self, slot: KeySlot) -> Option<&PairKey> {
        self.newest_first().find(|(of, _)| *of == slot).map(|(_, key)| key)
    }

    /// Whether the key of this fingerprint is one of them.
    #[must_use]
    pub fn accepts(&self, fingerprint: KeyFingerprint) -> bool {
        self.newest_first().any(|(_, key)| key.fingerprint() == fingerprint)
    }

    /// The accepted keys, in the order in which they are offered.
    pub fn newest_first(&self) -> impl Iterator<Item = (KeySlot, &PairKey)> {
        let slot = |key: &PairKey| match key.origin() {
            KeyOrigin::NextFile(_) => KeySlot::Next,
            KeyOrigin::Setting
            | KeyOrigin::Given
            | KeyOrigin::GivenFile(_)
            | KeyOrigin::File(_)
            | KeyOrigin::PreviousFile(_)
            | KeyOrigin::OldFile(_) => KeySlot::Previous,
        };
        let other = self.previous.iter().map(move |key| (slot(key), key));
        core::iter::once((KeySlot::Current, &self.current)).chain(other)
    }
}

/// Reads a key from a file that keeps to the rule for secret files.
///
/// # Errors
/// When it cannot be read, is open to others, or is no key.
pub(crate) fn load_file(origin: KeyOrigin) -> Result<PairKey, KeyError> {
    let path = origin.file().unwrap_or_else(|| Path::new("")).to_owned();
    let parsed = read_text(&path).and_then(|text| PairKey::parse(&text));
    parsed.map(|key| key.from(origin.clone())).map_err(|problem| wrong(origin, problem))
}

/// The text of a key file.
pub(crate) fn read_text(path: &Path) -> Result<Zeroizing<String>, KeyProblem> {
    let bytes = secret_file::read(path, MAX_FILE).map_err(KeyProblem::File)?;
    text_of(&bytes)
}

/// The text of a key in a file that an operator names; it keeps to the rule of all key files.
///
/// # Errors
/// When it cannot be read, is open to others, is too long, or no text.
pub fn read_key_from_file(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    read_text(path).map_err(|problem| wrong(KeyOrigin::GivenFile(path.into()), problem))
}

/// The text of a key that comes out of something else than a file, at most as long as one.
///
/// # Errors
/// When it cannot be read, is too long, or no text.
pub fn read_key_from(source: impl io::Read) -> Result<Zeroizing<String>, KeyProblem> {
    let read = secret_file::read_bounded(source, MAX_FILE).map_err(KeyProblem::File)?;
    text_of(&read)
}

fn text_of(bytes: &[u8]) -> Result<Zeroizing<String>, KeyProblem> {
    let text = core::str::from_utf8(bytes).map_err(|_| KeyProblem::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub(crate) fn is_not_there(error: &KeyError) -> bool {
    matches!(
        &error.problem,
        KeyProblem::File(SecretFileError::Open(cause)) if cause.kind() == io::ErrorKind::NotFound
    )
}

const fn wrong(origin: KeyOrigin, problem: KeyProblem) -> KeyError {
    KeyError { origin, problem }
}
