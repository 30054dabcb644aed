//! The duty as a lease inside the node, and the timings that bound it.
//!
//! ```text
//!   Run{epoch, hold_until = now + G}, renewed every G/3 ──► supervisor ──► guard: kills at hold_until
//! ```
//!
//! `G` follows from the heartbeat interval and the *peer's* takeover time. `T` shrinks only after the peer told a
//! guard deadline that fits; `G` grows only after the peer told a longer `T`, and a smaller `G` is told only once no
//! longer lease is out.

use core::time::Duration;

use super::{Machine, Now};
use crate::{
    Arbitration, Attention, BootTime, DutyOrder, Effect, Epoch, Role, State, TimingsInForce, timing,
};

/// The guard deadline where the timings leave no room for one: such a pair is refused, and a primary works on alone.
const NO_ROOM_GUARD: Duration = Duration::from_secs(1);

/// When the lease is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Renewal {
    /// By any input that comes from then on: this node is awake anyway.
    from: BootTime,
    /// At the latest.
    by: BootTime,
}

impl Renewal {
    const fn at(at: BootTime) -> Self {
        Self { from: at, by: at }
    }

    /// Three in a guard deadline. With the heartbeats of the profiles two renewals an interval are left, one of them with
    /// the heartbeat.
    fn after(now: BootTime, guard_deadline: Duration) -> Self {
        let period = guard_deadline / 3;
        Self { from: now + period / 2, by: now + period }
    }
}

/// The lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    /// The standing order.
    pub(super) order: Option<DutyOrder>,
    renew: Option<Renewal>,
    /// The guard deadline for new orders; `None` before the first derivation.
    guard: Option<Duration>,
    /// The longest lease that is still out: while it lives, the old deadline is what the peer is told.
    longer: Option<(Duration, BootTime)>,
    /// The end of the plugins, from the order to stop or to kill until every one is reaped.
    ending: Option<Ending>,
}

/// The end of the plugins under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ending {
    since: BootTime,
    /// What survives SIGKILL, once it was said.
    stuck: Option<String>,
}

impl Lease {
    pub(super) const fn new() -> Self {
        Self { order: None, renew: None, guard: None, longer: None, ending: None }
    }

    /// Whether the lease ran out: the guard has killed, or will within an instant.
    fn lapsed(&self, now: BootTime) -> bool {
        self.order.and_then(DutyOrder::hold_until).is_some_and(|until| until <= now)
    }

    /// When the end of the plugins was ordered.
    pub(super) fn ending_since(&self) -> Option<BootTime> {
        self.ending.as_ref().map(|ending| ending.since)
    }

    /// What keeps the plugins from ending.
    pub(super) fn stuck(&self) -> Option<&str> {
        self.ending.as_ref().and_then(|ending| ending.stuck.as_deref())
    }

    /// Takes note of what keeps the plugins from ending; `false`: it is no news.
    pub(super) fn note_stuck(&mut self, what: &str) -> bool {
        let Some(ending) = self.ending.as_mut().filter(|ending| ending.stuck.as_deref() != Some(what)) else {
            return false;
        };
        ending.stuck = Some(what.to_owned());
        true
    }

    /// The next moment at which something is due.
    pub(super) fn due(&self) -> Option<BootTime> {
        let longer = self.longer.map(|(_, until)| until);
        self.renew.map(|renewal| renewal.by).into_iter().chain(longer).min()
    }
}

impl Machine {
    // ---------------------------------------------------------------------------------------- timings

    /// The heartbeat interval.
    pub(super) fn interval(&self) -> Duration {
        match self.settings.role {
            Role::Secondary => self.settings.interval,
            Role::Primary => self.memory.peer_timings.map_or(self.settings.interval, |told| told.interval),
        }
    }

    /// The takeover time this node wants.
    fn takeover_wanted(&self) -> Duration {
        match self.settings.role {
            Role::Primary => self.settings.timeout,
            Role::Secondary => self
                .settings
                .takeover_after
                .or_else(|| self.memory.peer_timings.map(|told| told.takeover_after))
                .unwrap_or(self.settings.timeout),
        }
    }

    /// The takeover time in force: never shorter than the peer's guard needs.
    pub(super) fn takeover_after(&self) -> Duration {
        let wanted = self.takeover_wanted();
        let guard = self.memory.peer_timings.map(|told| told.guard_deadline);
        guard.map_or(wanted, |guard| {
            wanted.max(timing::shortest_takeover(self.contends_as(), self.interval(), guard))
        })
    }

    /// Within what the peer is heard again when nothing is wrong.
    pub(super) fn until_next_sign(&self) -> Duration {
        self.interval() + timing::longest_round_trip(self.interval())
    }

    /// How closely the driver has to watch whether it stood still.
    #[must_use]
    pub fn attention(&self, now: BootTime) -> Attention {
        let told = self.memory.peer_timings.map(|told| told.takeover_after);
        let own = self.takeover_after();
        let heard = self.peer.last_arrival.filter(|_| self.peer.session.is_some());
        Attention {
            shortest_wait: told.map_or(own, |told| told.min(own)),
            answered: heard.is_some_and(|heard| now < heard + self.until_next_sign()),
        }
    }

    /// Whose place on the link this node has, at the least favourable: between two nodes of the same role (a swap under way)
    /// either may be the one that only answers.
    fn contends_as(&self) -> Role {
        let same = self.peer.report.as_ref().is_some_and(|report| report.role == self.settings.role);
        if same { Role::Primary } else { self.settings.role }
    }

    fn guard_wanted(&self) -> Duration {
        if self.is_deactivated() {
            return timing::STANDALONE_DEADLINE;
        }
        let told = self.memory.peer_timings.map(|told| told.takeover_after);
        let contender = self.settings.role.other();
        let derived = timing::guard_deadline_against(
            contender,
            self.interval(),
            told.unwrap_or_else(|| self.takeover_wanted()),
        );
        // Without room the pair is refused and nothing can be promised; the last deadline that had room stays.
        derived.ok().or(self.lease.guard).unwrap_or(NO_ROOM_GUARD)
    }

    /// The guard deadline in force for new orders.
    pub(super) fn guard_deadline(&self) -> Duration {
        self.lease.guard.unwrap_or_else(|| self.guard_wanted())
    }

    /// What the peer is told.
    pub(super) fn timings_told(&self) -> TimingsInForce {
        TimingsInForce {
            interval: self.interval(),
            takeover_after: self.takeover_wanted(),
            guard_deadline: self.lease.longer.map_or_else(|| self.guard_deadline(), |(longer, _)| longer),
            startup_wait: self.settings.startup_wait,
        }
    }

    /// Follows the timings that the peer tells.
    pub(super) fn follow_timings(&mut self, now: Now) {
        if self.lease.longer.is_some_and(|(_, until)| until <= now.boot) {
            self.lease.longer = None;
        }
        let wanted = self.guard_wanted();
        let before = self.lease.guard.replace(wanted);
        let Some(before) = before.filter(|before| *before > wanted) else { return };
        if let Some(until) = self.lease.order.and_then(DutyOrder::hold_until) {
            // Told only when every lease that is out ends within the shorter deadline.
            let longest = self.lease.longer.map_or(before, |(longer, _)| longer.max(before));
            self.lease.longer = Some((longest, (until - wanted).max(now.boot)));
            self.lease.renew = Some(Renewal::at(now.boot));
        }
    }

    /// Until when the peer has promised not to take over: its echo of an own stamp, plus what its takeover time
    /// leaves for stopping in time.
    pub(super) fn promise_until(&self) -> Option<BootTime> {
        let told = self.memory.peer_timings?.takeover_after;
        let spent = timing::SCHEDULING_DELAY + timing::KILL_TIME + timing::MARGIN;
        let waits = self
            .peer
            .report
            .as_ref()
            .is_some_and(|report| matches!(report.state, State::Starting | State::Standby));
        self.peer
            .last_echo
            .filter(|_| waits)
            .map(|echo| echo + timing::after_drift(told).saturating_sub(spent))
    }

    // ---------------------------------------------------------------------------------------- the lease

    /// Until when an order given now may hold: the guard deadline, and under a witness what it and the peer grant.
    fn hold_until(&self, now: Now) -> BootTime {
        let until = now.boot + self.guard_deadline();
        match self.settings.arbitration {
            Arbitration::None | Arbitration::Fence => until,
            Arbitration::Witness => {
                let licence = self.licence.held.map(|(_, until)| until.unwrap_or_else(until_ever));
                licence.max(self.promise_until()).map_or(until, |granted| until.min(granted))
            }
        }
    }

    /// Under a witness: whether the right to go on still stands.
    pub(super) fn may_keep(&self, now: Now) -> bool {
        match self.settings.arbitration {
            Arbitration::None | Arbitration::Fence => true,
            Arbitration::Witness => {
                self.licence.valid(now.boot).is_some()
                    || self.promise_until().is_some_and(|until| now.boot < until)
            }
        }
    }

    /// When the right to go on ends by itself.
    pub(super) fn keep_ends(&self) -> Option<BootTime> {
        if self.settings.arbitration != Arbitration::Witness
            || !matches!(self.state, State::TakingOver | State::Active)
        {
            return None;
        }
        let licence = self.licence.held.map(|(_, until)| until.unwrap_or_else(until_ever));
        Some(licence.max(self.promise_until()).unwrap_or(self.since))
    }

    pub(super) fn order_run(&mut self, now: Now, epoch: Epoch) {
        self.give(now, DutyOrder::Run { epoch, hold_until: self.hold_until(now) });
    }

    pub(super) fn order_stop(&mut self, now: Now, epoch: Epoch) {
        self.give(now, DutyOrder::Stop { epoch, hold_until: self.hold_until(now) });
    }

    pub(super) fn order_kill(&mut self, now: Now, epoch: Epoch) {
        self.give(now, DutyOrder::Kill { epoch });
    }

    pub(super) fn order_over(&mut self) {
        self.lease.order = None;
        self.lease.renew = None;
        self.lease.longer = None;
        self.lease.ending = None;
    }

    fn give(&mut self, now: Now, order: DutyOrder) {
        self.lease.renew = order.hold_until().map(|_| Renewal::after(now.boot, self.guard_deadline()));
        self.lease.order = Some(order);
        self.lease.ending = match order {
            DutyOrder::Run { .. } => None,
            DutyOrder::Stop { .. } | DutyOrder::Kill { .. } => {
                self.lease.ending.take().or(Some(Ending { since: now.boot, stuck: None }))
            }
        };
        self.out.push(Effect::Order(order));
    }

    /// Whether the lease ran out while this node stood still. The guard judges by the deadline alone, so it has
    /// fired even where its report is still under way.
    pub(super) fn lease_lapsed(&self, now: Now) -> bool {
        self.lease.lapsed(now.boot)
    }

    /// Renews what is due. A lapsed lease is never renewed: that would only hide that the plugins are gone.
    pub(super) fn renew_lease(&mut self, now: Now) {
        if self.lease.renew.is_none_or(|renewal| now.boot < renewal.from) || self.lease.lapsed(now.boot) {
            return;
        }
        if let Some(until) = self.unheard_since_stall().filter(|until| now.boot < *until) {
            self.lease.renew = Some(Renewal::at(until));
            return;
        }
        match self.lease.order {
            Some(DutyOrder::Run { epoch, .. }) => self.order_run(now, epoch),
            Some(DutyOrder::Stop { epoch, .. }) => self.order_stop(now, epoch),
            Some(DutyOrder::Kill { .. }) | None => self.lease.renew = None,
        }
    }

    /// After standing still a connected node lengthens its lease only when a beat has come, which the link answers as it
    /// comes, or when little of the lease is left. Else a node that goes on for an instant and stands still again holds
    /// a lease that began long after its last answer: the guard deadline allows for one interval between the two.
    fn unheard_since_stall(&self) -> Option<BootTime> {
        let end = self.health.stalled?;
        let connected = self.peer.session.is_some() && !self.said.disconnected;
        let heard = self.peer.last_arrival.is_some_and(|arrival| end <= arrival);
        let until = self.lease.order.and_then(DutyOrder::hold_until)?;
        (connected && !heard).then(|| until - timing::SCHEDULING_DELAY)
    }
}

/// A fence's confirmation holds until it is released.
fn until_ever() -> BootTime {
    BootTime::from_nanos(u64::MAX)
}
