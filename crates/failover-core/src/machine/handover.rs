//! Planned moves of the duty: switchover, return, stop.
//!
//! ```text
//!   active                               standby
//!   offer{request} ───────────────────►  willing? ask{request}, else refusal{request, why}
//!   Yielding  ◄──────────────────────────┘        (a standby may begin with its own ask, too)
//!   every plugin reaped: released(e) ─►  TakingOver, or declined(e): the duty goes back
//! ```
//!
//! Before the release the duty is the old holder's: whatever breaks, it restarts what it stopped. After it, the duty
//! is the target's alone. Nothing is a one-time command: all of it stands in the report until it is answered, and
//! lapses by itself.

use core::time::Duration;

use super::parts::{Grounds, Kind, Then, words};
use super::words::Saying;
use super::{Machine, Now};
use crate::{
    Beat, BootTime, Epoch, EventCode, FailbackMode, Handover, HandoverReason, LinkVerdict, Procedure, Report,
    RequestId, Role, SessionId, Severity, State,
};

/// The pause after an automatic return that did not succeed doubles up to this, or stays what it is where it is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Machine {
    // ---------------------------------------------------------------------------------------- people

    pub(super) fn switchover_requested(&mut self, now: Now, request: RequestId) {
        let known = |handover: &Option<Handover>| handover.as_ref().is_some_and(|h| h.request == request);
        if self.moves.settled.contains(&request)
            || known(&self.moves.procedure.offer)
            || known(&self.moves.procedure.ask)
        {
            return; // The same request again: the move under way, or over, answers it.
        }
        if let Some(why) = self.switchover_blocked(now) {
            self.refuse(request, why);
            return;
        }
        let handover = Handover { request, reason: HandoverReason::Switchover };
        if self.state == State::Active {
            self.begin_offer(now, handover);
        } else {
            self.begin_ask(now, handover, "a person asked for a switchover");
        }
    }

    pub(super) fn refuse(&mut self, request: RequestId, why: String) {
        self.moves.settle(&request);
        self.say(EventCode::RequestRefused, Severity::Warn, Saying::new(why).request(Some(request)));
    }

    /// Why a switchover cannot begin now.
    pub(super) fn switchover_blocked(&self, now: Now) -> Option<String> {
        let name = self.peer_name();
        if self.is_deactivated() {
            return Some("redundancy is deactivated".to_owned());
        }
        if let Some(stopping) = &self.stopping {
            return Some(format!("this node {}", stopping.words()));
        }
        if self.memory.maintenance.window.is_some() {
            return Some("maintenance is on: end it first, or take over by hand".to_owned());
        }
        if self.moves.under_way() {
            return Some("a move of the duty is already under way".to_owned());
        }
        let Some(report) = self.partner(now) else {
            return Some(format!("{name} is not connected as a fitting peer"));
        };
        match (self.state, report.state) {
            (State::Active, State::Standby) => self.unfit_reason(report, &name),
            (State::Standby, State::Active) => self.willing().err(),
            (State::Active, other) => Some(format!("{name} is not on standby but {other}")),
            (own, other) => Some(format!("there is nothing to move: this node is {own}, {name} is {other}")),
        }
    }

    fn unfit_reason(&self, report: &Report, name: &str) -> Option<String> {
        match &report.fit {
            crate::Fitness::Fit => None,
            crate::Fitness::Unfit(why) => Some(format!("{name} could not run the plugins: {why}")),
        }
    }

    /// Whether this node would take a duty that is given to it, or why not.
    pub(super) fn willing(&self) -> Result<(), String> {
        if self.memory.maintenance.window.is_some() {
            return Err("maintenance is on".to_owned());
        }
        match self.fitness() {
            crate::Fitness::Fit => Ok(()),
            crate::Fitness::Unfit(why) => Err(why),
        }
    }

    pub(super) fn takeover_requested(&mut self, now: Now, request: RequestId) {
        if self.moves.settled.contains(&request) {
            return;
        }
        if let Some(why) = self.takeover_blocked(now) {
            self.refuse(request, why);
            return;
        }
        self.health.retry = None;
        self.memory.peer_alone = false;
        let sentence = "a person takes the duty by hand".to_owned();
        let cause = format!("request {request}");
        self.acquire(
            now,
            Grounds { kind: Kind::ByHand, sentence, cause, request: Some(request), automatic: false },
        );
    }

    /// Why a person cannot take the duty by hand now.
    pub(super) fn takeover_blocked(&self, now: Now) -> Option<String> {
        let name = self.peer_name();
        let alive = self.living(now);
        if !matches!(self.state, State::Starting | State::Standby) || self.is_deactivated() {
            Some(format!("this node is {}: there is nothing to take", self.state))
        } else if let Some(stopping) = &self.stopping {
            Some(format!("this node {}", stopping.words()))
        } else if alive.is_some_and(|report| report.state.may_run_plugins()) {
            Some(format!("{name} is alive and has the duty: ask for a switchover"))
        } else if alive.is_none() && self.peer.dead.is_none() && now.boot < self.silence_due() {
            Some(format!("{name} has not been silent for {} yet", words(self.takeover_after())))
        } else if let Some(why) = alive.and_then(|report| self.left_to(report)) {
            Some(format!("{name} may be taking the duty at this moment ({why}): ask again in a moment"))
        } else {
            self.health.preflight.clone()
        }
    }

    /// Why a living peer without the duty may take it by itself, as it knows this node: a person who takes it here at the
    /// same moment would make both active.
    fn left_to(&self, report: &Report) -> Option<&'static str> {
        if !matches!(self.peer.link, LinkVerdict::Established) {
            return None;
        }
        if self.moves.procedure.released.is_some() {
            return Some("it has just been released to it");
        }
        if self.health.stalled.is_some() {
            return Some("this node has stood still and does not know yet what it missed");
        }
        let held_back = report.maintenance.window.is_some() && report.last_held < Some(self.epochs.seen());
        let its_turn = match (self.fitness().is_fit(), report.fit.is_fit()) {
            (true, false) => false,
            (false, true) => true,
            (true, true) | (false, false) => !self.designated(report),
        };
        if held_back {
            None
        } else if its_turn {
            Some("it is its turn")
        } else {
            (!self.fitness_is_known()).then_some("it may not know yet that this node can run the plugins")
        }
    }

    // ---------------------------------------------------------------------------------------- beginning

    pub(super) fn own_request(&mut self, word: &str) -> RequestId {
        self.moves.counter += 1;
        // The instance is random and new at each start: the id is unique without a clock or a generator here.
        let instance = self.settings.identity.instance.to_string();
        RequestId(format!("{word}-{}-{}", instance.get(..12).unwrap_or_default(), self.moves.counter))
    }

    fn expiry(&self, now: Now) -> BootTime {
        now.boot + self.takeover_after() * 2 + self.settings.start_limit + self.settings.stop_limit
    }

    pub(super) fn begin_offer(&mut self, now: Now, handover: Handover) {
        let sentence = format!("the duty is offered to {}", self.peer_name());
        self.begun(now, sentence, &handover);
        self.moves.procedure.offer = Some(handover);
    }

    fn begin_ask(&mut self, now: Now, handover: Handover, cause: &str) {
        let sentence = format!("{} is asked for the duty: {cause}", self.peer_name());
        self.begun(now, sentence, &handover);
        self.moves.against = self.peer.report.as_ref().and_then(|report| report.epoch);
        self.moves.procedure.ask = Some(handover);
    }

    fn begun(&mut self, now: Now, sentence: String, handover: &Handover) {
        self.moves.expires = Some(self.expiry(now));
        let saying = Saying::new(sentence).request(Some(handover.request.clone()));
        self.say(EventCode::HandoverBegun, Severity::Info, saying);
    }

    /// The primary asks for the duty back once it has been fit and connected for long enough.
    pub(super) fn consider_return(&mut self, now: Now) {
        if self.return_due().is_none_or(|due| now.boot < due) {
            return;
        }
        let Some(report) = self.partner(now) else { return };
        if report.state != State::Active || self.willing().is_err() {
            return;
        }
        let request = self.own_request("return");
        self.begin_ask(
            now,
            Handover { request, reason: HandoverReason::Return },
            "the primary is back and stable",
        );
    }

    /// When the primary may ask; `None` while something else stands against it.
    pub(super) fn return_due(&self) -> Option<BootTime> {
        let allowed = self.settings.role == Role::Primary
            && !self.is_deactivated()
            && self.state == State::Standby
            && self.settings.failback == FailbackMode::Automatic
            && self.stopping.is_none()
            && !self.moves.return_held
            && !self.moves.under_way()
            && !self.said.latched
            && self.memory.maintenance.window.is_none();
        let session = self.peer.session.as_ref().filter(|_| allowed && self.peer.fresh)?;
        let stable = session.since.max(self.health.fit_since?) + self.settings.stable_for;
        Some(stable.max(self.moves.return_after.unwrap_or_default()))
    }

    // ---------------------------------------------------------------------------------------- the standby's side

    /// A beat for a node without the duty.
    pub(super) fn heard_in_idle(&mut self, now: Now, session: SessionId, beat: Beat) {
        if self.beat_arrived(now, session, beat) {
            self.moves_in_idle(now);
            self.decide(now);
        }
    }

    /// What the peer's report means for the moves of a node without the duty.
    pub(super) fn moves_in_idle(&mut self, now: Now) {
        let Some(report) = self.partner(now).cloned() else { return };
        self.own_release(now, &report);
        self.own_ask(now, &report);
        self.answer_offer(now, &report);
        let procedure = &mut self.moves.procedure;
        if procedure.declined.is_some() && procedure.declined != report.procedure.released {
            procedure.declined = None;
        }
        let settled = self.health.stalled.is_none();
        if let (Some(released), Err(why), true) = (self.released_to_me(&report), self.willing(), settled) {
            self.moves.procedure.declined = Some(released);
            let sentence = format!("this node cannot take the duty that was released to it: {why}");
            self.say(EventCode::HandoverFailed, Severity::Error, Saying::new(sentence));
        }
    }

    fn own_release(&mut self, now: Now, report: &Report) {
        let Some(released) = self.moves.procedure.released else { return };
        let name = self.peer_name();
        if report.state.may_run_plugins() && report.epoch.is_some_and(|epoch| epoch > released) {
            let unheard = self.moves.conceded && report.epoch == self.moves.against;
            if report.state != State::Active || unheard {
                return; // It has begun, or has not heard of it yet; the release stands until it is complete, or fails.
            }
            let conceded = self.moves.conceded;
            let request = self.moves.releasing.take().map(|handover| handover.request);
            let epoch = report.epoch.unwrap_or_default();
            let sentence = format!("the duty has moved: {name} is active with epoch {epoch}");
            self.close_release();
            if !conceded {
                self.say(EventCode::HandoverDone, Severity::Info, Saying::new(sentence).request(request));
            }
            if self.stopping.is_some() {
                self.finish();
            }
        } else if report.procedure.declined == Some(released) {
            let request = self.moves.releasing.take().map(|handover| handover.request);
            self.close_release();
            let sentence = format!("{name} could not take the duty: it goes back to this node");
            self.say(
                EventCode::HandoverFailed,
                Severity::Error,
                Saying::new(sentence.clone()).request(request),
            );
            if self.stopping.is_some() {
                self.finish();
            } else if self.may_try() && self.maintenance_allows() {
                let cause = format!("{name} declined epoch {released}");
                self.acquire(
                    now,
                    Grounds { kind: Kind::Back, sentence, cause, request: None, automatic: false },
                );
            }
        }
    }

    fn close_release(&mut self) {
        self.moves.procedure.released = None;
        self.moves.procedure.overlap_ms = None;
        self.moves.releasing = None;
        self.moves.conceded = false;
        self.moves.expires = None;
    }

    fn own_ask(&mut self, now: Now, report: &Report) {
        let Some(ask) = self.moves.procedure.ask.clone() else { return };
        let refused = report.procedure.refusal.as_ref().filter(|(request, _)| *request == ask.request);
        let went_on = report.state == State::Active && report.epoch != self.moves.against;
        let lost = !report.state.may_run_plugins() && self.released_to_me(report).is_none();
        if let Some((_, why)) = refused {
            self.ask_failed(now, &format!("{} refused: {why}", self.peer_name()));
        } else if went_on {
            self.ask_failed(now, &format!("{} kept the duty", self.peer_name()));
        } else if lost {
            self.ask_failed(now, &format!("{} has lost the duty meanwhile", self.peer_name()));
        }
    }

    fn ask_failed(&mut self, now: Now, why: &str) {
        let Some(ask) = self.moves.procedure.ask.take() else { return };
        self.moves.settle(&ask.request);
        self.moves.expires = None;
        let first = self.settings.stable_for.max(self.takeover_after());
        let doubled = first.saturating_mul(1 << self.moves.return_failures.min(6));
        let pause = doubled.min(LONGEST_PAUSE.max(first));
        self.moves.return_after = Some(now.boot + pause);
        let mut sentence = format!("the hand-over did not succeed: {why}");
        if ask.reason == HandoverReason::Return {
            self.moves.return_failures = self.moves.return_failures.saturating_add(1);
            sentence.push_str(&format!("; this node asks again in {} at the earliest", words(pause)));
        }
        self.say(EventCode::HandoverFailed, Severity::Warn, Saying::new(sentence).request(Some(ask.request)));
    }

    fn answer_offer(&mut self, now: Now, report: &Report) {
        let Some(offer) = report.procedure.offer.as_ref().filter(|_| report.state.may_run_plugins()) else {
            self.moves.procedure.refusal = None;
            return;
        };
        let asks = self.moves.procedure.ask.as_ref() == Some(offer);
        if asks || self.moves.settled.contains(&offer.request) || self.state != State::Standby {
            return;
        }
        match self.willing() {
            Ok(()) => {
                self.moves.procedure.refusal = None;
                self.moves.against = report.epoch;
                self.moves.procedure.ask = Some(offer.clone());
                // The offer's own end is on the other node; this one only must not ask for ever.
                self.moves.expires = Some(self.expiry(now));
            }
            Err(why) => self.moves.procedure.refusal = Some((offer.request.clone(), why)),
        }
    }

    // ---------------------------------------------------------------------------------------- the active's side

    /// What the peer's report means for the moves of the active.
    pub(super) fn moves_in_active(&mut self, now: Now) {
        let Some(report) = self.partner(now).cloned() else { return };
        let offer = self.moves.procedure.offer.clone();
        let answer = report.procedure.refusal.as_ref();
        let refusal =
            answer.filter(|(request, _)| offer.as_ref().is_some_and(|offer| offer.request == *request));
        if let Some((_, why)) = refusal {
            self.offer_failed(now, &format!("{} refused: {why}", self.peer_name()));
            return;
        }
        let Some(ask) =
            report.procedure.ask.as_ref().filter(|ask| !self.moves.settled.contains(&ask.request))
        else {
            self.moves.procedure.refusal = None;
            return;
        };
        let latched = self.said.latched && ask.reason == HandoverReason::Return;
        let blocked = if latched {
            Some("automatic moves are blocked after too many of them".to_owned())
        } else {
            self.giving_blocked(&report)
        };
        if let Some(why) = blocked {
            self.moves.procedure.refusal = Some((ask.request.clone(), why.clone()));
            // What this node offered itself has failed with it; a stop that waited for it goes on without.
            self.offer_failed(now, &why);
            return;
        }
        let handover = offer.unwrap_or_else(|| ask.clone());
        self.moves.settle(&ask.request);
        let why = match handover.reason {
            HandoverReason::Return => "the primary is back and asks for the duty",
            HandoverReason::Switchover => "a person asked for a switchover",
            HandoverReason::Stop => "this node is being stopped and hands over first",
        };
        let sentence = format!("this node yields to {}: {why}", self.peer_name());
        let saying = Saying::new(sentence).cause(why).request(Some(handover.request.clone()));
        self.give_up(now, Then::Release, Some(handover), EventCode::StateChanged, Severity::Info, saying);
    }

    fn giving_blocked(&self, report: &Report) -> Option<String> {
        if self.memory.maintenance.window.is_some() {
            return Some("maintenance is on".to_owned());
        }
        if report.state != State::Standby {
            return Some(format!("the asking node is {}", report.state));
        }
        self.unfit_reason(report, "the asking node")
    }

    fn offer_failed(&mut self, now: Now, why: &str) {
        let Some(offer) = self.moves.procedure.offer.take() else { return };
        self.moves.settle(&offer.request);
        self.moves.expires = None;
        let sentence = format!("the hand-over did not succeed: {why}; this node keeps the duty");
        self.say(
            EventCode::HandoverFailed,
            Severity::Warn,
            Saying::new(sentence).request(Some(offer.request)),
        );
        if self.stopping.is_some() && self.state == State::Active {
            self.stop_plainly(now, Then::Standby);
        }
    }

    // ---------------------------------------------------------------------------------------- ends

    /// What was under way lapses by itself.
    pub(super) fn expire_moves(&mut self, now: Now) {
        if self.deactivation_due().is_some_and(|due| due <= now.boot) {
            self.deactivation_failed("it took too long");
        }
        if self.moves.expires.is_none_or(|expires| now.boot < expires) {
            return;
        }
        self.moves.expires = None;
        self.offer_failed(now, "it took too long");
        self.ask_failed(now, "it took too long");
        if let Some(released) = self.moves.procedure.released {
            self.release_lapsed(released, "it did not take the duty in time");
        }
    }

    fn release_lapsed(&mut self, released: Epoch, why: &str) {
        let request = self.moves.releasing.take().map(|handover| handover.request);
        let conceded = self.moves.conceded;
        self.close_release();
        if !conceded {
            let sentence =
                format!("the release of epoch {released} to {} has lapsed: {why}", self.peer_name());
            self.say(EventCode::HandoverFailed, Severity::Warn, Saying::new(sentence).request(request));
        }
        if self.stopping.is_some() {
            self.finish();
        }
    }

    /// The freeze of automatic decisions ends with the link. A release stands: it is the peer's alone until it lapses.
    pub(super) fn link_lost_for_moves(&mut self, now: Now, why: &str) {
        self.deactivation_failed(why);
        self.offer_failed(now, why);
        self.ask_failed(now, why);
        self.moves.procedure.refusal = None;
        let released = self.moves.procedure.released.is_some();
        if released && self.stopping.is_some() {
            self.finish();
        }
    }

    /// A change of the duty ends whatever was under way here; a move that it does not serve has failed.
    pub(super) fn forget_moves(&mut self, served: Option<&RequestId>) {
        self.deactivation_failed("something else came first");
        let procedure = &mut self.moves.procedure;
        for handover in [procedure.offer.take(), procedure.ask.take()].into_iter().flatten() {
            self.moves.settle(&handover.request);
            if served != Some(&handover.request) {
                let sentence = "the hand-over did not succeed: something else moved the duty first";
                let saying = Saying::new(sentence).request(Some(handover.request));
                self.say(EventCode::HandoverFailed, Severity::Warn, saying);
            }
        }
        self.moves.procedure = Procedure::default();
        self.moves.expires = None;
        self.moves.releasing = None;
        self.moves.conceded = false;
    }
}
