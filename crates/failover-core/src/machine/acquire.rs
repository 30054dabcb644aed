//! Who may take the duty, when, and why: the start table and the rules of silence.
//!
//! ```text
//!   the peer answers ──► verdict_beside ──► released to me? start table? it has the duty: stand by
//!   it does not      ──► verdict_in_silence ──► proof of death, or T (Starting: startup_wait) without an echo
//! ```

use core::time::Duration;

use super::parts::{Grounds, Kind, words};
use super::words::Saying;
use super::{Machine, Now};
use crate::{
    BootTime, Epoch, EventCode, FailbackMode, HandoverReason, LinkVerdict, Mode, Report, Role, Severity,
    State, timing,
};

/// What the rules say to a node without the duty.
pub(super) enum Verdict {
    /// Take it.
    Take(Grounds),
    /// The peer has it.
    StandBy(String),
    /// It would be due, but something a person should know of holds it back.
    Hold(EventCode, Severity, String),
    /// Nothing is due.
    Wait,
}

impl Machine {
    /// Decides in `Starting` and `Standby`.
    pub(super) fn decide(&mut self, now: Now) {
        if self.stopping.is_some() || !matches!(self.state, State::Starting | State::Standby) {
            return;
        }
        self.note_fitness(now);
        if self.is_deactivated() {
            if self.epoch_at_hand(now) && self.jump_due().is_none_or(|due| due <= now.boot) {
                self.stand_alone(now);
            }
            return;
        }
        let verdict = self.verdict(now);
        let just_proved = self.peer.session.is_some() && !self.peer.fresh;
        if !matches!(verdict, Verdict::Hold(..)) && !just_proved {
            (self.said.held, self.said.held_due) = (None, None);
        }
        match verdict {
            Verdict::Take(grounds) => self.acquire(now, grounds),
            Verdict::StandBy(sentence) => self.settle_down(now, sentence),
            Verdict::Hold(code, severity, sentence) => {
                self.tell_held(now, code, severity, &sentence);
                self.settle_down(now, sentence);
            }
            Verdict::Wait => {}
        }
        self.consider_return(now);
    }

    /// Not too often, whatever it is: who comes and goes at the peer's address could have two reasons told by turns. What is
    /// not said now is said when the pause is over and it still holds.
    fn tell_held(&mut self, now: Now, code: EventCode, severity: Severity, sentence: &str) {
        let news = self.said.held.as_deref() != Some(sentence);
        if !news && self.said.held_due.is_none() {
            return;
        }
        self.said.held = Some(sentence.to_owned());
        self.said.held_due = self.said.held_pause.quiet_until(now.boot);
        if self.said.held_due.is_none() {
            self.said.held_pause.said(now.boot);
            self.say(code, severity, Saying::new(sentence));
        }
    }

    fn settle_down(&mut self, now: Now, sentence: String) {
        if self.state == State::Starting {
            self.go(now, State::Standby, EventCode::StateChanged, Severity::Info, Saying::new(sentence));
        }
    }

    pub(super) fn verdict(&self, now: Now) -> Verdict {
        match self.living(now) {
            Some(report) => self.verdict_beside(now, report),
            None => self.verdict_in_silence(now),
        }
    }

    // ---------------------------------------------------------------------------------------- beside a peer

    fn verdict_beside(&self, now: Now, report: &Report) -> Verdict {
        let name = self.peer_name();
        if report.mode == Mode::Deactivated || report.state == State::Standalone {
            return Verdict::StandBy(format!(
                "{name} is alive and runs without redundancy: this node never takes over beside it"
            ));
        }
        let busy = report.state.may_run_plugins();
        if let LinkVerdict::ProvedRefused(why) = &self.peer.link {
            return if busy {
                Verdict::StandBy(format!("{name} has the duty (and is refused: {why})"))
            } else {
                self.verdict_beside_refused(now, report, why)
            };
        }
        if let Some(released) = self.released_to_me(report) {
            let ask = self.moves.procedure.ask.as_ref();
            let request = ask.map(|ask| ask.request.clone());
            let automatic = ask.is_none_or(|ask| ask.reason == HandoverReason::Return);
            return if self.willing().is_ok() {
                let sentence = format!("{name} released epoch {released}: the duty is this node's");
                Verdict::Take(Grounds {
                    kind: Kind::Released,
                    sentence,
                    cause: self.release_cause(),
                    request,
                    automatic,
                })
            } else {
                Verdict::Wait
            };
        }
        if busy {
            return Verdict::StandBy(format!("{name} has the duty ({})", report.state));
        }
        self.start_table(now, report)
    }

    fn release_cause(&self) -> String {
        self.moves.procedure.ask.as_ref().map_or_else(
            || "the peer gave the duty away".to_owned(),
            |ask| match ask.reason {
                HandoverReason::Return => "the primary is back and stable".to_owned(),
                HandoverReason::Switchover => "a person asked for a switchover".to_owned(),
                HandoverReason::Stop => "the other node is being stopped".to_owned(),
            },
        )
    }

    /// Nobody is active beside a refused peer: the primary runs its plugins, a secondary never starts beside it. Two
    /// primaries agree on the one that held the duty last, else on the smaller node id.
    fn verdict_beside_refused(&self, now: Now, report: &Report, why: &str) -> Verdict {
        let own = (self.memory.last_held, core::cmp::Reverse(self.settings.identity.node));
        let other = (report.last_held, core::cmp::Reverse(report.identity.node));
        let first = report.role == Role::Secondary || own > other;
        if self.settings.role == Role::Primary && report.identity.node != self.settings.identity.node && first
        {
            return self.start_if_ready(
                now,
                format!("nobody has the duty and the refused peer stands by: {why}"),
                "the start table",
            );
        }
        Verdict::Hold(
            EventCode::TakeoverHeld,
            Severity::Error,
            format!("this node does not start beside a living peer that is refused: {why}"),
        )
    }

    /// The epoch that the peer released to this node, unless it was used or declined before.
    pub(super) fn released_to_me(&self, report: &Report) -> Option<Epoch> {
        let unused = |released: &Epoch| self.memory.last_held.is_none_or(|held| held < *released);
        let declined = self.moves.procedure.declined;
        report.procedure.released.filter(|released| unused(released) && declined != Some(*released))
    }

    fn start_table(&self, now: Now, report: &Report) -> Verdict {
        if self.moves.procedure.released.is_some()
            || report.procedure.released.is_some_and(|r| self.moves.procedure.declined == Some(r))
        {
            return Verdict::Wait;
        }
        let designated = self.designated(report);
        let mine = match (self.fitness().is_fit(), report.fit.is_fit()) {
            _ if self.memory.maintenance.window.is_some() => self.maintenance_allows(),
            (true, false) => designated || !self.said.latched,
            (false, true) => false,
            (true, true) => designated && self.turn_due().is_some_and(|due| due <= now.boot),
            (false, false) => designated,
        };
        // Whatever keeps the designated node from acting, two connected nodes do not stay dark for much longer than T.
        let overdue = self.dark_due().is_some_and(|due| due <= now.boot);
        if !mine && !overdue || !self.fitness_is_known() {
            return Verdict::Wait;
        }
        if !self.maintenance_allows() {
            return self.maintenance_holds();
        }
        let sentence = if mine {
            format!("nobody has the duty and it is this node's turn: {} stands by", self.peer_name())
        } else {
            format!("nobody has taken the duty for {}: this node takes it", words(self.dark_for(now)))
        };
        self.start_if_ready(now, sentence, "the start table")
    }

    fn dark_for(&self, now: Now) -> Duration {
        self.said.dark.map_or_else(Duration::default, |since| now.boot.since(since))
    }

    fn start_if_ready(&self, now: Now, sentence: String, cause: &str) -> Verdict {
        if !self.may_try() || (self.state == State::Starting && !self.epoch_at_hand(now)) {
            return Verdict::Wait;
        }
        Verdict::Take(Grounds {
            kind: Kind::Start,
            sentence,
            cause: cause.to_owned(),
            request: None,
            automatic: false,
        })
    }

    /// Whose turn it is when both nodes are there and nobody has the duty.
    pub(super) fn designated(&self, report: &Report) -> bool {
        let primary = self.settings.role == Role::Primary;
        match self.settings.failback {
            FailbackMode::Automatic => primary,
            FailbackMode::Manual => match self.memory.last_held.cmp(&report.last_held) {
                core::cmp::Ordering::Greater => true,
                core::cmp::Ordering::Less => false,
                core::cmp::Ordering::Equal => primary,
            },
        }
    }

    /// From when on the designated node may act: the primary at once; a secondary, which only its own rule designates,
    /// once a primary with another rule would have acted: it waits for its disk at most, and its report is on its way.
    pub(super) fn turn_due(&self) -> Option<BootTime> {
        match self.settings.role {
            Role::Primary => Some(self.started),
            Role::Secondary => {
                let disk = self.interval().min(Duration::from_secs(1));
                self.said.dark.map(|since| since + disk + timing::longest_round_trip(self.interval()))
            }
        }
    }

    /// When two connected nodes have been dark for too long. Both may find so: the secondary lets the primary go first.
    pub(super) fn dark_due(&self) -> Option<BootTime> {
        let ample = self.interval() * 2;
        let patience = match self.settings.role {
            Role::Primary => self.takeover_after().max(ample),
            Role::Secondary => self.takeover_after().max(ample) + ample,
        };
        self.said.dark.map(|since| since + patience)
    }

    /// Whether a start may be tried now: not settling, not within a backoff.
    pub(super) const fn may_try(&self) -> bool {
        self.health.retry.is_none() && self.health.stalled.is_none()
    }

    // ---------------------------------------------------------------------------------------- beside nobody

    /// When silence will have lasted long enough in the state of now.
    pub(super) fn silence_verdict_due(&self) -> BootTime {
        let waits = self.state == State::Starting && self.rules.wait_at_start;
        if self.peer.dead.is_some() || (self.state == State::Starting && !waits) {
            self.started
        } else if waits {
            self.silence_due().max(self.since + self.wait_at_start())
        } else {
            self.silence_due()
        }
    }

    /// How long a start looks for the peer. A primary may be brief, for a secondary is not; between two nodes of one role,
    /// as a change of the mode leaves them for a while, that holds for neither.
    fn wait_at_start(&self) -> Duration {
        let alike = self.memory.peer_role == Some(self.settings.role);
        let least = if alike { timing::ALIKE_WAIT } else { Duration::ZERO };
        self.settings.startup_wait.max(least)
    }

    fn verdict_in_silence(&self, now: Now) -> Verdict {
        if now.boot < self.silence_verdict_due() {
            return Verdict::Wait;
        }
        let name = self.peer_name();
        if self.held_by_unproved().is_some() {
            // Not what it answers: a stranger could have that said anew with each dial.
            let sentence = format!(
                "no takeover: something answers in place of {name} and has not proved that it belongs to this pair"
            );
            return Verdict::Hold(EventCode::TakeoverHeld, Severity::Error, sentence);
        }
        if self.memory.peer_alone {
            let sentence = format!(
                "no takeover: {name} ran without redundancy (mode deactivated) when it was last heard, and starts its \
                 plugins by itself; if it is surely off, take over by hand with `onduty takeover`"
            );
            return Verdict::Hold(EventCode::TakeoverHeld, Severity::Error, sentence);
        }
        if self.settings.role == Role::Secondary && self.memory.paired_with.is_none() {
            let sentence = "no takeover: this secondary has never been connected to a primary".to_owned();
            return Verdict::Hold(EventCode::TakeoverHeld, Severity::Warn, sentence);
        }
        if !self.maintenance_allows() {
            return self.maintenance_holds();
        }
        if !self.may_try() || (self.state == State::Starting && !self.epoch_at_hand(now)) {
            return Verdict::Wait;
        }
        let silence = words(now.boot.since(self.silent_since()));
        match &self.peer.dead {
            Some(proof) => Verdict::Take(Grounds {
                kind: Kind::Proof,
                sentence: format!("{name} has failed: this node takes the duty at once"),
                cause: proof.clone(),
                request: None,
                automatic: true,
            }),
            None => Verdict::Take(Grounds {
                kind: Kind::Silence,
                sentence: format!("{name} has been silent for {silence}: this node takes the duty"),
                cause: self.silence_cause(),
                request: None,
                automatic: true,
            }),
        }
    }

    fn silence_cause(&self) -> String {
        match &self.peer.link {
            LinkVerdict::Silent(seen) | LinkVerdict::Unproved(seen) | LinkVerdict::ProvedRefused(seen) => {
                seen.clone()
            }
            LinkVerdict::Established => "the session is open, but nothing is acknowledged".to_owned(),
        }
    }

    /// Maintenance holds everything but the return of the node that had the duty last.
    pub(super) fn maintenance_allows(&self) -> bool {
        let same_holder = self.memory.last_held.is_some_and(|held| held >= self.epochs.seen());
        self.memory.maintenance.window.is_none() || same_holder
    }

    fn maintenance_holds(&self) -> Verdict {
        let reason = self.memory.maintenance.window.as_ref().map_or("", |window| window.reason.as_str());
        let sentence = format!(
            "nobody has the duty, and maintenance ({reason}) holds this node back: take over by hand with \
             `onduty takeover`, or end it with `onduty maintenance off`"
        );
        Verdict::Hold(EventCode::MaintenanceHolds, Severity::Critical, sentence)
    }
}
