//! What the supervisor waits for, in order of time. A timer that has lost its meaning is recognised when it fires
//! (its job or token is over) instead of being searched for.

use std::collections::BTreeMap;
use std::time::Duration;

use failover_core::Epoch;
use tokio::time::Instant;

use crate::wire::JobId;

/// What is to be looked at when a time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A plugin has stayed up long enough.
    StaysUp(JobId),
    /// A plugin should be ready by now.
    ReadyDeadline(JobId),
    /// Its readiness command is to be run again.
    ProbeAgain(JobId),
    /// A plugin should have stopped by now.
    Grace(JobId),
    /// A killed plugin should be gone by now.
    KilledJob(JobId),
    /// A plugin is to be started again.
    Backoff {
        /// Its position.
        plugin: usize,
        /// Which of its waits this is.
        turn: u64,
    },
    /// The end of everything takes too long.
    Stuck {
        /// The ending's token.
        token: u64,
    },
    /// The epoch file should have been written by now.
    EpochFile(Epoch),
    /// The guard should have answered, or have acted on its lease, by now.
    GuardSilent {
        /// It was found silent a moment ago.
        last_chance: bool,
    },
    /// Another guard is to be started.
    GuardRespawn,
    /// The preflight is due.
    Preflight {
        /// Only the newest counts.
        turn: u64,
    },
    /// A preflight command should have ended by now.
    PreflightLimit(JobId),
}

/// All of them.
#[derive(Default)]
pub(crate) struct Timers {
    by_time: BTreeMap<(Instant, u64), Timer>,
    count: u64,
}

impl Timers {
    pub(crate) fn after(&mut self, span: Duration, timer: Timer) {
        // A span beyond the clock's range (a limit of "never") is cut to a day far in the future.
        let now = Instant::now();
        let at = now.checked_add(span).unwrap_or(now + Duration::from_secs(86_400 * 3650));
        self.count += 1;
        self.by_time.insert((at, self.count), timer);
    }

    /// Sets the one timer of this kind, unless it is set and due sooner already.
    pub(crate) fn at_latest(&mut self, span: Duration, timer: Timer) {
        let kind = std::mem::discriminant(&timer);
        let limit = Instant::now() + span;
        let is_sooner =
            |(at, _): &(Instant, u64), set: &Timer| std::mem::discriminant(set) == kind && *at <= limit;
        if !self.by_time.iter().any(|(key, set)| is_sooner(key, set)) {
            self.forget(timer);
            self.after(span, timer);
        }
    }

    /// Whether one of this kind is set.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        let kind = std::mem::discriminant(&timer);
        self.by_time.values().any(|set| std::mem::discriminant(set) == kind)
    }

    /// Forgets every timer of this kind.
    pub(crate) fn forget(&mut self, timer: Timer) {
        let kind = std::mem::discriminant(&timer);
        self.by_time.retain(|_, set| std::mem::discriminant(set) != kind);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.keys().next().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(crate) fn take_due(&mut self) -> Option<Timer> {
        let first = self.by_time.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }
}
