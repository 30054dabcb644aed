//! Tells when the driver's loop was late: the process, or the whole machine, had stood still.
//!
//! The loop promises to come back at `expected`, at the latest two ticks after the last reading. When it comes back much later,
//! everything that waits in its queues is old, and the machine must hear of the gap before it hears of them. The
//! readings are of `CLOCK_BOOTTIME`, which counts suspend, so that a suspended machine is late as well; a suspend that
//! was too short to make the loop late is seen by the growth of `CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`.

use std::time::Duration;

use failover_core::BootTime;

/// The smallest lateness that counts: below it a loaded machine is merely slow.
const SMALLEST_GAP: Duration = Duration::from_millis(200);
/// Growth of the time in suspend that is no error of reading the two clocks one after the other.
const SMALLEST_SUSPEND: Duration = Duration::from_millis(10);
/// The bounds of a tick: often enough to see a gap of a quarter of the takeover time, seldom enough to cost nothing.
const TICKS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

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

    /// Plans the next wait: one tick from the last reading, or until `deadline` if that comes before two ticks have
    /// passed (a tick just before it would see nothing that the deadline does not). Returns when the wait ends.
    pub(crate) fn plan(&mut self, deadline: Option<BootTime>, takeover_after: Duration) -> BootTime {
        let tick = (takeover_after / 8).clamp(TICKS.0, TICKS.1);
        self.limit = (tick * 2).max(takeover_after / 4).max(SMALLEST_GAP);
        let near = deadline.filter(|deadline| *deadline <= self.last + tick * 2);
        self.expected = near.unwrap_or(self.last + tick).max(self.last);
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

    const fn at(ms: u64) -> BootTime {
        BootTime::from_millis(ms)
    }

    #[test]
    fn a_slow_loop_is_no_gap_and_a_frozen_one_is() {
        let t = Duration::from_secs(3);
        let mut watch = StallWatch::new(at(1000));
        assert_eq!(watch.plan(None, t), at(1375));
        assert_eq!(watch.woke(at(1900), None), None);
        assert_eq!(watch.plan(Some(at(2000)), t), at(2000));
        assert_eq!(watch.woke(at(2750), None), Some(Duration::from_millis(750)));
    }

    #[test]
    fn time_lost_between_two_waits_counts_too() {
        let mut watch = StallWatch::new(at(0));
        // The work after the reading took five seconds: the plan is made from the reading, not from the clock.
        assert_eq!(
            watch.plan(Some(at(9000)), Duration::from_millis(500)),
            at(62) + Duration::from_micros(500)
        );
        assert!(watch.woke(at(5000), None).is_some());
    }

    #[test]
    fn a_deadline_in_the_past_is_not_taken_for_a_gap() {
        let mut watch = StallWatch::new(at(10_000));
        assert_eq!(watch.plan(Some(at(1)), Duration::from_secs(3)), at(10_000));
        assert_eq!(watch.woke(at(10_001), None), None);
    }

    #[test]
    fn a_suspend_too_short_to_be_late_is_a_gap_all_the_same() {
        let t = Duration::from_secs(3);
        let slept = |ms| Some(Duration::from_millis(ms));
        let mut watch = StallWatch::new(at(0));
        let _ = watch.plan(None, t);
        assert_eq!(watch.woke(at(300), slept(5000)), None, "what was before the start is no gap");
        let _ = watch.plan(None, t);
        assert_eq!(watch.woke(at(600), slept(5100)), slept(100));
        let _ = watch.plan(None, t);
        assert_eq!(watch.woke(at(900), None), None);
        let _ = watch.plan(None, t);
        assert_eq!(
            watch.woke(at(1200), slept(5101)),
            None,
            "the two clocks are not read at the same instant"
        );
    }
}
