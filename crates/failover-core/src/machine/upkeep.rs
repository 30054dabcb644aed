//! What follows every input: lasting conditions are said once, leases renewed, changes announced and remembered; and
//! the one list of everything that can fall due.

use super::words::Saying;
use super::{Machine, Now};
use crate::{BootTime, Effect, EventCode, Fitness, Mode, Severity, State};

impl Machine {
    pub(super) fn begin(&mut self, now: Now) {
        let mode = self.settings.mode;
        let name = self.settings.identity.name.as_str();
        self.say(EventCode::NodeStarted, Severity::Info, Saying::new(format!("{name} starts as {mode}")));
        for sentence in self.settings.unsafe_settings.clone() {
            self.say(EventCode::UnsafeSetting, Severity::Warn, Saying::new(sentence));
        }
        self.follow_timings(now);
        self.keep_reserve(now);
        if !self.rules.wait_at_start {
            self.decide(now);
        }
    }

    pub(super) fn upkeep(&mut self, now: Now) {
        self.watch_fitness(now);
        self.watch_link(now);
        self.watch_paths(now);
        self.watch_peer(now);
        self.watch_flapping(now);
        self.plan_flap_check(now);
        self.keep_reserve(now);
        self.follow_timings(now);
        self.renew_lease(now);
        self.memory.highest_epoch = self.epochs.seen();
        if self.memory != self.remembered {
            self.remembered = self.memory.clone();
            self.out.push(Effect::Remember(Box::new(self.memory.clone())));
        }
        let report = self.report();
        if self.announced.as_ref().is_none_or(|announced| *announced != report) {
            let worth = self.announced.as_ref().is_none_or(|announced| announced.summary == report.summary);
            self.revision += 1;
            self.announced = Some(self.report());
            // What a node runs decides nothing: it goes with the next beat.
            if worth && self.peer.session.is_some() {
                self.out.push(Effect::Announce);
            }
        }
    }

    fn watch_fitness(&mut self, now: Now) {
        self.note_fitness(now);
        let unfit = match self.fitness() {
            Fitness::Fit => {
                self.health.fit_since = self.health.fit_since.or(Some(now.boot));
                None
            }
            Fitness::Unfit(why) => {
                self.health.fit_since = None;
                Some(why)
            }
        };
        // A stop or a stall has its own event.
        let own_event = self.stopping.is_some() || self.health.stalled.is_some();
        if own_event || unfit == self.said.unfit {
            return;
        }
        self.said.unfit.clone_from(&unfit);
        match unfit {
            Some(why) => {
                let sentence = format!("this node could not run the plugins now: {why}");
                self.say(EventCode::NodeUnfit, Severity::Warn, Saying::new(sentence));
            }
            None => self.say(
                EventCode::NodeFit,
                Severity::Info,
                Saying::new("this node could run the plugins again"),
            ),
        }
    }

    fn watch_peer(&mut self, now: Now) {
        let idle = matches!(self.state, State::Starting | State::Standby);
        // Only while nothing explains it: as soon as whatever held the other back ends, it is the other's turn first.
        let explained =
            self.memory.maintenance.window.is_some() || !self.fitness().is_fit() || self.moves.under_way();
        let dark = idle
            && !explained
            && self.partner(now).is_some_and(|report| !report.state.may_run_plugins() && report.fit.is_fit());
        self.said.dark = if dark { self.said.dark.or(Some(now.boot)) } else { None };
        let Some(report) = self.peer.report.as_ref().filter(|_| self.peer.fresh) else { return };
        let alone = report.mode == Mode::Deactivated;
        let unfit = match &report.fit {
            Fitness::Unfit(why) => Some(why.clone()),
            Fitness::Fit => None,
        };
        let name = self.peer_name();
        if alone != self.said.standalone {
            self.said.standalone = alone;
            if alone {
                let sentence =
                    format!("{name} runs without redundancy (mode deactivated): there is no failover");
                self.say(EventCode::PeerStandalone, Severity::Error, Saying::new(sentence));
            }
        }
        if unfit != self.said.peer_unfit {
            self.said.peer_unfit.clone_from(&unfit);
            match unfit {
                Some(why) => {
                    let sentence = format!("{name} could not run the plugins now: {why}");
                    self.say(EventCode::PeerUnfit, Severity::Warn, Saying::new(sentence));
                }
                None => self.say(
                    EventCode::PeerFit,
                    Severity::Info,
                    Saying::new(format!("{name} could run the plugins again")),
                ),
            }
        }
    }

    /// The earliest moment at which something falls due. What a `Woke` has already looked at is past, so the
    /// driver's loop never spins.
    pub(super) fn next_deadline(&self) -> Option<BootTime> {
        let deciding = matches!(self.state, State::Starting | State::Standby) && self.stopping.is_none();
        let quiet = self.said.disconnected || self.is_deactivated();
        let settle = self.takeover_after();
        let in_idle = [
            Some(self.silence_verdict_due()),
            self.epoch_wait_ends(),
            self.jump_due(),
            self.dark_due(),
            self.turn_due(),
            self.return_due(),
            self.licence.asked.map(|(_, asked)| asked + self.licence_pace()),
        ];
        let always = [
            self.lease.due(),
            self.lease.order.and_then(crate::DutyOrder::hold_until),
            self.moves.expires,
            self.deactivation_due(),
            self.health.retry,
            self.health.stalled.map(|end| end + settle),
            self.flap_due(),
            self.keep_ends(),
            self.conflict_due(),
            self.start_ends(),
            self.stop_ends(),
            (!quiet).then(|| self.disconnect_due()),
            self.peer.paths.due(),
            self.said.held_due,
        ];
        let idle = in_idle.into_iter().filter(|_| deciding);
        let due = always.into_iter().chain(idle).flatten();
        due.filter(|due| self.woken.is_none_or(|woken| woken < *due)).min()
    }
}
