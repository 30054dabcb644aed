//! A requested stop, for good or for a start in another mode: the duty is handed over first where it can be.

use super::parts::{Stopping, Then};
use super::words::Saying;
use super::{Machine, Now};
use crate::{EventCode, Handover, HandoverReason, Severity, State};

impl Machine {
    pub(super) fn stop_requested(&mut self, now: Now, handover: bool) {
        let finished = self.stopping.is_some_and(|stop| stop.finished);
        let handover = handover && self.settings.handover_on_stop;
        self.begin_stop(now, Stopping { mode: None, handover, finished });
    }

    /// Stops what runs here, after a hand-over where `stopping` asks for one and the peer can take the duty.
    pub(super) fn begin_stop(&mut self, now: Now, stopping: Stopping) {
        let again = self.stopping.replace(stopping).is_some();
        let handover = stopping.handover;
        self.deactivation_failed(&format!("this node {}", stopping.words()));
        match self.state {
            // The peer has not yet answered the release: the end of this node would only look like silence to it.
            State::Standby if handover && !again && self.release_unanswered() => {}
            State::Starting | State::Standby => self.finish(),
            State::Yielding => {}
            // The move that is under way serves the stop as well; if it fails, the stop goes on without.
            State::Active if handover && self.moves.procedure.offer.is_some() => {}
            State::Active if handover && self.could_give(now) => {
                let request = self.own_request("stop");
                self.begin_offer(now, Handover { request, reason: HandoverReason::Stop });
            }
            State::TakingOver if handover && self.could_give(now) => self.stop_plainly(now, Then::Release),
            State::TakingOver | State::Active | State::Standalone => self.stop_plainly(now, Then::Standby),
        }
    }

    fn release_unanswered(&self) -> bool {
        self.moves.procedure.released.is_some() && self.peer.session.is_some()
    }

    pub(super) fn could_give(&self, now: Now) -> bool {
        let fit =
            self.partner(now).is_some_and(|report| report.state == State::Standby && report.fit.is_fit());
        fit && self.memory.maintenance.window.is_none() && self.leaving.is_none()
    }

    pub(super) fn stop_plainly(&mut self, now: Now, then: Then) {
        let saying = match self.stopping.and_then(|stopping| stopping.mode) {
            Some(mode) => Saying::new(format!("this node is to be {mode}: its plugins end"))
                .cause("a change of the mode was requested"),
            None => Saying::new("this node is being stopped: its plugins end").cause("a stop was requested"),
        };
        self.give_up(now, then, None, EventCode::StateChanged, Severity::Info, saying);
        if self.state == State::Standalone {
            self.finish(); // Nothing was running.
        }
    }
}
