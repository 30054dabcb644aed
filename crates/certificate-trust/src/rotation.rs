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
//! other node has the key that stays. The running session says so ([`crate::KeyState::droppable`]); it is not for this module. One step
//! at a time: whoever takes one holds a lock on the folder ([`KeyFiles::begin`]), from before it looks until it is done.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyFingerprint, KeyOrigin, KeyProblem, KeySlot, PairKey};
use crate::key_files::{KeyFiles, is_not_there, load_file, read_text};

/// Nobody but owner and group, whatever the key file beside allows.
const MOST_MODE: u32 = 0o660;
/// A new file of one's own.
const PRIVATE: u32 = 0o600;
/// Between two looks whether another step is over.
const LOOK: Duration = Duration::from_millis(20);
/// How often: twenty seconds. A step takes some milliseconds, or as long as its node may take to follow the files.
const LOOKS: usize = 1000;

/// Why a step was not done.
#[derive(Debug, Error)]
pub enum RotationError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key beside it cannot be used.
    #[error("a file beside the key is in the way: mend it, or delete it (`{}`) when no node needs its key", path.display())]
    Beside {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
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

/// What lies in a file beside the key.
enum Beside {
    Nothing,
    Key(PairKey),
    /// No key, nor will it be one by itself.
    Useless(KeyError),
}

impl Beside {
    fn key(self, path: PathBuf) -> Result<Option<PairKey>, RotationError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Key(key) => Ok(Some(key)),
            Self::Useless(source) => Err(RotationError::Beside { path, source }),
        }
    }

    fn is_other_than(&self, current: &PairKey) -> bool {
        matches!(self, Self::Key(key) if !key.is_same(current))
    }
}

/// A step that nobody else takes meanwhile.
#[derive(Debug)]
pub struct Step<'a> {
    files: &'a KeyFiles,
    /// Of the folder, with the lock.
    _folder: File,
}

impl KeyFiles {
    /// Waits until no other step is under way, and keeps others away as long as what it gives lives. What was read before counts for
    /// nothing.
    ///
    /// # Errors
    /// When another one lasts for too long, or the folder cannot be opened.
    pub fn begin(&self) -> Result<Step<'_>, RotationError> {
        let folder = lock_folder(self.key()).map_err(|source| {
            if source.kind() != io::ErrorKind::WouldBlock {
                return RotationError::File { path: self.key().into(), source };
            }
            RotationError::NotNow(format!(
                "another step is under way beside {}, or something else has locked that folder",
                self.key().display()
            ))
        })?;
        Ok(Step { files: self, _folder: folder })
    }

    /// [`Step::prepare`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&self, given: Option<&str>) -> Result<Standing, RotationError> {
        self.begin()?.prepare(given)
    }

    /// [`Step::use_next`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn use_next(&self) -> Result<Standing, RotationError> {
        self.begin()?.use_next()
    }

    /// [`Step::finish`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn finish(&self) -> Result<Standing, RotationError> {
        self.begin()?.finish()
    }

    /// [`Step::abort`] alone.
    ///
    /// # Errors
    /// As there.
    pub fn abort(&self) -> Result<Standing, RotationError> {
        self.begin()?.abort()
    }
}

impl Step<'_> {
    /// Makes the next key, or takes this one that was made on the other node. It is accepted from then on, and offered second.
    ///
    /// # Errors
    /// When a rotation is under way with other keys, or a file cannot be used or written.
    pub fn prepare(&self, given: Option<&str>) -> Result<Standing, RotationError> {
        let keys = self.files.keys()?;
        if let Some(previous) = &keys.previous {
            return Err(self.files.not_over(previous));
        }
        let next = self.files.next();
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
        self.files.remove(&next)?;
        self.files.write(&next, &text)?;
        let next = Some(load_file(origin())?);
        Ok(Keys { next, ..keys }.standing(true))
    }

    /// Offers the next key first, and keeps the one before beside it.
    ///
    /// # Errors
    /// When none is prepared, or a file cannot be used or written.
    pub fn use_next(&self) -> Result<Standing, RotationError> {
        let keys = self.files.keys()?;
        match (&keys.next, &keys.previous) {
            (Some(_), Some(previous)) => Err(self.files.not_over(previous)),
            (None, Some(_)) => {
                // What an interruption may have left.
                self.files.remove(&self.files.next())?;
                Ok(keys.standing(false))
            }
            (None, None) => Err(RotationError::NotNow(format!(
                "there is no next key in {}: `onduty key rotate prepare` makes it, or takes it from the other node",
                self.files.next().display()
            ))),
            (Some(_), None) => {
                let (current, next) =
                    (self.files.text(self.files.key())?, self.files.text(&self.files.next())?);
                self.files.write(&self.files.previous(), &current)?;
                self.files.write(self.files.key(), &next)?;
                self.files.remove(&self.files.next())?;
                Ok(self.files.keys()?.standing(true))
            }
        }
    }

    /// Drops the key before, and removes what is of no use: files that are no keys, and what interrupted steps have left. Whoever asks for
    /// it knows that the other node has the one in use.
    ///
    /// # Errors
    /// When the next key is not used yet, or a file cannot be read or removed.
    pub fn finish(&self) -> Result<Standing, RotationError> {
        let files = self.files;
        let current = files.current()?;
        let next = files.look_at(KeyOrigin::NextFile(files.next()))?;
        let previous = files.look_at(KeyOrigin::OldFile(files.previous()))?;
        let is_prepared = next.is_other_than(&current);
        let is_useless = matches!(previous, Beside::Useless(_));
        if let Beside::Key(next) = &next
            && is_prepared
            && !is_useless
            && !previous.is_other_than(&current)
        {
            return Err(RotationError::NotNow(format!(
                "the next key {} is prepared, but not used yet: `onduty key rotate use` comes before",
                next.fingerprint()
            )));
        }
        let mut changed = files.previous().exists();
        files.remove(&files.previous())?;
        if !is_prepared {
            changed |= files.next().exists();
            files.remove(&files.next())?;
        }
        files.tidy_up()?;
        let next = next.key(files.next()).ok().flatten().filter(|_| is_prepared);
        Ok(Keys { current, next, previous: None }.standing(changed))
    }

    /// Goes back to the key of before the rotation, and drops the new one. Whoever asks for it knows that the other node has the
    /// one of before.
    ///
    /// # Errors
    /// When a file cannot be used, written or removed.
    pub fn abort(&self) -> Result<Standing, RotationError> {
        let files = self.files;
        let there = files.previous().exists() || files.next().exists();
        if self.back()?.1.is_some() {
            let text = files.text(&files.previous())?;
            files.write(files.key(), &text)?;
        }
        files.remove(&files.next())?;
        files.remove(&files.previous())?;
        files.tidy_up()?;
        Ok(files.keys()?.standing(there))
    }

    /// Takes away the next key that [`Step::prepare`] has just put there, unless it is another one by now.
    ///
    /// # Errors
    /// When a file cannot be used or removed.
    pub fn take_back(&self, prepared: KeyFingerprint) -> Result<(), RotationError> {
        let keys = self.files.keys()?;
        let is_it = keys.previous.is_none() && keys.next.is_some_and(|next| next.fingerprint() == prepared);
        if is_it { self.files.remove(&self.files.next()) } else { Ok(()) }
    }

    /// The key in use, and the one that [`Step::abort`] would go back to, when it is another one; whatever the next one is.
    ///
    /// # Errors
    /// When one of the two cannot be used.
    pub fn back(&self) -> Result<(KeyFingerprint, Option<KeyFingerprint>), RotationError> {
        let current = self.files.current()?;
        let previous =
            self.files.look_at(KeyOrigin::OldFile(self.files.previous()))?.key(self.files.previous())?;
        let previous = previous.filter(|previous| !previous.is_same(&current));
        Ok((current.fingerprint(), previous.map(|previous| previous.fingerprint())))
    }

    /// How the keys stand.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn standing(&self) -> Result<Standing, RotationError> {
        Ok(self.files.keys()?.standing(false))
    }

    /// The key in use.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn current(&self) -> Result<KeyFingerprint, RotationError> {
        Ok(self.files.current()?.fingerprint())
    }
}

impl KeyFiles {
    fn current(&self) -> Result<PairKey, RotationError> {
        Ok(load_file(KeyOrigin::File(self.key().into()))?)
    }

    fn keys(&self) -> Result<Keys, RotationError> {
        let current = self.current()?;
        let other = |key: &PairKey| !key.is_same(&current);
        let next = self.look_at(KeyOrigin::NextFile(self.next()))?.key(self.next())?.filter(other);
        let previous = self.look_at(KeyOrigin::OldFile(self.previous()))?.key(self.previous())?.filter(other);
        Ok(Keys { current, next, previous })
    }

    fn look_at(&self, origin: KeyOrigin) -> Result<Beside, RotationError> {
        match load_file(origin) {
            Ok(key) => Ok(Beside::Key(key)),
            Err(error) if is_not_there(&error) => Ok(Beside::Nothing),
            // What it is cannot be told.
            Err(error) if error.problem.may_pass() => Err(error.into()),
            Err(error) => Ok(Beside::Useless(error)),
        }
    }

    /// Removes what interrupted steps may have left.
    fn tidy_up(&self) -> Result<(), RotationError> {
        for path in [self.key().to_owned(), self.next(), self.previous()] {
            if let Some(temporary) = temporary_of(&path) {
                self.remove(&temporary)?;
            }
        }
        Ok(())
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
    let _folder = lock_folder(path)?;
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

/// The name is always the same, so that a power cut leaves one file at most, and the next writing replaces it. Whoever writes has the
/// lock of the folder: without it two writers would take each other's half of a file for theirs.
fn write_temporary(
    path: &Path,
    text: &str,
    adjust: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<Temporary> {
    let beside = temporary_of(path).ok_or(io::ErrorKind::InvalidInput)?;
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

fn temporary_of(path: &Path) -> Option<PathBuf> {
    let mut beside = OsString::from(".");
    beside.push(path.file_name()?);
    beside.push(".onduty");
    Some(path.with_file_name(beside))
}

/// Waits for the lock of the folder that a file is in; it lasts as long as what this gives, or the process.
#[expect(clippy::disallowed_methods, reason = "the kernel's own waiting for a lock has no deadline")]
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = open_folder(path)?;
    for _ in 0..LOOKS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            // Or a file system that cannot.
            Ok(()) | Err(Errno::BADF | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK) => {
                return Ok(folder);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOOK),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    open_folder(path)?.sync_all()
}

fn open_folder(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))
}
