//! Files that are there as a whole or not at all, also after a power cut: written beside, synced, renamed, and the
//! folder synced so that the name is durable too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Only for the owner.
const PRIVATE: u32 = 0o600;

/// Replaces the file at `path` by one with these bytes, readable by its owner only.
///
/// # Errors
///
/// Whatever the operating system says; then the old file is as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, PRIVATE)
}

/// [`write()`] with these permissions, whatever the umask is.
///
/// # Errors
///
/// As [`write()`].
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{:016x}.tmp", u64::from_be_bytes(random)));
    let beside = Beside(folder.join(beside));
    // Private from the first moment; new, so that no link laid in the way is followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&beside.0)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside.0, path)?;
    File::open(folder)?.sync_all()
}

/// Removed again unless it was renamed; then there is nothing left to remove.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        write(&path, b"old and longer").unwrap();
        write_with_mode(&path, b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o644);
        write(&path, b"").unwrap();
        assert_eq!((std::fs::read(&path).unwrap().len(), mode(&path)), (0, 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_state_and_no_rest() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("folder");
        std::fs::create_dir(&in_the_way).unwrap();
        std::fs::write(in_the_way.join("inside"), b"kept").unwrap();
        assert!(write(&in_the_way, b"new").is_err());
        assert_eq!(std::fs::read(in_the_way.join("inside")).unwrap(), b"kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("missing/file"), b"new").is_err());
        assert!(write(Path::new("/"), b"new").is_err());
    }

    #[test]
    fn a_link_in_the_place_is_replaced_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, b"untouched").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"untouched");
        assert_eq!(std::fs::read(&link).unwrap(), b"new");
    }
}
