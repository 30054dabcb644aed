//! Tells when the driver's loop was late: the process, or the whole machine, had stood still.
//!
//! The loop promises to come back at `expected`, at the latest one tick after the last reading. When it comes back much
//! later, everything that waits in its queues is old, and the machine must hear of the gap before it hears of them. A gap
//! that is not seen must be much shorter than the shortest wait `T` after which either node acts: in a longer one the other
//! node could have found this one dead and acted, while this one counted the gap as silence of the other:
//!
//! ```text
//! tick + limit  ≤  T / 2      while the peer answers: its heartbeats are what wakes a node at rest
//! tick + limit  ≤  T / 4      in silence
//! ```
//!
//! but never less than 225 ms. Heartbeats that such a gap has left out are told by their session (ADR 0018).
//!
//! The readings are of `CLOCK_BOOTTIME`, which counts suspend, so that a suspended machine is late as well; a suspend that
//! was too short to make the loop late is seen by the growth of `CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`.

use std::time::Duration;

use failover_core::{Attention, BootTime};

/// The smallest lateness that counts: below it a loaded machine is merely slow.
const SMALLEST_GAP: Duration = Duration::from_millis(200);
/// Growth of the time in suspend that is no error of reading the two clocks one after the other.
const SMALLEST_SUSPEND: Duration = Duration::from_millis(10);
/// The bounds of a tick. The loop has other things to look at from time to time.
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

    /// The last reading.
    pub(crate) const fn last(&self) -> BootTime {
        self.last
    }

    /// Plans the next wait: one tick from the last reading, or until `deadline` if that is earlier. Returns when the wait
    /// ends.
    pub(crate) fn plan(&mut self, deadline: Option<BootTime>, attention: Attention) -> BootTime {
        let eighth = attention.shortest_wait / 8;
        self.limit = eighth.max(SMALLEST_GAP);
        let tick = if attention.answered { eighth * 3 } else { eighth }.clamp(TICKS.0, TICKS.1);
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

    const fn attention(shortest_wait: u64, answered: bool) -> Attention {
        Attention { shortest_wait: Duration::from_millis(shortest_wait), answered }
    }

    const fn at(ms: u64) -> BootTime {
        BootTime::from_millis(ms)
    }

    #[test]
    fn a_slow_loop_is_no_gap_and_a_frozen_one_is() {
        let standard = attention(3000, true);
        let mut watch = StallWatch::new(at(1000));
        assert_eq!(watch.plan(None, standard), at(2125), "the next heartbeat comes first");
        assert_eq!(watch.woke(at(2499), None), None);
        assert_eq!(watch.plan(Some(at(3000)), standard), at(3000));
        assert_eq!(watch.woke(at(3375), None), Some(Duration::from_millis(375)));
    }

    #[test]
    fn in_silence_a_short_gap_is_seen() {
        let mut watch = StallWatch::new(at(0));
        assert_eq!(watch.plan(None, attention(3000, false)), at(375));
        assert_eq!(watch.woke(at(750), None), Some(Duration::from_millis(375)));
    }

    #[test]
    fn no_gap_is_missed_that_is_half_as_long_as_the_shortest_wait() {
        for (shortest, answered) in [(1000, true), (3000, true), (15_000, true), (500, false), (1000, false)]
        {
            let mut watch = StallWatch::new(at(0));
            let expected = watch.plan(None, attention(shortest, answered));
            assert!(expected + watch.limit <= at(shortest / 2 + 75), "{shortest} {answered}");
        }
    }

    #[test]
    fn time_lost_between_two_waits_counts_too() {
        let mut watch = StallWatch::new(at(0));
        // The work after the reading took five seconds: the plan is made from the reading, not from the clock.
        assert_eq!(watch.plan(Some(at(9000)), attention(800, false)), at(100));
        assert!(watch.woke(at(5000), None).is_some());
    }

    #[test]
    fn a_deadline_in_the_past_is_not_taken_for_a_gap() {
        let mut watch = StallWatch::new(at(10_000));
        assert_eq!(watch.plan(Some(at(1)), attention(3000, true)), at(10_000));
        assert_eq!(watch.woke(at(10_001), None), None);
    }

    #[test]
    fn a_suspend_too_short_to_be_late_is_a_gap_all_the_same() {
        let t = attention(3000, false);
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
