//! The clocks of a node, through a handle that simulation replaces.
#![allow(clippy::disallowed_methods, reason = "the one clock of the process")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use failover_core::{BootTime, Now};

use crate::latest::Latest;

/// Where readings come from.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real,
    Simulated {
        origin: tokio::time::Instant,
        boot: BootTime,
        unix: u64,
        drift_ppm: i32,
        still: Option<Latest<bool>>,
    },
}

/// The largest drift that a simulated clock may have: a twentieth, far more than any clock that works.
const LARGEST_DRIFT_PPM: i32 = 50_000;

impl Clock {
    /// `CLOCK_BOOTTIME` and the wall clock of this machine.
    #[must_use]
    pub const fn real() -> Self {
        Self(Source::Real)
    }

    /// Follows tokio's clock, which tests pause and simulations advance. Must be made inside a runtime.
    #[must_use]
    pub fn simulated(boot: BootTime, unix: u64) -> Self {
        Self(Source::Simulated { origin: tokio::time::Instant::now(), boot, unix, drift_ppm: 0, still: None })
    }

    /// The same simulated clock, but too fast by so many millionths (negative: too slow). A real clock stays as it is.
    #[must_use]
    pub fn drifting(mut self, ppm: i32) -> Self {
        if let Source::Simulated { drift_ppm, .. } = &mut self.0 {
            *drift_ppm = ppm.clamp(-LARGEST_DRIFT_PPM, LARGEST_DRIFT_PPM);
        }
        self
    }

    /// The same simulated clock for a process that can stand still: while `still` says so it goes on, but no wait for it ends.
    /// A real clock stays as it is.
    #[must_use]
    pub fn standing_still(mut self, wanted: Latest<bool>) -> Self {
        if let Source::Simulated { still, .. } = &mut self.0 {
            *still = Some(wanted);
        }
        self
    }

    /// Returns at once, unless the process stands still in a simulation: then when it goes on.
    pub(crate) async fn process_runs(&self) {
        if let Source::Simulated { still: Some(still), .. } = &self.0 {
            // Err: the simulation has ended.
            let mut still = still.clone();
            while still.take() && still.changed().await.is_ok() {}
        }
    }

    /// How long tokio's timers have to run for this clock to go on by `span`: the same, but for a simulated drift. Never
    /// nothing for something, or whoever waits for the rest would wait in circles.
    #[must_use]
    pub fn tokio_span(&self, span: Duration) -> Duration {
        match &self.0 {
            Source::Real => span,
            Source::Simulated { drift_ppm, .. } => scaled_up(span, 1_000_000, 1_000_000 + drift_ppm),
        }
    }

    /// Both readings.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { boot: self.boot(), unix: self.unix_millis() / 1000 }
    }

    /// The boot-time clock.
    #[must_use]
    pub fn boot(&self) -> BootTime {
        match &self.0 {
            Source::Real => {
                let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
                let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
                BootTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
            }
            Source::Simulated { origin, boot, drift_ppm, .. } => {
                *boot + scaled(origin.elapsed(), 1_000_000 + drift_ppm, 1_000_000)
            }
        }
    }

    /// How long the machine has been suspended since it was booted: `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`, which only
    /// a suspend makes grow. `None` when the two could not be read closely enough together; zero in a simulation.
    #[must_use]
    pub fn suspended(&self) -> Option<Duration> {
        if !self.is_real() {
            return Some(Duration::ZERO);
        }
        let monotonic = || {
            let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
        };
        let (before, boot, after) = (monotonic(), self.boot(), monotonic());
        let close = after.saturating_sub(before) < Duration::from_millis(1);
        close.then(|| Duration::from_nanos(boot.as_nanos()).saturating_sub(after))
    }

    /// Milliseconds of the Unix clock; only for what people read and for what must outlive a restart.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        let since_epoch = match &self.0 {
            Source::Real => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Source::Simulated { origin, unix, .. } => Duration::from_secs(*unix) + origin.elapsed(),
        };
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether waits may be done with a timer of the kernel (else tokio's).
    #[must_use]
    pub const fn is_real(&self) -> bool {
        matches!(self.0, Source::Real)
    }
}

/// `span · by / over` in whole nanoseconds, rounded down; both factors are positive.
fn scaled(span: Duration, by: i32, over: i32) -> Duration {
    nanoseconds(span.as_nanos() * u128::from(by.unsigned_abs()) / u128::from(over.unsigned_abs().max(1)))
}

/// The same, rounded up.
fn scaled_up(span: Duration, by: i32, over: i32) -> Duration {
    let product = span.as_nanos() * u128::from(by.unsigned_abs());
    nanoseconds(product.div_ceil(u128::from(over.unsigned_abs().max(1))))
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drifting_clock_goes_on_faster_or_slower_and_its_timers_follow() {
        let right = Clock::simulated(BootTime::from_millis(1000), 7);
        let fast = right.clone().drifting(10_000);
        let slow = right.clone().drifting(-10_000);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(right.boot(), BootTime::from_millis(101_000));
        assert_eq!(fast.boot(), BootTime::from_millis(102_000));
        assert_eq!(slow.boot(), BootTime::from_millis(100_000));
        assert_eq!(fast.tokio_span(Duration::from_secs(101)), Duration::from_secs(100));
        assert_eq!(right.tokio_span(Duration::from_secs(101)), Duration::from_secs(101));
        assert_eq!(fast.tokio_span(Duration::from_nanos(1)), Duration::from_nanos(1), "rounded up");
        let mut timer = slow.timer().expect("tokio's timer");
        timer.wait_until(BootTime::from_millis(100_990)).await;
        assert_eq!(right.boot(), BootTime::from_millis(102_000), "a second by a slow clock takes longer");
    }
}
