//! Files of the PKI folders: bounded reading, and writing that is whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What half-written files are called until they are renamed; a crash leaves one behind, the next write replaces it.
pub(crate) const TEMPORARY: &str = ".part";

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

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Whole also after a power cut.
    Flushed,
    /// Whole for every reader while the machine runs; for what can be made again.
    Unflushed,
}

/// Writes a file so that a reader sees the old content or the new, never a part.
pub(crate) fn write_atomic(
    folder: &Path,
    name: &str,
    mode: u32,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let flush = |file: &File| if durability == Durability::Flushed { file.sync_all() } else { Ok(()) };
    let temporary = folder.join(format!(".{name}{TEMPORARY}"));
    // One left by a crash may have other permissions: it is replaced, never reused.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| flush(&file)))
        .and_then(|()| fs::rename(&temporary, folder.join(name)))
        .and_then(|()| flush(&File::open(folder)?));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}
