//! What a driver may say about an epoch whose supervisor is away: only what is certain. Pure bookkeeping, so that every case
//! can be looked at.

use failover_core::{BootTime, DutyOrder, Epoch, Input};

/// What is known of the orders that went out.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The newest epoch that a supervisor may have begun.
    pub(super) sent: Option<Epoch>,
    /// Until when the last lease of it that went out may hold.
    holds: Option<BootTime>,
    /// The newest epoch that was sent and of which it is not certain that nothing lives.
    living: Option<Epoch>,
    /// The newest epoch that was told as over without a supervisor.
    over: Option<Epoch>,
    /// What was told last, so that it is said once.
    last_said: Option<(Said, Epoch)>,
}

/// What is told of an epoch without a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It is over; something may still live.
    Over,
    /// Nothing of it lives.
    Reaped,
}

impl Doubt {
    /// The newest epoch of which something may live.
    pub(super) const fn in_doubt(&self) -> Option<Epoch> {
        self.living
    }

    /// Of whatever was sent, nothing lives, and nothing of it will.
    pub(super) fn nothing_lives(&mut self) {
        self.living = None;
        self.over = self.over.max(self.sent);
    }

    /// Of this epoch, of a driver before this one, something may live.
    pub(super) fn inherits(&mut self, epoch: Epoch) {
        self.living = self.living.max(Some(epoch));
    }

    /// The supervisor says that nothing lives of this epoch. It may begin it again, when it is told to.
    pub(super) fn reaped(&mut self, epoch: Epoch) {
        self.living = self.living.filter(|living| *living > epoch);
    }

    /// Whether nothing may live any more of what was sent, so that whoever can is asked to make sure: the last lease is over,
    /// or it is to be killed.
    pub(super) fn is_due(&self, order: Option<DutyOrder>, now: BootTime) -> bool {
        self.lapsed(now) || matches!(order, Some(DutyOrder::Kill { .. }))
    }

    fn lapsed(&self, now: BootTime) -> bool {
        self.holds.is_none_or(|until| until <= now)
    }

    /// What is certain about an order that no supervisor can be given, said once.
    pub(super) fn answer(&mut self, order: DutyOrder, now: BootTime) -> Option<Input> {
        let epoch = order.epoch();
        let began = self.living.is_some_and(|living| epoch <= living);
        let lapsed = self.lapsed(now);
        let (said, report) = match order {
            DutyOrder::Run { .. } if !began => {
                let why = "the plugin supervisor is away".to_owned();
                (Said::Over, Input::PluginsFailed { epoch, why })
            }
            // An older epoch may live in its place: then it is not over with the one that never began.
            DutyOrder::Stop { .. } | DutyOrder::Kill { .. } if self.living.is_none() => {
                (Said::Reaped, Input::PluginsReaped { epoch })
            }
            DutyOrder::Run { .. } | DutyOrder::Stop { .. } if lapsed => {
                let why = "the plugin supervisor is away, and the last duty lease it was given has run out";
                (Said::Over, Input::GuardFired { epoch, why: why.to_owned() })
            }
            DutyOrder::Run { .. } | DutyOrder::Stop { .. } | DutyOrder::Kill { .. } => return None,
        };
        self.say(said, epoch).then_some(report)
    }

    /// The epoch that this driver believes to run and of which the supervisor knows nothing.
    pub(super) fn lost(&mut self, order: DutyOrder, standing: Option<Epoch>) -> Option<Epoch> {
        let epoch = order.epoch();
        let believed = order.hold_until().is_some() && self.sent == Some(epoch);
        let lost = believed && standing != Some(epoch);
        (lost && self.say(Said::Over, epoch)).then_some(epoch)
    }

    /// Notes what is said; `false` when it was said already.
    fn say(&mut self, said: Said, epoch: Epoch) -> bool {
        if said == Said::Over {
            self.over = self.over.max(Some(epoch));
        }
        self.last_said.replace((said, epoch)) != Some((said, epoch))
    }

    /// An epoch that was told as over is never run again: the driver may just not have heard it yet.
    pub(super) fn may_go(&self, order: DutyOrder) -> bool {
        match order {
            DutyOrder::Run { epoch, .. } => self.over.is_none_or(|over| over < epoch),
            DutyOrder::Stop { .. } | DutyOrder::Kill { .. } => true,
        }
    }

    /// An order goes out.
    pub(super) fn goes(&mut self, order: DutyOrder) {
        if let DutyOrder::Run { epoch, .. } = order {
            self.sent = self.sent.max(Some(epoch));
            self.living = self.living.max(Some(epoch));
        }
        if let Some(until) = order.hold_until() {
            self.holds = self.holds.max(Some(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> BootTime {
        BootTime::from_millis(ms)
    }

    const fn run(epoch: u64, until: u64) -> DutyOrder {
        DutyOrder::Run { epoch: Epoch(epoch), hold_until: at(until) }
    }

    const fn stop(epoch: u64, until: u64) -> DutyOrder {
        DutyOrder::Stop { epoch: Epoch(epoch), hold_until: at(until) }
    }

    #[test]
    fn an_epoch_that_never_went_out_has_failed_and_its_stop_is_done() {
        let mut doubt = Doubt::default();
        assert!(matches!(
            doubt.answer(run(5, 100), at(0)),
            Some(Input::PluginsFailed { epoch: Epoch(5), .. })
        ));
        assert_eq!(doubt.answer(run(5, 200), at(0)), None, "said once");
        assert_eq!(doubt.answer(stop(5, 200), at(0)), Some(Input::PluginsReaped { epoch: Epoch(5) }));
        assert!(!doubt.may_go(run(5, 300)), "a supervisor that comes now does not begin it any more");
        assert!(doubt.may_go(run(7, 300)));
    }

    #[test]
    fn an_epoch_that_went_out_has_fired_when_its_last_lease_is_over_and_only_a_supervisor_says_it_is_gone() {
        let mut doubt = Doubt::default();
        doubt.goes(run(5, 100));
        assert_eq!(doubt.answer(run(5, 150), at(99)), None, "what was not sent extends nothing");
        assert!(matches!(
            doubt.answer(run(5, 200), at(100)),
            Some(Input::GuardFired { epoch: Epoch(5), .. })
        ));
        assert_eq!(doubt.answer(DutyOrder::Kill { epoch: Epoch(5) }, at(9999)), None);
        assert!(!doubt.may_go(run(5, 300)));
        assert!(doubt.may_go(DutyOrder::Kill { epoch: Epoch(5) }));
    }

    #[test]
    fn when_nothing_lives_of_a_dead_supervisor_its_epoch_is_done_and_never_runs_again() {
        let mut doubt = Doubt::default();
        doubt.goes(run(5, 100));
        assert_eq!(doubt.in_doubt(), Some(Epoch(5)));
        doubt.nothing_lives();
        assert_eq!(doubt.in_doubt(), None);
        let kill = DutyOrder::Kill { epoch: Epoch(5) };
        assert_eq!(doubt.answer(kill, at(0)), Some(Input::PluginsReaped { epoch: Epoch(5) }));
        assert!(!doubt.may_go(run(5, 200)));
        doubt.goes(run(7, 300));
        assert_eq!(doubt.in_doubt(), Some(Epoch(7)));
    }

    #[test]
    fn an_epoch_that_never_went_out_is_not_done_while_an_older_one_may_live() {
        let mut doubt = Doubt::default();
        doubt.goes(run(5, 100));
        assert!(matches!(
            doubt.answer(run(7, 200), at(0)),
            Some(Input::PluginsFailed { epoch: Epoch(7), .. })
        ));
        assert_eq!(doubt.answer(stop(7, 200), at(0)), None, "plugins of 5 may live");
        doubt.nothing_lives();
        assert_eq!(doubt.answer(stop(7, 200), at(0)), Some(Input::PluginsReaped { epoch: Epoch(7) }));
    }

    #[test]
    fn what_the_supervisor_has_reaped_is_in_doubt_no_more_until_it_is_sent_again() {
        let mut doubt = Doubt::default();
        doubt.goes(run(5, 100));
        doubt.reaped(Epoch(3));
        assert_eq!(doubt.in_doubt(), Some(Epoch(5)));
        doubt.reaped(Epoch(5));
        assert_eq!(doubt.in_doubt(), None);
        doubt.goes(run(5, 200));
        assert_eq!(doubt.in_doubt(), Some(Epoch(5)), "a stop that was called off");
    }

    #[test]
    fn a_supervisor_that_does_not_know_the_epoch_is_another_one() {
        let mut doubt = Doubt::default();
        assert_eq!(doubt.lost(run(5, 100), None), None, "it was never sent");
        doubt.goes(run(5, 100));
        assert_eq!(doubt.lost(run(5, 150), Some(Epoch(5))), None, "the same one: the lease goes on");
        assert!(doubt.may_go(run(5, 150)));
        assert_eq!(doubt.lost(run(5, 150), None), Some(Epoch(5)));
        assert!(!doubt.may_go(run(5, 150)));
    }
}
