//! The productive revision: what was changed at run time, kept in the data directory so that it survives a restart.
//!
//! ```text
//!   built in  <  settings file  <  productive.toml  <  environment  <  command line
//! ```
//!
//! In this version it holds the mode alone, written by `onduty mode`. It is a file of the node's own, which nobody edits: it
//! is written as a whole or not at all, and anything else in it is refused rather than half used.

use std::io;
use std::path::{Path, PathBuf};

use failover_core::Mode;

use crate::atomic_file;

/// Its name in the data directory.
pub const PRODUCTIVE: &str = "productive.toml";

/// The keys that it may give.
pub(super) const KEYS: [&str; 1] = ["redundancy.mode"];

/// What to do about a file that cannot be used.
pub(super) const REMEDY: &str =
    "the file is the node's own (`onduty mode` writes it): remove it, and the settings file counts again";

/// Where it is.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(PRODUCTIVE)
}

/// Keeps the mode over restarts.
///
/// # Errors
///
/// When the data directory cannot be written; then what was kept before still is.
pub fn keep_mode(data_dir: &Path, mode: Mode) -> io::Result<()> {
    atomic_file::write(&path(data_dir), text(mode).as_bytes())
}

/// The file for this mode.
pub(super) fn text(mode: Mode) -> String {
    format!(
        "# Written by `onduty mode`; it wins over the settings file. Remove it to let the settings file count again.\n\
         [redundancy]\nmode = \"{mode}\"\n"
    )
}
