//! The end of the duty lease as a timer of the kernel that supervisor and guard share: a renewal wakes nobody.
//!
//! ```text
//!   supervisor ── sets it anew with each renewal ──► timerfd ── wakes when nobody has ──► guard: kills
//! ```
//!
//! The timer belongs to neither process: it goes on while one of them stands still, and while the machine sleeps. Setting it
//! is one step for the kernel, so there is nothing that could be seen half done.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use failover_core::BootTime;
use rustix::event::Timespec;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// One end of the timer.
#[derive(Debug)]
pub(crate) struct LeaseTimer(OwnedFd);

impl LeaseTimer {
    /// A fresh one, which is over until it is set.
    pub(crate) fn create() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// The other end, of a descriptor that was handed over.
    pub(crate) const fn of(shared: OwnedFd) -> Self {
        Self(shared)
    }

    /// A descriptor of the same timer.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// The lease lasts until then; a reading in the past ends it at once.
    pub(crate) fn set(&self, hold_until: BootTime) -> io::Result<()> {
        // Zero would stop the timer, and it would never wake anybody.
        let at = Duration::from_nanos(hold_until.as_nanos().max(1));
        let it_value = Timespec::try_from(at).map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: ZERO, it_value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// Whether its time has come. Nobody reads it empty, so that each end sees this whatever the other does; a timer that
    /// cannot be asked is over.
    pub(crate) fn is_over(&self) -> bool {
        rustix::time::timerfd_gettime(&self.0).map_or(true, |left| left.it_value == ZERO)
    }
}

impl AsFd for LeaseTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustix::event::{PollFd, PollFlags};
    use service_kit::Clock;

    use super::*;

    fn now() -> BootTime {
        Clock::real().boot()
    }

    fn wakes_within(timer: &LeaseTimer, span: Duration) -> bool {
        let span = Timespec::try_from(span).unwrap();
        rustix::event::poll(&mut [PollFd::new(timer, PollFlags::IN)], Some(&span)).unwrap() > 0
    }

    #[test]
    fn what_one_end_sets_holds_for_the_other_until_its_time_has_come() {
        let supervisor = LeaseTimer::create().unwrap();
        let guard = LeaseTimer::of(supervisor.share().unwrap());
        assert!(guard.is_over(), "no lease has begun");
        let end = now() + Duration::from_millis(50);
        supervisor.set(end).unwrap();
        assert!(!guard.is_over());
        assert!(wakes_within(&guard, Duration::from_secs(10)));
        assert!(end <= now(), "it woke too early");
        assert!(guard.is_over() && supervisor.is_over());
    }

    #[test]
    fn a_renewal_wakes_nobody_and_takes_back_an_end_that_nobody_has_seen() {
        let supervisor = LeaseTimer::create().unwrap();
        let guard = LeaseTimer::of(supervisor.share().unwrap());
        for past in [BootTime::ZERO, BootTime::from_nanos(1), now()] {
            supervisor.set(past).unwrap();
            assert!(wakes_within(&guard, Duration::from_secs(10)), "{past:?} is over at once");
            supervisor.set(now() + Duration::from_secs(3600)).unwrap();
            assert!(!guard.is_over());
            assert!(!wakes_within(&guard, Duration::ZERO));
        }
    }
}
