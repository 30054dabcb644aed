//! How the duty is taken, completed, given up and ended. Every change of state but `Starting → Standby` is here.

use core::time::Duration;

use super::parts::{Duty, Grounds, Kind, Leaving, Then, words};
use super::words::{Saying, at_most_ms, ms};
use super::{Machine, Now};
use crate::{
    Arbitration, BootTime, Effect, Epoch, EventCode, Handover, Measures, Mode, Role, Severity, State,
};

/// The first wait after a failed start; it doubles up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait between two tries: an unfit node whose peer is silent is never dark for good.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

impl Machine {
    // ---------------------------------------------------------------------------------------- taking

    /// The duty is this node's: order the start.
    pub(super) fn take(&mut self, now: Now, grounds: Grounds, licensed: Option<Epoch>) {
        let lost = match grounds.kind {
            Kind::Silence | Kind::Proof => Some(self.silent_since()),
            Kind::Released => self.peer.yielding_since,
            Kind::Start | Kind::Back | Kind::ByHand | Kind::Alone => None,
        };
        let epoch = match licensed {
            Some(epoch) => self.use_epoch(epoch),
            None => self.take_epoch(now),
        };
        let failed = matches!(grounds.kind, Kind::Silence | Kind::Proof);
        if let Some(handover) = self.moves.releasing.take() {
            let name = self.peer_name();
            let sentence = if failed {
                format!("{name} has failed with the duty that was released to it")
            } else {
                format!("{name} did not keep the duty that was released to it: it comes back")
            };
            let saying = Saying::new(sentence).request(Some(handover.request));
            self.say(EventCode::HandoverFailed, Severity::Error, saying);
        }
        self.forget_moves(grounds.request.as_ref());
        self.licence.by_hand = None;
        self.moves.return_held = false;
        self.moves.return_failures = 0;
        self.said.held = None;
        self.conflict = None;
        // What the peer released before is not beside the duty that begins now.
        self.said.conflict_over = self.released_by_peer();
        let detected_ms = matches!(grounds.kind, Kind::Silence | Kind::Proof)
            .then(|| lost.map(|lost| ms(lost, now.boot)))
            .flatten();
        let severity = if detected_ms.is_some() { Severity::Warn } else { Severity::Info };
        let saying = Saying::new(grounds.sentence.clone())
            .cause(grounds.cause.clone())
            .request(grounds.request.clone())
            .measures(Measures { detected_ms, ..Measures::default() });
        let to = if self.is_deactivated() { State::Standalone } else { State::TakingOver };
        self.duty = Some(Duty { epoch, taken: now.boot, ready: None, lost, grounds, tombstone: None });
        self.order_run(now, epoch);
        self.go(now, to, EventCode::StateChanged, severity, saying);
        self.arm_tombstone();
    }

    /// Mode `deactivated`: the plugins run here whatever the peer does.
    pub(super) fn stand_alone(&mut self, now: Now) {
        let sentence = "redundancy is deactivated: this node runs its plugins alone".to_owned();
        let grounds = Grounds {
            kind: Kind::Alone,
            sentence,
            cause: "the configured mode".to_owned(),
            request: None,
            automatic: false,
        };
        self.take(now, grounds, None);
    }

    /// Every plugin is ready.
    pub(super) fn complete(&mut self, now: Now) {
        let Some(duty) = self.duty.as_mut() else { return };
        duty.ready = Some(now.boot);
        let (epoch, taken, lost, grounds) = (duty.epoch, duty.taken, duty.lost, duty.grounds.clone());
        self.health.failures = 0;
        let planned = !matches!(grounds.kind, Kind::Silence | Kind::Proof);
        let measures = Measures {
            detected_ms: (!planned).then(|| lost.map(|lost| ms(lost, taken))).flatten(),
            takeover_ms: Some(ms(taken, now.boot)),
            outage_ms: lost.map(|lost| ms(lost, now.boot)),
            overlap_ms: None,
        };
        let (code, severity, sentence) = match (self.settings.role, planned) {
            (Role::Primary, _) => (
                EventCode::PrimaryActive,
                Severity::Info,
                format!("the primary is active with epoch {epoch}"),
            ),
            (Role::Secondary, false) => (
                EventCode::RedundancyActive,
                Severity::Warn,
                format!(
                    "redundancy is active: the primary has failed, the secondary runs the plugins with epoch {epoch}"
                ),
            ),
            (Role::Secondary, true) => (
                EventCode::RedundancyActive,
                Severity::Info,
                format!("redundancy is active: the secondary runs the plugins with epoch {epoch}"),
            ),
        };
        self.said.redundancy_active = self.settings.role == Role::Secondary;
        let saying = Saying::new(sentence)
            .cause(grounds.cause.clone())
            .request(grounds.request.clone())
            .measures(measures);
        self.go(now, State::Active, code, severity, saying);
        if let Some(request) = grounds.request.clone().filter(|_| grounds.kind == Kind::Released) {
            self.moves.settle(&request);
            let sentence = format!("the hand-over is complete: this node has the duty with epoch {epoch}");
            let saying = Saying::new(sentence).request(Some(request)).measures(measures);
            self.say(EventCode::HandoverDone, Severity::Info, saying);
        }
        if grounds.automatic && self.memory.paired_with.is_some() {
            self.mark_move(now);
        }
    }

    // ---------------------------------------------------------------------------------------- giving up

    /// Stops the plugins in order.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        then: Then,
        handover: Option<Handover>,
        code: EventCode,
        severity: Severity,
        saying: Saying,
    ) {
        let Some(epoch) = self.duty.as_ref().map(|duty| duty.epoch) else { return };
        self.start_given_up();
        if let Some(handover) = &handover {
            self.moves.settle(&handover.request);
        }
        self.forget_moves(handover.as_ref().map(|handover| &handover.request));
        self.leaving = Some(Leaving { then, handover });
        self.order_stop(now, epoch);
        self.go(now, State::Yielding, code, severity, saying);
        if !self.rules.reap_before_standby {
            self.reaped(now);
        }
    }

    /// A start that serves a request and does not come to its end: the request has failed.
    fn start_given_up(&mut self) {
        let starting = self.state == State::TakingOver;
        let request = self.duty.as_ref().filter(|_| starting).and_then(|duty| duty.grounds.request.clone());
        if let Some(request) = request {
            self.moves.settle(&request);
            let sentence = "the move did not succeed: the plugins did not start on this node".to_owned();
            let saying = Saying::new(sentence).request(Some(request));
            self.say(EventCode::HandoverFailed, Severity::Error, saying);
        }
    }

    /// The plugins could not be started or kept running.
    pub(super) fn fail(&mut self, now: Now, why: &str) {
        self.note_failure(now, why);
        let fit_partner =
            self.partner(now).is_some_and(|report| report.fit.is_fit() && !report.state.may_run_plugins());
        let moves = fit_partner && self.memory.maintenance.window.is_none() && !self.said.latched;
        let (then, what) = if moves {
            (Then::Release, format!("{} takes over", self.peer_name()))
        } else {
            (Then::Standby, format!("this node tries again in {}", words(self.backoff())))
        };
        let saying = Saying::new(format!("the plugins could not be kept running: {what}")).cause(why);
        self.give_up(now, then, None, EventCode::StartFailed, Severity::Error, saying);
    }

    /// A supervisor that never answers must not leave this node in between for ever.
    pub(super) fn check_start(&mut self, now: Now) {
        if let Some(why) = self.start_overdue(now).filter(|_| self.state == State::TakingOver) {
            self.fail(now, &why);
        }
    }

    /// Counts a failed start and sets the wait before the next.
    pub(super) fn note_failure(&mut self, now: Now, why: &str) {
        self.health.failures = self.health.failures.saturating_add(1);
        self.health.failed = why.to_owned();
        self.health.retry = Some(now.boot + self.backoff());
    }

    pub(super) fn backoff(&self) -> Duration {
        let doublings = self.health.failures.saturating_sub(1).min(6);
        (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF)
    }

    /// The guard has fired, or its lease ran out: what follows is a start with a full wait, for the peer may act.
    pub(super) fn guard_fired(&mut self, now: Now, why: &str) {
        let Some(epoch) = self.duty.as_ref().map(|duty| duty.epoch) else { return };
        self.start_given_up();
        self.forget_moves(None);
        self.order_kill(now, epoch);
        match self.leaving.as_mut() {
            Some(leaving) if leaving.then == Then::Restart => {}
            Some(leaving) => {
                leaving.then = Then::Restart;
                let sentence = "the guard ended the plugins during the stop".to_owned();
                self.say(EventCode::GuardFired, Severity::Error, Saying::new(sentence).cause(why));
            }
            None => {
                self.leaving = Some(Leaving { then: Then::Restart, handover: None });
                let sentence =
                    "the guard ended the plugins: this node starts again and waits for its peer first";
                self.go(
                    now,
                    State::Yielding,
                    EventCode::GuardFired,
                    Severity::Error,
                    Saying::new(sentence).cause(why),
                );
            }
        }
        if !self.rules.reap_before_standby {
            self.reaped(now);
        }
    }

    /// A lease that ran out while this node stood still: the guard has acted, whether or not its report is here yet.
    pub(super) fn check_lease(&mut self, now: Now) {
        if self.lease_lapsed(now) {
            self.guard_fired(now, "the duty lease ran out while this node stood still");
        }
    }

    /// Under a witness: without licence and promise the plugins are killed, not stopped.
    pub(super) fn check_keep(&mut self, now: Now) {
        if matches!(self.state, State::TakingOver | State::Active) && !self.may_keep(now) {
            let sentence = "the witness's lease and the peer's promise have run out: the plugins are killed";
            self.give_up(
                now,
                Then::Standby,
                None,
                EventCode::StateChanged,
                Severity::Critical,
                Saying::new(sentence),
            );
            if let Some(epoch) = self.duty.as_ref().map(|duty| duty.epoch) {
                self.order_kill(now, epoch);
            }
        }
    }

    // ---------------------------------------------------------------------------------------- the end

    /// Nothing of the epoch lives any more.
    pub(super) fn reaped(&mut self, now: Now) {
        let (Some(duty), Some(leaving)) = (self.duty.take(), self.leaving.take()) else { return };
        let took = self.lease.ending_since().map_or_else(Duration::default, |began| now.boot.since(began));
        self.order_over();
        if self.settings.arbitration != Arbitration::None {
            self.licence.held = None;
            self.out.push(Effect::ReleaseLicence { epoch: duty.epoch });
        }
        let lost = self.conflict.take().filter(|conflict| !conflict.keep);
        let healed = lost.map(|conflict| at_most_ms(conflict.began, now.boot));
        let taker =
            self.partner(now).is_some_and(|report| report.fit.is_fit() && !report.state.may_run_plugins());
        let release = match leaving.then {
            Then::Release => taker && self.health.stalled.is_none(),
            Then::Concede => true,
            Then::Standby | Then::Restart => false,
        };
        // After standing still the peer may have acted: then nothing is rolled back before it was heard.
        let heard = self.health.stalled.is_none();
        let roll_back = heard
            && leaving.then == Then::Release
            && !release
            && leaving.handover.is_some()
            && self.stopping.is_none();
        let by_person =
            leaving.handover.as_ref().is_some_and(|h| h.reason == crate::HandoverReason::Switchover);
        self.moves.return_held = by_person && self.settings.role == Role::Primary;
        if release {
            self.moves.procedure.released = Some(duty.epoch);
            self.moves.expires = Some(now.boot + self.takeover_after() * 2 + self.settings.start_limit);
            self.moves.releasing.clone_from(&leaving.handover);
            self.moves.conceded = leaving.then == Then::Concede;
            self.moves.procedure.overlap_ms = healed;
            if let Some(conflict) = lost {
                self.moves.against = conflict.peer_epoch;
            }
        }
        self.settle_after(now, (duty.epoch, took), &leaving, release, healed);
        if let Some(handover) = leaving.handover.as_ref().filter(|_| !release && !roll_back) {
            let sentence = "the hand-over did not succeed: it broke while the plugins were being stopped";
            let saying = Saying::new(sentence).request(Some(handover.request.clone()));
            self.say(EventCode::HandoverFailed, Severity::Warn, saying);
        }
        if let Some(handover) = leaving.handover.filter(|_| roll_back) {
            let sentence = format!(
                "{} can no longer take the duty: this node starts its plugins again",
                self.peer_name()
            );
            let saying = Saying::new(sentence.clone()).request(Some(handover.request));
            self.say(EventCode::HandoverFailed, Severity::Warn, saying);
            let cause = "the hand-over broke before the release".to_owned();
            self.acquire(now, Grounds { kind: Kind::Back, sentence, cause, request: None, automatic: false });
        } else if self.stopping.is_some() && !release {
            self.finish();
        } else {
            self.decide(now);
        }
    }

    fn settle_after(
        &mut self,
        now: Now,
        (epoch, took): (Epoch, Duration),
        leaving: &Leaving,
        release: bool,
        healed: Option<u64>,
    ) {
        let stop = words(took);
        let inactive = core::mem::take(&mut self.said.redundancy_active);
        let request = leaving.handover.as_ref().map(|handover| handover.request.clone());
        let measures = Measures { overlap_ms: healed, ..Measures::default() };
        let (to, sentence) = match (leaving.then, release) {
            (Then::Restart, _) => (
                State::Starting,
                format!("every plugin of epoch {epoch} is gone: this node waits for its peer"),
            ),
            (_, true) => (
                State::Standby,
                format!("every plugin of epoch {epoch} ended within {stop}: the duty is the peer's"),
            ),
            (_, false) => (State::Standby, format!("every plugin of epoch {epoch} ended within {stop}")),
        };
        if to == State::Starting {
            // Reports from before prove nothing now: only an echo of something sent from here on does.
            self.health.stalled = Some(now.boot);
        }
        let (code, sentence) = match (inactive && to == State::Standby, release) {
            (true, true) => (
                EventCode::RedundancyInactive,
                format!("redundancy is inactive again: the primary is accessible ({sentence})"),
            ),
            (true, false) => {
                (EventCode::RedundancyInactive, format!("redundancy is inactive again: {sentence}"))
            }
            (false, _) => (EventCode::StateChanged, sentence),
        };
        self.go(now, to, code, Severity::Info, Saying::new(sentence).request(request).measures(measures));
        if healed.is_some() {
            let sentence = format!("both nodes were active; this one gave way and has stopped epoch {epoch}");
            self.say(EventCode::ConflictHealed, Severity::Warn, Saying::new(sentence).measures(measures));
        }
    }

    /// A requested stop is complete.
    pub(super) fn finish(&mut self) {
        let Some(stopping) = self.stopping.as_mut().filter(|stopping| !stopping.finished) else { return };
        stopping.finished = true;
        let (sentence, effect) = match stopping.mode {
            Some(mode) => (
                format!("this node starts anew as {mode}: none of its plugins runs"),
                Effect::ChangeMode { mode },
            ),
            None => ("this node stops: none of its plugins runs".to_owned(), Effect::Finish),
        };
        self.say(EventCode::NodeStopped, Severity::Info, Saying::new(sentence));
        self.out.push(effect);
    }

    // ---------------------------------------------------------------------------------------- tombstone

    /// A fresh secret for this session and epoch.
    pub(super) fn arm_tombstone(&mut self) {
        if !matches!(self.state, State::TakingOver | State::Active) || self.peer.session.is_none() {
            return;
        }
        if self.peer.session.as_ref().is_some_and(|session| session.mode == Mode::Deactivated) {
            return;
        }
        if let Some(duty) = self.duty.as_mut() {
            duty.tombstone = None;
            self.out.push(Effect::ArmTombstone { epoch: duty.epoch });
        }
    }

    /// Since when this node itself has had plugins running.
    pub(super) fn running_since(&self) -> BootTime {
        self.duty.as_ref().map_or(self.since, |duty| duty.taken)
    }
}
