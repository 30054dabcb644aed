//! Files of the PKI folders and keys: bounded reading, and whether one has changed. Those of the folders are written by
//! `service_kit::atomic_file`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a file looks like from outside; None is one that is not there.
pub(crate) type Stamp = (PathBuf, Option<[i64; 7]>);

/// Reads a regular file of at most `limit` bytes. A pipe or a device is an error and never waited for.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(allowed).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Follows links, as the reading does: a link that leads elsewhere now is another file.
pub(crate) fn stamp(path: PathBuf) -> Stamp {
    let about = fs::metadata(&path).ok().map(|about| {
        [
            about.dev().cast_signed(),
            about.ino().cast_signed(),
            about.size().cast_signed(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        ]
    });
    (path, about)
}
