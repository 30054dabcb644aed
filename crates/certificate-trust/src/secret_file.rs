//! Reading a file that only this process may know: the pair's key and the node's private key.
//!
//! The rule is made so that a Kubernetes Secret with `fsGroup` (root-owned, 0440), systemd credentials and
//! `/run/secrets` work, and a file left open to everybody does not: *others* may have no read or write permission,
//! and when the group has any, it must be one of the process's groups. Symbolic links are followed, because that is
//! how Kubernetes mounts Secrets; the rule is applied to the file that was opened, so that it cannot be exchanged
//! between the look and the reading.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// Read and write permission of everybody else.
const OTHERS: u32 = 0o006;
/// Read and write permission of the group.
const GROUP: u32 = 0o060;

/// Why a secret file is not used.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It could not be opened.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// It could not be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// A folder, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Everybody on the machine may read or change it.
    #[error(
        "is open to every user of this machine (mode {mode:04o}): run `chmod 0600` on it and use a new key"
    )]
    OthersMayAccess {
        /// The permission bits.
        mode: u32,
    },
    /// A group that this process is not in may read or change it.
    #[error(
        "is open to group {group} (mode {mode:04o}), and this process is not in that group: run `chmod 0600` or `chgrp` on it"
    )]
    ForeignGroup {
        /// The permission bits.
        mode: u32,
        /// The file's group.
        group: u32,
    },
    /// It is larger than such a file can be.
    #[error("is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl SecretFileError {
    /// The last part of a machine code: `permissions`, `unreadable`, `not_a_file` or `too_long`.
    pub(crate) const fn kind(&self) -> SecretFileKind {
        match self {
            Self::Open(_) | Self::Read(_) => SecretFileKind::Unreadable,
            Self::NotAFile => SecretFileKind::NotAFile,
            Self::OthersMayAccess { .. } | Self::ForeignGroup { .. } => SecretFileKind::Permissions,
            Self::TooLarge { .. } => SecretFileKind::TooLarge,
        }
    }
}

/// What an operator has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretFileKind {
    Unreadable,
    NotAFile,
    Permissions,
    TooLarge,
}

/// Reads at most `limit` bytes of a secret file that keeps to the rule.
///
/// # Errors
/// When it cannot be read, is open to others, or is larger than `limit`.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = open(path).map_err(SecretFileError::Open)?;
    let about = file.metadata().map_err(SecretFileError::Open)?;
    if !about.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    judge(about.mode(), about.gid(), &process_groups())?;
    read_bounded(file, limit)
}

/// At most `limit` bytes of whatever it is.
pub(crate) fn read_bounded(source: impl Read, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    // Room for one byte too many and for the probing of `read_to_end`, so that the buffer never moves and leaves
    // a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(allowed).read_to_end(&mut bytes).map_err(SecretFileError::Read)?;
    if bytes.len() > limit { Err(SecretFileError::TooLarge { limit }) } else { Ok(bytes) }
}

/// Without blocking, so that a pipe put in the place of the file cannot hold the start for ever.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn process_groups() -> Vec<u32> {
    let supplementary = rustix::process::getgroups().unwrap_or_default();
    let effective = rustix::process::getegid();
    supplementary.into_iter().chain([effective]).map(rustix::process::Gid::as_raw).collect()
}

fn judge(mode: u32, group: u32, own_groups: &[u32]) -> Result<(), SecretFileError> {
    let mode = mode & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SecretFileError::OthersMayAccess { mode });
    }
    if mode & GROUP != 0 && !own_groups.contains(&group) {
        return Err(SecretFileError::ForeignGroup { mode, group });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_neither_read_nor_write() {
        for mode in [0o604, 0o602, 0o606, 0o644, 0o666, 0o100_604] {
            let verdict = judge(mode, 7, &[7]);
            assert!(matches!(verdict, Err(SecretFileError::OthersMayAccess { .. })), "{mode:o}: {verdict:?}");
        }
    }

    #[test]
    fn a_group_with_access_must_be_ours() {
        for mode in [0o640, 0o620, 0o660, 0o440, 0o040] {
            let verdict = judge(mode, 7, &[1, 2]);
            assert!(
                matches!(verdict, Err(SecretFileError::ForeignGroup { group: 7, .. })),
                "{mode:o}: {verdict:?}"
            );
            assert!(judge(mode, 7, &[1, 7]).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_the_owner_alone_passes_whatever_its_group() {
        for mode in [0o600, 0o400, 0o700, 0o711, 0o100_600] {
            assert!(judge(mode, 7, &[]).is_ok(), "{mode:o}");
        }
    }
}
