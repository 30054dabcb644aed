//! The timing rules of the pair, as plain arithmetic.
//!
//! The *guard deadline* `G` is how long the guard of the active node lets plugins live without a renewal of the
//! duty lease. A manager that froze must have lost its plugins before the peer may act, so
//!
//! ```text
//! I + RTT_max + G + K + W + ε  ≤  T · (1 − ρ) / (1 + ρ)
//! ```
//!
//! with `I` the heartbeat interval, `T` the silence after which the peer takes over, `K` the time the guard needs to
//! kill, `W` the scheduling delay, `ρ` the relative drift of a clock (both drift, in opposite directions). The
//! holder counts from the send, the grantor from the receipt: Gray and Cheriton, *Leases* (SOSP 1989).
//!
//! That is the primary's guard against the secondary. The other way round `I` counts **twice**: the primary only
//! answers, so the newest stamp of its own that it can know of was echoed by the *next* heartbeat, one interval later.
//! (Found by the property tests: an active secondary frozen just before its next heartbeat had both nodes running.)

use core::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Role, TimingsInForce};

/// `K`: the time the guard needs to kill and reap every plugin.
pub const KILL_TIME: Duration = Duration::from_millis(50);
/// `W`: the delay with which a ready thread is scheduled on a loaded machine.
pub const SCHEDULING_DELAY: Duration = Duration::from_millis(50);
/// `ε`: what is kept in hand.
pub const MARGIN: Duration = Duration::from_millis(10);
/// The shortest `G`: with less, a manager on a loaded machine would lose its plugins to its own guard.
pub const SHORTEST_GUARD_DEADLINE: Duration = Duration::from_millis(80);
/// The shortest heartbeat interval.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// How long a starting node at least looks for a peer that had its own role when it was last heard.
pub const ALIKE_WAIT: Duration = Duration::from_secs(30);
/// The lease length in mode `deactivated`, where no peer waits.
pub const STANDALONE_DEADLINE: Duration = Duration::from_secs(30);

/// `RTT_max`: the longest round trip the guarantees hold for: an eighth of the interval, at least 20 ms.
#[must_use]
pub fn longest_round_trip(interval: Duration) -> Duration {
    (interval / 8).max(Duration::from_millis(20))
}

/// `T · (1 − ρ) / (1 + ρ)` for `ρ` = 1 %: what is left of a span when both clocks drift against each other.
#[must_use]
pub fn after_drift(span: Duration) -> Duration {
    span * 99 / 101
}

/// Why a pair of timings leaves no room for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error(
    "a takeover after {takeover_after:?} leaves the guard too little time at an interval of {interval:?}: \
     it needs at least {needed:?}"
)]
pub struct NoRoomForGuard {
    /// The silence after which the peer takes over.
    pub takeover_after: Duration,
    /// The heartbeat interval.
    pub interval: Duration,
    /// The shortest silence that would do at this interval.
    pub needed: Duration,
}

/// How closely the driver has to watch whether it stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// The shorter of the two takeover times in force: in a pause as long as this the other node could have acted.
    pub shortest_wait: Duration,
    /// Whether the peer was heard as lately as it must be when nothing is wrong.
    pub answered: bool,
}

/// Everything but the guard deadline that must fit into the takeover time of `contender`.
fn spent(contender: Role, interval: Duration) -> Duration {
    let behind = match contender {
        Role::Secondary => interval,
        Role::Primary => interval * 2,
    };
    behind + longest_round_trip(interval) + KILL_TIME + SCHEDULING_DELAY + MARGIN
}

/// The primary's guard deadline `G` for a heartbeat interval `I` and the secondary's takeover time `T`.
///
/// # Errors
///
/// When `G` would be shorter than [`SHORTEST_GUARD_DEADLINE`].
pub fn guard_deadline(interval: Duration, takeover_after: Duration) -> Result<Duration, NoRoomForGuard> {
    guard_deadline_against(Role::Secondary, interval, takeover_after)
}

/// The guard deadline of a node whose peer, the `contender`, takes over after `takeover_after`.
///
/// # Errors
///
/// When it would be shorter than [`SHORTEST_GUARD_DEADLINE`].
pub fn guard_deadline_against(
    contender: Role,
    interval: Duration,
    takeover_after: Duration,
) -> Result<Duration, NoRoomForGuard> {
    let spent = spent(contender, interval);
    let shortest = SHORTEST_GUARD_DEADLINE;
    let room = after_drift(takeover_after).checked_sub(spent).filter(|room| *room >= shortest);
    // Whole milliseconds, rounded down: the figure is told to people and to the peer.
    room.map(|room| Duration::from_millis(u64::try_from(room.as_millis()).unwrap_or(u64::MAX))).ok_or_else(
        || {
            let needed = (spent + shortest) * 101 / 99;
            let whole = needed.as_millis() + u128::from(!needed.subsec_nanos().is_multiple_of(1_000_000));
            NoRoomForGuard {
                takeover_after,
                interval,
                needed: Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX)),
            }
        },
    )
}

/// Why the timings of the two nodes cannot work together, as each tells its own; `None`: they can.
#[must_use]
pub fn misfit(primary: &TimingsInForce, secondary: &TimingsInForce) -> Option<String> {
    let interval = secondary.interval;
    if interval >= primary.takeover_after {
        return Some(format!(
            "`redundancy.secondary.interval` ({interval:?}) must be shorter than the primary's \
             `redundancy.primary.timeout` ({:?})",
            primary.takeover_after
        ));
    }
    let no_room = |contender, takeover_after| {
        guard_deadline_against(contender, interval, takeover_after).err().map(|none| none.to_string())
    };
    no_room(Role::Secondary, secondary.takeover_after)
        .or_else(|| no_room(Role::Primary, primary.takeover_after))
}

/// The shortest takeover time of `contender` that leaves the other node room for `guard_deadline`.
#[must_use]
pub fn shortest_takeover(contender: Role, interval: Duration, guard_deadline: Duration) -> Duration {
    (spent(contender, interval) + guard_deadline) * 101 / 99
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_profiles_have_the_documented_guard_deadlines() {
        assert_eq!(guard_deadline(ms(1000), ms(3000)), Ok(ms(1705)));
        assert_eq!(guard_deadline(ms(100), ms(500)), Ok(ms(260)));
        assert!(guard_deadline(ms(5000), ms(15000)).expect("relaxed") > ms(8000));
    }

    #[test]
    fn the_secondary_as_the_active_has_one_interval_less() {
        assert_eq!(guard_deadline_against(Role::Primary, ms(1000), ms(3000)), Ok(ms(705)));
        assert_eq!(guard_deadline_against(Role::Primary, ms(100), ms(500)), Ok(ms(160)));
        let (interval, guard) = (ms(1000), ms(705));
        assert!(shortest_takeover(Role::Primary, interval, guard) <= ms(3000));
    }

    #[test]
    fn what_the_error_names_as_needed_is_enough_and_not_a_millisecond_too_much() {
        for interval in [10, 33, 100, 250, 1000] {
            let refused = guard_deadline(ms(interval), ms(interval)).expect_err("no room");
            assert!(guard_deadline(ms(interval), refused.needed).is_ok(), "{refused}");
            assert!(guard_deadline(ms(interval), refused.needed - ms(2)).is_err(), "{refused}");
        }
    }
}
