//! Tells when the driver's loop was late: the process, or the whole machine, had stood still.
//!
//! The loop promises to come back at `expected`, at the latest one tick after the last reading. When it comes back much
//! later, everything that waits in its queues is old, and the machine must hear of the gap before it hears of them. A gap
//! that is not seen must not look like silence of the peer, whose last heartbeat may have come an interval before it began:
//!
//! ```text
//! tick + limit  <  T − I
//! ```
//!
//! Within that the tick is as long as it can be: a node at rest is woken by its heartbeats and by nothing else. Heartbeats
//! that such a gap has left out are told by their session (ADR 0018).
//!
//! The readings are of `CLOCK_BOOTTIME`, which counts suspend, so that a suspended machine is late as well; a suspend that
//! was too short to make the loop late is seen by the growth of `CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`.

use std::time::Duration;

use failover_core::{BootTime, TimingsInForce};

/// The smallest lateness that counts: below it a loaded machine is merely slow.
const SMALLEST_GAP: Duration = Duration::from_millis(200);
/// Growth of the time in suspend that is no error of reading the two clocks one after the other.
const SMALLEST_SUSPEND: Duration = Duration::from_millis(10);
/// The bounds of a tick.
const TICKS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(2));

/// The watch over the loop.
#[derive(Debug)]
pub(crate) struct StallWatch {
    last: BootTime,
    expected: BootTime,
    limit: Duration,
    suspended: Option<Duration>,
}

impl StallWatch {
    /// Begins at `now`.
    pub(crate) const fn new(now: BootTime) -> Self {
        Self { last: now, expected: now, limit: SMALLEST_GAP, suspended: None }
    }

    /// Plans the next wait: one tick from the last reading, or until `deadline` if that is earlier. Returns when the wait
    /// ends.
    pub(crate) fn plan(&mut self, deadline: Option<BootTime>, timings: &TimingsInForce) -> BootTime {
        let room = timings.takeover_after.saturating_sub(timings.interval);
        self.limit = (room * 3 / 8).max(SMALLEST_GAP);
        let tick = (room.saturating_sub(self.limit) * 9 / 10).clamp(TICKS.0, TICKS.1);
        let latest = self.last + tick;
        self.expected = deadline.map_or(latest, |deadline| deadline.min(latest)).max(self.last);
        self.expected
    }

    /// Takes the readings after a wait (`suspended`: since the machine was booted, if it could be told); `Some` is a
    /// gap and how long it was.
    pub(crate) fn woke(&mut self, now: BootTime, suspended: Option<Duration>) -> Option<Duration> {
        self.last = now;
        let late_by = now.since(self.expected);
        let slept = match (self.suspended, suspended) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            (None, _) | (_, None) => Duration::ZERO,
        };
        self.suspended = suspended.or(self.suspended);
        (late_by >= self.limit || slept >= SMALLEST_SUSPEND).then_some(late_by.max(slept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn timings(interval: u64, takeover_after: u64) -> TimingsInForce {
        TimingsInForce {
            interval: Duration::from_millis(interval),
            takeover_after: Duration::from_millis(takeover_after),
            guard_deadline: Duration::from_millis(80),
            startup_wait: Duration::ZERO,
        }
    }

    const fn at(ms: u64) -> BootTime {
        BootTime::from_millis(ms)
    }

    #[test]
    fn a_slow_loop_is_no_gap_and_a_frozen_one_is() {
        let standard = timings(1000, 3000);
        let mut watch = StallWatch::new(at(1000));
        assert_eq!(watch.plan(None, &standard), at(2125));
        assert_eq!(watch.woke(at(2800), None), None);
        assert_eq!(watch.plan(Some(at(3000)), &standard), at(3000));
        assert_eq!(watch.woke(at(3750), None), Some(Duration::from_millis(750)));
    }

    #[test]
    fn a_gap_that_is_not_seen_is_never_as_long_as_the_silence_that_counts() {
        for (interval, takeover_after) in [(1000, 3000), (100, 500), (5000, 15_000), (2000, 3000), (50, 3000)]
        {
            let mut watch = StallWatch::new(at(0));
            let expected = watch.plan(None, &timings(interval, takeover_after));
            let unseen = expected.since(at(0)) + watch.limit;
            assert!(
                unseen + Duration::from_millis(interval) < Duration::from_millis(takeover_after),
                "{unseen:?}"
            );
        }
    }

    #[test]
    fn time_lost_between_two_waits_counts_too() {
        let mut watch = StallWatch::new(at(0));
        // The work after the reading took five seconds: the plan is made from the reading, not from the clock.
        assert_eq!(watch.plan(Some(at(9000)), &timings(100, 500)), at(180));
        assert!(watch.woke(at(5000), None).is_some());
    }

    #[test]
    fn a_deadline_in_the_past_is_not_taken_for_a_gap() {
        let mut watch = StallWatch::new(at(10_000));
        assert_eq!(watch.plan(Some(at(1)), &timings(1000, 3000)), at(10_000));
        assert_eq!(watch.woke(at(10_001), None), None);
    }

    #[test]
    fn a_suspend_too_short_to_be_late_is_a_gap_all_the_same() {
        let t = timings(1000, 3000);
        let slept = |ms| Some(Duration::from_millis(ms));
        let mut watch = StallWatch::new(at(0));
        let _ = watch.plan(None, &t);
        assert_eq!(watch.woke(at(300), slept(5000)), None, "what was before the start is no gap");
        let _ = watch.plan(None, &t);
        assert_eq!(watch.woke(at(600), slept(5100)), slept(100));
        let _ = watch.plan(None, &t);
        assert_eq!(watch.woke(at(900), None), None);
        let _ = watch.plan(None, &t);
        assert_eq!(
            watch.woke(at(1200), slept(5101)),
            None,
            "the two clocks are not read at the same instant"
        );
    }
}
