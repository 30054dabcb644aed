//! Waiting for a reading of the boot-time clock. tokio's own timers stand still while the machine is suspended;
//! a timer of the kernel on `CLOCK_BOOTTIME` does not.

use std::io;
use std::os::fd::OwnedFd;

use failover_core::BootTime;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Clock;

/// One waiting at a time, made once and used again and again.
#[derive(Debug)]
pub struct BootTimer {
    clock: Clock,
    /// `None`: the clock is simulated, tokio's timers follow it.
    kernel: Option<KernelTimer>,
}

#[derive(Debug)]
struct KernelTimer {
    timer: AsyncFd<OwnedFd>,
    /// What it is set to; `None`: it has expired and that was read.
    set: Option<BootTime>,
}

impl Clock {
    /// A timer on this clock. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel has no timer left.
    pub fn timer(&self) -> io::Result<BootTimer> {
        let kernel = if self.is_real() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?;
            // Deprecated for types whose descriptor can change while it is registered; an `OwnedFd` that nobody else
            // gets hold of cannot. Its successor is `unsafe`, which this workspace forbids.
            #[expect(deprecated, reason = "sound for an OwnedFd")]
            Some(KernelTimer { timer: AsyncFd::with_interest(timer, Interest::READABLE)?, set: None })
        } else {
            None
        };
        Ok(BootTimer { clock: self.clone(), kernel })
    }
}

impl BootTimer {
    /// Returns when the clock has reached `deadline`, at once when it already has. Cancel-safe: a wait that was
    /// dropped leaves nothing behind, the next one sets the timer anew.
    pub async fn wait_until(&mut self, deadline: BootTime) {
        loop {
            self.clock.process_runs().await;
            let now = self.clock.boot();
            if now >= deadline {
                return;
            }
            let left = deadline.since(now);
            match &mut self.kernel {
                None => tokio::time::sleep(self.clock.tokio_span(left)).await,
                Some(kernel) => {
                    if let Err(error) = kernel.expire(deadline).await {
                        // A wait that ends too early would turn into a busy loop, one that never ends into a
                        // node that never acts: tokio's timer does, apart from suspends.
                        tracing::error!(%error, "the kernel's timer failed; going on without it");
                        tokio::time::sleep(left).await;
                    }
                }
            }
        }
    }
}

impl KernelTimer {
    /// Sets it to an absolute reading, unless it is set to that already, and waits until it says that it has expired.
    async fn expire(&mut self, deadline: BootTime) -> io::Result<()> {
        if self.set != Some(deadline) {
            self.set = None;
            let nanos = deadline.as_nanos();
            let value = Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
            };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            // Setting it also forgets an expiry that a dropped wait did not read.
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
            self.set = Some(deadline);
        }
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            match ready.try_io(|timer| rustix::io::read(timer, &mut expirations).map_err(io::Error::from)) {
                Ok(read) => {
                    // It has been read: the next readiness is that of the next expiry.
                    ready.clear_ready();
                    self.set = None;
                    return read.map(drop);
                }
                // Readiness from before the timer was set: wait for the new one.
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_real_timer_never_returns_early_and_can_be_used_again() {
        let clock = Clock::real();
        let mut timer = clock.timer().unwrap();
        for _ in 0..3 {
            let deadline = clock.boot() + Duration::from_millis(15);
            timer.wait_until(deadline).await;
            assert!(clock.boot() >= deadline);
        }
        timer.wait_until(BootTime::ZERO).await;
    }

    #[tokio::test]
    async fn a_dropped_wait_does_not_shorten_or_block_the_next() {
        let clock = Clock::real();
        let mut timer = clock.timer().unwrap();
        let never = clock.boot() + Duration::from_secs(3600);
        let soon = clock.boot() + Duration::from_millis(10);
        tokio::select! {
            () = timer.wait_until(never) => panic!("an hour has not passed"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        // This one is dropped after the kernel's timer has expired, but before anybody has read it.
        drop(Box::pin(timer.wait_until(soon)));
        tokio::time::sleep(Duration::from_millis(15)).await;
        let deadline = clock.boot() + Duration::from_millis(20);
        timer.wait_until(deadline).await;
        assert!(clock.boot() >= deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn the_simulated_timer_follows_tokios_clock() {
        let clock = Clock::simulated(BootTime::from_millis(5000), 1_700_000_000);
        let mut timer = clock.timer().unwrap();
        timer.wait_until(BootTime::from_millis(65_000)).await;
        assert_eq!(clock.boot(), BootTime::from_millis(65_000));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_ends_while_a_simulated_process_stands_still() {
        let (freeze, still) = crate::latest::latest(true);
        let clock = Clock::simulated(BootTime::ZERO, 1_700_000_000).standing_still(still);
        let mut timer = clock.timer().unwrap();
        for deadline in [BootTime::ZERO, BootTime::from_millis(1000)] {
            let waited = tokio::time::timeout(Duration::from_secs(5), timer.wait_until(deadline)).await;
            assert!(waited.is_err(), "{deadline:?}");
        }
        freeze.change(|still| std::mem::replace(still, false));
        timer.wait_until(BootTime::from_millis(1000)).await;
        assert_eq!(clock.boot(), BootTime::from_millis(10_000), "it goes on when the process does");
    }
}
