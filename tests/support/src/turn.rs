//! Whose turn it is on the machine: tests that load it take it alone, those that measure times wait for a place, others run
//! beside each other.
//!
//! A lock file, not a mutex, because some test runners give every test its own process. The kernel releases it when the
//! process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use crate::until;

/// Holds the turn; dropping it passes the turn on.
#[derive(Debug)]
#[allow(dead_code, reason = "held for their locks, which end when the files are closed")]
pub struct Turn(File, Option<File>);

/// As long as all the others together may take.
const LONGEST_WAIT: Duration = Duration::from_secs(1800);

/// Waits for the machine to be free of other tests of real nodes.
///
/// # Panics
///
/// When the lock file cannot be made.
#[must_use]
pub fn alone() -> Turn {
    let file = lock_file("turn");
    file.lock().expect("lock the turn of this test");
    Turn(file, None)
}

/// Waits until no test has the machine alone.
///
/// # Panics
///
/// When the lock file cannot be made.
#[must_use]
pub fn beside_others() -> Turn {
    let file = lock_file("turn");
    file.lock_shared().expect("lock the turn of this test");
    Turn(file, None)
}

/// Waits for one of a few places for tests that measure times: a pair of nodes mostly waits, so that each processor has room
/// for one.
///
/// # Panics
///
/// When a lock file cannot be made.
#[must_use]
pub fn timed() -> Turn {
    let places = std::thread::available_parallelism().map_or(1, NonZero::get);
    let place = until("a place on the machine", LONGEST_WAIT, || {
        (0..places).map(|place| lock_file(&format!("place-{place}"))).find(|file| match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => panic!("lock a place for this test: {error}"),
        })
    });
    Turn(beside_others().0, Some(place))
}

fn lock_file(name: &str) -> File {
    let path = folder().join(format!("onduty-tests.{name}.lock"));
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    open.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// Beside the test programs, so that two checkouts do not wait for each other.
fn folder() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.as_deref().and_then(|path| path.parent()).map_or_else(std::env::temp_dir, PathBuf::from)
}
