//! Deadlines, the boot clock, and the one place of all tests that polls.
//!
//! A test never sleeps for a time that somebody guessed: it says what it waits for and how long that may take at most.
//! Where the thing waited for can only be looked at (a file, a status), `until` looks every few milliseconds.

use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How often `until` looks. Short against the shortest promise that is measured (60 ms), long against the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// Now on `CLOCK_BOOTTIME`, in nanoseconds: the clock that the canary's stamps are on.
///
/// # Panics
///
/// When the kernel has no such clock (before Linux 2.6.39).
#[must_use]
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the kernel has CLOCK_BOOTTIME");
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
}

/// The milliseconds from one boot time to a later one; negative when it is earlier.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    reason = "whole days of nanoseconds are exact in an f64 to a microsecond"
)]
pub fn ms_between(from_ns: u64, to_ns: u64) -> f64 {
    (i128::from(to_ns) - i128::from(from_ns)) as f64 / 1e6
}

/// Looks until `probe` finds something, and gives it back.
///
/// # Panics
///
/// When nothing was found within `limit`; the message says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    within(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Looks until `probe` finds something; `None` when it did not within `limit`. Looks at least once.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place of all tests that reads a clock and pauses between looks"
)]
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let late = Instant::now() >= deadline;
        let found = probe();
        if found.is_some() || late {
            return found;
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_at_once_and_what_is_not_is_given_up_in_time() {
        assert_eq!(within(Duration::ZERO, || Some(7)), Some(7));
        let begun = boot_ns();
        assert_eq!(within(Duration::from_millis(30), || None::<u8>), None);
        assert!(ms_between(begun, boot_ns()) >= 30.0);
    }

    #[test]
    fn times_have_a_direction() {
        assert!((ms_between(1_000_000, 3_500_000) - 2.5).abs() < 1e-9);
        assert!((ms_between(3_500_000, 1_000_000) + 2.5).abs() < 1e-9);
    }
}
