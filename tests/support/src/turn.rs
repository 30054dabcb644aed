//! Whose turn it is on the machine: tests that measure times take it alone, others run beside each other.
//!
//! A lock file, not a mutex, because some test runners give every test its own process. The kernel releases it when the
//! process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

/// Holds the turn; dropping it passes the turn on.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "held for its lock, which ends when the file is closed")] File);

/// Waits for the machine to be free of other tests of real nodes.
///
/// # Panics
///
/// When the lock file cannot be made.
#[must_use]
pub fn alone() -> Turn {
    let file = lock_file();
    file.lock().expect("lock the turn of this test");
    Turn(file)
}

/// Waits until no test has the machine alone.
///
/// # Panics
///
/// When the lock file cannot be made.
#[must_use]
pub fn beside_others() -> Turn {
    let file = lock_file();
    file.lock_shared().expect("lock the turn of this test");
    Turn(file)
}

fn lock_file() -> File {
    let path = folder().join("onduty-tests.lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    open.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// Beside the test programs, so that two checkouts do not wait for each other.
fn folder() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.as_deref().and_then(|path| path.parent()).map_or_else(std::env::temp_dir, PathBuf::from)
}
