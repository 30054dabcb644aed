//! `memory.json`: what the machine wants kept over a restart. Losing it is safe, so a file that cannot be understood is
//! kept aside and the node starts without.

use std::io;
use std::path::{Path, PathBuf};

use failover_core::Memory;

/// A larger file is none of ours.
const LARGEST: u64 = 1 << 20;

/// What the file said.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// There is none.
    Missing,
    /// The memory.
    Known(Box<Memory>),
    /// It cannot be understood, and why.
    Corrupt(String),
}

/// Reads the memory.
///
/// # Errors
///
/// When the file is there and cannot be read.
pub(crate) fn load(path: &Path) -> io::Result<Loaded> {
    match std::fs::metadata(path) {
        Ok(about) if about.len() > LARGEST => {
            return Ok(Loaded::Corrupt(format!("{} bytes long", about.len())));
        }
        Ok(_fits) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
        Err(error) => return Err(error),
    }
    let bytes = std::fs::read(path)?;
    Ok(match serde_json::from_slice(&bytes) {
        Ok(memory) => Loaded::Known(Box::new(memory)),
        Err(error) => Loaded::Corrupt(error.to_string()),
    })
}

/// Writes the memory: beside, synchronised, then renamed into place.
///
/// # Errors
///
/// When the folder cannot be written.
pub(crate) fn save(path: &Path, memory: &Memory) -> io::Result<()> {
    service_kit::atomic_file::write(path, &serde_json::to_vec_pretty(memory)?)
}

/// Renames a file that cannot be used to `NAME.corrupt-N`, with the first N that is free, and returns the new name.
///
/// # Errors
///
/// When it cannot be renamed.
pub(crate) fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = (1..10_000_u32)
        .map(|n| path.with_file_name(format!("{name}.corrupt-{n}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "too many files were kept aside"))?;
    std::fs::rename(path, &aside)?;
    Ok(aside)
}
