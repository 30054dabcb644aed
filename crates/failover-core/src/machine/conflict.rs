//! Both nodes active, seen on contact: who keeps the duty, and how the pair heals.
//!
//! `automatic`: the primary keeps; `manual`: the higher epoch. The loser yields first; after its release, or when it
//! falls silent for its takeover time, the winner goes on under a new epoch, so that no epoch is ever shared. Two nodes of the
//! same role, which refuse each other (a swap that was interrupted), heal by the higher epoch; nothing is released then.

use super::parts::{Conflict, Then};
use super::words::{Saying, at_most_ms};
use super::{Machine, Now};
use crate::{
    BootTime, DutyOrder, Epoch, EventCode, FailbackMode, LinkVerdict, Measures, Mode, Report, Role, Severity,
    State,
};

impl Machine {
    /// What the peer's report means for a node that has the duty. True when this node gave way.
    pub(super) fn look_for_conflict(&mut self, now: Now) -> bool {
        let Some(report) = self.living(now).cloned() else { return false };
        let runs = matches!(report.state, State::TakingOver | State::Active | State::Standalone);
        if !runs {
            self.said.clash = false;
            self.notice_lost_conflict(now, &report);
            if let Some(conflict) = self.conflict.as_mut() {
                conflict.told_ms = report.procedure.overlap_ms;
            }
            if !matches!(report.state, State::Yielding) {
                self.heal(now);
            }
            return false;
        }
        let alone = report.mode == Mode::Deactivated || self.is_deactivated();
        if alone || (self.is_refused() && report.role != self.settings.role) {
            if !self.said.clash {
                self.said.clash = true;
                let sentence = format!(
                    "the plugins run twice: {} runs them too and cannot be asked to stop",
                    self.peer_name()
                );
                self.say(EventCode::ConflictFound, Severity::Critical, Saying::new(sentence));
            }
            return false;
        }
        let began = self.running_since().max(self.peer.idle_seen.unwrap_or_default());
        let keep = self.keeps(&report);
        if let Some(known) = self.conflict.filter(|known| known.keep == keep) {
            return self.outlast(now, known);
        }
        self.conflict =
            Some(Conflict { found: now.boot, began, peer_epoch: report.epoch, keep, told_ms: None });
        let does = if keep { "keeps the duty" } else { "gives way" };
        let sentence = format!("both nodes are active: this one {does}");
        let rule = match self.settings.failback {
            _ if self.is_refused() => "both nodes have the same role: the higher epoch keeps",
            FailbackMode::Automatic => "fail-back is automatic: the primary keeps",
            FailbackMode::Manual => "fail-back is manual: the higher epoch keeps",
        };
        let measures = Measures { overlap_ms: Some(at_most_ms(began, now.boot)), ..Measures::default() };
        self.say(
            EventCode::ConflictFound,
            Severity::Critical,
            Saying::new(sentence).cause(rule).measures(measures),
        );
        if !keep {
            self.concede(now, rule);
        }
        !keep
    }

    /// Whether the report tells of an overlap with the duty of now that is over: the peer released to this node as the
    /// loser of a conflict, or it held a later epoch while this node had the duty.
    pub(super) fn was_active_beside(&self, report: &Report) -> bool {
        let Some(own) = self.duty.as_ref().map(|duty| duty.epoch) else { return false };
        let conceded = report.procedure.released.filter(|_| report.procedure.overlap_ms.is_some());
        conceded.is_some_and(|epoch| self.said.conflict_over != Some(epoch)) || report.last_held > Some(own)
    }

    /// The conflict was over before this node heard of it: the loser may see it first and be done at once. It is a
    /// conflict all the same, and the epoch of whoever checks the token may be the other one: this node goes above it.
    fn notice_lost_conflict(&mut self, now: Now, report: &Report) {
        // A node that yields a later epoch held it beside this one; of an earlier one only the release tells whether it
        // still ran, or whether its guard had ended it in time.
        if self.is_deactivated() || self.conflict.is_some() || !self.was_active_beside(report) {
            return;
        }
        let began = self.running_since().max(self.peer.idle_seen.unwrap_or_default());
        let told_ms = report.procedure.overlap_ms;
        let conflict = Conflict { found: now.boot, began, peer_epoch: report.last_held, keep: true, told_ms };
        let sentence = format!("{} was active, too, while it was out of sight", self.peer_name());
        let saying = Saying::new(sentence).measures(overlap(&conflict, now));
        self.say(EventCode::ConflictFound, Severity::Critical, saying);
        self.conflict = Some(conflict);
    }

    /// A node that stops its plugins for another reason meets a peer that runs them, too: its release tells of it.
    pub(super) fn look_for_conflict_in_yielding(&mut self, now: Now) {
        let Some(report) = self.partner(now) else { return };
        let runs = matches!(report.state, State::TakingOver | State::Active);
        // Only an ordered stop leaves them running: a kill follows a lapsed lease, which is over before the peer may act.
        let ordered = matches!(self.lease.order, Some(DutyOrder::Stop { .. }));
        if !runs || !ordered || self.conflict.is_some() {
            return;
        }
        let peer_epoch = report.epoch;
        let began = self.running_since().max(self.peer.idle_seen.unwrap_or_default());
        let conflict = Conflict { found: now.boot, began, peer_epoch, keep: false, told_ms: None };
        self.conflict = Some(conflict);
        let Some(leaving) = self.leaving.as_mut() else { return };
        leaving.then = Then::Concede;
        let broken = leaving.handover.take();
        let sentence = "both nodes are active: this one is stopping already".to_owned();
        let saying = Saying::new(sentence).measures(overlap(&conflict, now));
        self.say(EventCode::ConflictFound, Severity::Critical, saying);
        if let Some(handover) = broken {
            let sentence = format!("{} took the duty before it was released", self.peer_name());
            let saying = Saying::new(sentence).request(Some(handover.request));
            self.say(EventCode::HandoverFailed, Severity::Warn, saying);
        }
    }

    fn keeps(&self, report: &Report) -> bool {
        let own = self.duty.as_ref().map(|duty| duty.epoch);
        match self.settings.failback {
            _ if self.is_refused() => own > report.epoch,
            FailbackMode::Automatic => self.settings.role == Role::Primary,
            FailbackMode::Manual => own > report.epoch,
        }
    }

    const fn is_refused(&self) -> bool {
        matches!(self.peer.link, LinkVerdict::ProvedRefused(_))
    }

    fn concede(&mut self, now: Now, rule: &str) {
        let sentence = format!("both nodes are active: this one gives way to {}", self.peer_name());
        let saying = Saying::new(sentence).cause(rule);
        // Between two that refuse each other nothing is released: the other runs its plugins already.
        let then = if self.is_refused() { Then::Standby } else { Then::Concede };
        self.give_up(now, then, None, EventCode::StateChanged, Severity::Critical, saying);
    }

    /// The two nodes have different rules (their fail-back differs), so both keep: then the secondary gives way.
    fn outlast(&mut self, now: Now, known: Conflict) -> bool {
        // A peer that gives way does so on hearing of the conflict: one that has heard and still runs keeps, too.
        let heard = self.peer.last_echo.is_some_and(|echo| echo > known.found);
        let patience = self.interval() * 2;
        if self.settings.role == Role::Primary || !heard || now.boot < known.found + patience {
            return false;
        }
        self.conflict = Some(Conflict { keep: false, ..known });
        self.concede(now, "the two nodes have different fail-back rules: the primary keeps");
        true
    }

    /// When the loser has been silent for its takeover time.
    pub(super) fn conflict_due(&self) -> Option<BootTime> {
        self.conflict
            .filter(|conflict| conflict.keep)
            .map(|conflict| self.silence_due().max(conflict.found + self.takeover_after()))
    }

    /// The loser is silent: what it ran has lost its lease.
    pub(super) fn outwait_conflict(&mut self, now: Now) {
        if self.conflict_due().is_some_and(|due| due <= now.boot) && self.living(now).is_none() {
            self.heal(now);
        }
    }

    /// The epoch that the peer's newest report says it released.
    pub(super) fn released_by_peer(&self) -> Option<Epoch> {
        self.peer.report.as_ref().and_then(|report| report.procedure.released)
    }

    fn heal(&mut self, now: Now) {
        let Some(conflict) = self.conflict.take().filter(|conflict| conflict.keep) else { return };
        let epoch = self.take_epoch(now);
        let Some(duty) = self.duty.as_mut() else { return };
        duty.epoch = epoch;
        let measures = overlap(&conflict, now);
        self.said.conflict_over = self.released_by_peer();
        self.order_run(now, epoch);
        let other =
            conflict.peer_epoch.map_or_else(String::new, |epoch| format!(" (the other had epoch {epoch})"));
        let sentence = format!("only this node is active again, under the new epoch {epoch}{other}");
        self.why.clone_from(&sentence);
        self.say(EventCode::ConflictHealed, Severity::Warn, Saying::new(sentence).measures(measures));
        self.arm_tombstone();
    }
}

/// How long the two ran at most: what this node knows, or what the loser told if that is less.
fn overlap(conflict: &Conflict, now: Now) -> Measures {
    let own = at_most_ms(conflict.began, now.boot);
    Measures { overlap_ms: Some(conflict.told_ms.map_or(own, |told| told.min(own))), ..Measures::default() }
}
