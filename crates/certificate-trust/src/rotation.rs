//! How people exchange the key of the pair: each step is one change of files, and whatever interrupts it leaves a set of
//! keys that a node can start with and the same step can be done again on.
//!
//! ```text
//!                 pair.key   .next   .previous    accepted, in this order
//!   at rest         old                           old
//!   prepare         old       new                 old, new
//!   use             old       new     old         old, new       ── a power cut here ──► `use` again
//!                   new       new     old         new, old       ── or here
//!                   new               old         new, old
//!   finish          new                           new
//! ```
//!
//! Two nodes understand each other as long as they have one key in common. The only two rows that have none are the first and the
//! last; so every step is safe in any order of the nodes, but for the one that drops a key: who asks for it must know that the
//! other node has the key that stays. The running session says so ([`crate::KeyState::droppable`]); it is not for this module.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyFingerprint, KeyOrigin, KeyProblem, KeySlot, PairKey};
use crate::key_files::{KeyFiles, is_not_there, load_file, read_text};

/// Nobody but owner and group, whatever the key file beside allows.
const MOST_MODE: u32 = 0o660;
/// A new file of one's own.
const PRIVATE: u32 = 0o600;

/// Why a step was not done.
#[derive(Debug, Error)]
pub enum RotationError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is not the time for it.
    #[error("{0}")]
    NotNow(String),
    /// The operating system gives no random bytes.
    #[error("making a key")]
    Random(#[source] io::Error),
    /// A file cannot be written.
    #[error("changing {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How the keys stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The key that is offered first.
    pub current: KeyFingerprint,
    /// The other one that is accepted.
    pub other: Option<(KeySlot, KeyFingerprint)>,
    /// Whether the step has changed anything: it may have been done before.
    pub changed: bool,
}

/// The keys in the files; those beside count only when they are others.
struct Keys {
    current: PairKey,
    next: Option<PairKey>,
    previous: Option<PairKey>,
}

impl Keys {
    fn standing(&self, changed: bool) -> Standing {
        let previous = self.previous.as_ref().map(|key| (KeySlot::Previous, key.fingerprint()));
        let next = self.next.as_ref().map(|key| (KeySlot::Next, key.fingerprint()));
        Standing { current: self.current.fingerprint(), other: previous.or(next), changed }
    }
}

impl KeyFiles {
    /// Makes the next key, or takes this one that was made on the other node. It is accepted from then on, and offered second.
    ///
    /// # Errors
    /// When a rotation is under way with other keys, or a file cannot be used or written.
    pub fn prepare(&self, given: Option<&str>) -> Result<Standing, RotationError> {
        let keys = self.keys()?;
        if let Some(previous) = &keys.previous {
            return Err(self.not_over(previous));
        }
        let next = self.next();
        let origin = || KeyOrigin::NextFile(next.clone());
        let parsed = given.map(PairKey::parse).transpose();
        let given_key = parsed.map_err(|problem| KeyError { origin: KeyOrigin::Given, problem })?;
        if given_key.as_ref().is_some_and(|given| given.is_same(&keys.current)) {
            return Err(RotationError::NotNow(format!(
                "the given key {} is the one in use already",
                keys.current.fingerprint()
            )));
        }
        match (&keys.next, &given_key) {
            (Some(prepared), Some(given)) if !prepared.is_same(given) => {
                return Err(RotationError::NotNow(format!(
                    "another next key, {}, is prepared in {}: `onduty key rotate abort` takes it back",
                    prepared.fingerprint(),
                    next.display()
                )));
            }
            (Some(_), _) => return Ok(keys.standing(false)),
            (None, _) => {}
        }
        let text = match given {
            Some(text) => Zeroizing::new(text.trim().to_owned()),
            None => PairKey::generate().map_err(RotationError::Random)?,
        };
        // One that is there and is not another key is of no use.
        self.remove(&next)?;
        self.write(&next, &text)?;
        let next = Some(load_file(origin())?);
        Ok(Keys { next, ..keys }.standing(true))
    }

    /// Offers the next key first, and keeps the one before beside it.
    ///
    /// # Errors
    /// When none is prepared, or a file cannot be used or written.
    pub fn use_next(&self) -> Result<Standing, RotationError> {
        let keys = self.keys()?;
        match (&keys.next, &keys.previous) {
            (Some(_), Some(previous)) => Err(self.not_over(previous)),
            (None, Some(_)) => {
                // What an interruption may have left.
                self.remove(&self.next())?;
                Ok(keys.standing(false))
            }
            (None, None) => Err(RotationError::NotNow(format!(
                "there is no next key in {}: `onduty key rotate prepare` makes it, or takes it from the other node",
                self.next().display()
            ))),
            (Some(_), None) => {
                let (current, next) = (self.text(self.key())?, self.text(&self.next())?);
                self.write(&self.previous(), &current)?;
                self.write(self.key(), &next)?;
                self.remove(&self.next())?;
                Ok(self.keys()?.standing(true))
            }
        }
    }

    /// Drops the key before. Whoever asks for it knows that the other node has the one in use.
    ///
    /// # Errors
    /// When the next key is not used yet, or a file cannot be used or removed.
    pub fn finish(&self) -> Result<Standing, RotationError> {
        let keys = self.keys()?;
        if let (Some(next), None) = (&keys.next, &keys.previous) {
            return Err(RotationError::NotNow(format!(
                "the next key {} is prepared, but not used yet: `onduty key rotate use` comes before",
                next.fingerprint()
            )));
        }
        let there = self.previous().exists();
        self.remove(&self.previous())?;
        Ok(Keys { previous: None, ..keys }.standing(there))
    }

    /// Goes back to the key of before the rotation, and drops the new one. Whoever asks for it knows that the other node has the
    /// one of before.
    ///
    /// # Errors
    /// When a file cannot be used, written or removed.
    pub fn abort(&self) -> Result<Standing, RotationError> {
        let there = self.previous().exists() || self.next().exists();
        let current = load_file(KeyOrigin::File(self.key().into()))?;
        let previous = self.key_beside(KeyOrigin::OldFile(self.previous()))?;
        if previous.as_ref().is_some_and(|previous| !previous.is_same(&current)) {
            let text = self.text(&self.previous())?;
            self.write(self.key(), &text)?;
        }
        self.remove(&self.next())?;
        self.remove(&self.previous())?;
        Ok(self.keys()?.standing(there))
    }

    /// How the keys stand.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn standing(&self) -> Result<Standing, RotationError> {
        Ok(self.keys()?.standing(false))
    }

    fn keys(&self) -> Result<Keys, RotationError> {
        let current = load_file(KeyOrigin::File(self.key().into()))?;
        let other = |key: &PairKey| !key.is_same(&current);
        let next = self.key_beside(KeyOrigin::NextFile(self.next()))?.filter(other);
        let previous = self.key_beside(KeyOrigin::OldFile(self.previous()))?.filter(other);
        Ok(Keys { current, next, previous })
    }

    fn key_beside(&self, origin: KeyOrigin) -> Result<Option<PairKey>, RotationError> {
        match load_file(origin) {
            Ok(key) => Ok(Some(key)),
            Err(error) if is_not_there(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn not_over(&self, previous: &PairKey) -> RotationError {
        RotationError::NotNow(format!(
            "the rotation before is not over: {} still holds the previous key {}; `onduty key rotate finish` drops it",
            self.previous().display(),
            previous.fingerprint()
        ))
    }

    fn text(&self, path: &Path) -> Result<Zeroizing<String>, RotationError> {
        let origin = KeyOrigin::File(path.into());
        read_text(path).map_err(|problem: KeyProblem| KeyError { origin, problem }.into())
    }

    /// Replaces a file as a whole, with the owner, group and mode of the key file.
    fn write(&self, path: &Path, text: &str) -> Result<(), RotationError> {
        let written = fs::metadata(self.key()).and_then(|like| {
            let temporary = write_temporary(path, text.trim(), |file| take_after(file, &like))?;
            fs::rename(&temporary.0, path)?;
            sync_folder(path)
        });
        written.map_err(|source| RotationError::File { path: path.into(), source })
    }

    fn remove(&self, path: &Path) -> Result<(), RotationError> {
        let removed = match fs::remove_file(path) {
            Ok(()) => sync_folder(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| RotationError::File { path: path.into(), source })
    }
}

/// Writes a key to a new file that only its owner may read (0600), as a whole or not at all, also after a power cut.
///
/// # Errors
/// When the file exists already (a key is never overwritten) or cannot be written.
pub fn write_key_file(path: &Path, key: &str) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let temporary = write_temporary(path, key, |_file| Ok(()))?;
    match renameat_with(CWD, &temporary.0, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => sync_folder(path),
        // A file system that cannot.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(&temporary.0, path).and_then(|()| sync_folder(path))
        }
        Err(error) => Err(error.into()),
    }
}

/// A file beside the one that is meant; removed unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The name is always the same, so that a power cut leaves one file at most, and the next writing replaces it.
fn write_temporary(
    path: &Path,
    text: &str,
    adjust: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<Temporary> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".onduty");
    let beside = path.with_file_name(beside);
    let _left = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&beside)?;
    let temporary = Temporary(beside);
    adjust(&file)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(temporary)
}

/// Root may work on the keys of another user, who must be able to read what it makes.
fn take_after(file: &File, like: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & MOST_MODE | 0o400))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
