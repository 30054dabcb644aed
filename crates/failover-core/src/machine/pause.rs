//! How often something may be said that comes and goes: at once at first, then after a pause that doubles while it goes on.
//! What others cause (a cable that flaps, a stranger who answers with something else each time) does not fill the journal.

use std::time::Duration;

use crate::BootTime;

/// Between two events, at first.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(600);
/// What has not come again for so much longer than it had to begins afresh.
const CALM: Duration = Duration::from_secs(60);

/// When it was said, and for how long that has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pause {
    until: Option<BootTime>,
    length: Duration,
}

impl Pause {
    /// Until when nothing is said about it; `None` when it may be said now.
    pub(super) fn quiet_until(&self, now: BootTime) -> Option<BootTime> {
        self.until.filter(|until| now < *until)
    }

    /// It is said now.
    pub(super) fn said(&mut self, now: BootTime) {
        let calm = self.until.is_none_or(|until| until + CALM <= now);
        self.length = if calm { FIRST } else { (self.length * 2).min(LONGEST) };
        self.until = Some(now + self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_while_it_goes_on_and_calm_ends_that() {
        let mut pause = Pause::default();
        let mut now = BootTime::from_millis(1_000);
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            assert_eq!(pause.quiet_until(now), None);
            pause.said(now);
            let until = now + Duration::from_secs(expected);
            assert_eq!(pause.quiet_until(now), Some(until));
            now = until;
        }
        pause.said(now + CALM);
        assert_eq!(pause.quiet_until(now + CALM), Some(now + CALM + FIRST));
    }
}
