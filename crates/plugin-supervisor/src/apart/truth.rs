//! What a driver that comes back has to know: the newest of what the supervisor has reported.

use std::collections::VecDeque;
use std::mem::discriminant;

use failover_core::{DutyOrder, Epoch, Input};
use onduty_api::plugin::SupervisorNews;

/// The newest reports.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The epoch of which something may live.
    living: Option<Epoch>,
    /// The highest epoch that has ended: it never lives again.
    ended: Option<Epoch>,
    /// Of the newest epoch, one of each kind, in the order of their coming.
    reports: VecDeque<Input>,
    /// The newest epoch was reaped while no driver followed.
    alone: bool,
    preflight: Option<Input>,
    summary: Option<Input>,
}

impl Truth {
    /// The epoch of which something may live.
    pub(super) const fn living(&self) -> Option<Epoch> {
        self.living
    }

    /// An order is handed to the supervisor.
    pub(super) fn ordered(&mut self, order: DutyOrder) {
        let DutyOrder::Run { epoch, .. } = order else { return };
        if self.ended.is_none_or(|ended| ended < epoch) && self.living.is_none_or(|living| living < epoch) {
            self.living = Some(epoch);
            self.alone = false;
            self.reports.clear();
        }
    }

    /// Whether the newest epoch was reaped while no driver followed: nobody has told the peer.
    pub(super) const fn reaped_alone(&self) -> bool {
        self.alone
    }

    /// The supervisor reports, while a driver follows or while none does.
    pub(super) fn note(&mut self, report: &Input, alone: bool) {
        if matches!(report, Input::PreflightChanged { .. }) {
            self.preflight = Some(report.clone());
        } else if matches!(report, Input::SummaryChanged(_)) {
            self.summary = Some(report.clone());
        } else {
            if let Input::PluginsReaped { epoch } = report {
                self.ended = self.ended.max(Some(*epoch));
                self.living = self.living.filter(|living| living > epoch);
                self.alone = alone;
            }
            self.reports.retain(|old| discriminant(old) != discriminant(report));
            self.reports.push_back(report.clone());
        }
    }

    /// All of it, for a new stream.
    pub(super) fn told(&self) -> impl Iterator<Item = SupervisorNews> + '_ {
        let reports = self.summary.iter().chain(&self.preflight).chain(&self.reports);
        let standing = SupervisorNews::Standing { epoch: self.living };
        reports.cloned().map(SupervisorNews::Report).chain(std::iter::once(standing))
    }
}

#[cfg(test)]
mod tests {
    use failover_core::BootTime;

    use super::*;

    const fn run(epoch: u64) -> DutyOrder {
        DutyOrder::Run { epoch: Epoch(epoch), hold_until: BootTime::ZERO }
    }

    fn told(truth: &Truth) -> Vec<SupervisorNews> {
        truth.told().collect()
    }

    #[test]
    fn the_newest_of_each_kind_is_told_in_the_order_of_its_coming() {
        let mut truth = Truth::default();
        truth.note(&Input::PreflightChanged { unfit: Some("x".to_owned()) }, false);
        truth.note(&Input::PreflightChanged { unfit: None }, false);
        truth.ordered(run(5));
        let (ready, fired) = (
            Input::PluginsReady { epoch: Epoch(5) },
            Input::GuardFired { epoch: Epoch(5), why: "late".to_owned() },
        );
        truth.note(&fired, false);
        truth.note(&ready, false);
        truth.note(&fired, false);
        let wanted = [Input::PreflightChanged { unfit: None }, ready, fired].map(SupervisorNews::Report);
        let standing = SupervisorNews::Standing { epoch: Some(Epoch(5)) };
        assert_eq!(told(&truth), [wanted.as_slice(), &[standing]].concat());
    }

    #[test]
    fn an_epoch_that_has_ended_never_lives_again_and_a_new_one_begins_empty() {
        let mut truth = Truth::default();
        truth.ordered(run(5));
        let reaped = Input::PluginsReaped { epoch: Epoch(5) };
        truth.note(&reaped, false);
        truth.ordered(run(5));
        assert_eq!(truth.living(), None, "a renewal that crossed the end begins nothing");
        let nothing = SupervisorNews::Standing { epoch: None };
        assert_eq!(told(&truth), [SupervisorNews::Report(reaped), nothing]);
        truth.ordered(run(7));
        assert_eq!(told(&truth), [SupervisorNews::Standing { epoch: Some(Epoch(7)) }]);
    }
}
