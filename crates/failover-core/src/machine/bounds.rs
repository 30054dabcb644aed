//! How long this node waits for its own supervisor: a start that is never reported, a stop that never ends.
//!
//! A supervisor that lives keeps limits of its own and reports sooner. These are for one that does not: no state of the
//! node depends on an answer that may never come.

use core::time::Duration;

use super::parts::words;
use super::words::Saying;
use super::{Machine, Now};
use crate::{BootTime, DutyOrder, EventCode, Severity};

/// How long the supervisor may go beyond its own limit for a start or a stop before this node acts without its word.
pub(super) const SLACK: Duration = Duration::from_secs(5);

impl Machine {
    /// When a start counts as failed although nobody has said so.
    pub(super) fn start_ends(&self) -> Option<BootTime> {
        let starting = matches!(self.lease.order, Some(DutyOrder::Run { .. }));
        let duty = self.duty.as_ref().filter(|duty| starting && duty.ready.is_none())?;
        Some(duty.taken + self.settings.start_limit + SLACK)
    }

    /// Why the start of now has failed by the clock alone.
    pub(super) fn start_overdue(&self, now: Now) -> Option<String> {
        let waited = self.settings.start_limit + SLACK;
        self.start_ends().filter(|end| *end <= now.boot).map(|_| {
            format!("the supervisor has reported neither readiness nor failure within {}", words(waited))
        })
    }

    /// When a stop counts as stuck although nobody has said so: its limit, the slack, and as much again for the kill.
    pub(super) fn stop_ends(&self) -> Option<BootTime> {
        let leaving = self.leaving.as_ref().filter(|leaving| leaving.stuck.is_none())?;
        Some(leaving.began + self.settings.stop_limit + SLACK * 2)
    }

    pub(super) fn check_stop(&mut self, now: Now) {
        if self.stop_ends().is_some_and(|end| end <= now.boot) {
            self.stop_stuck("the supervisor has not reported that every process has ended".to_owned());
        }
    }

    /// The stop has gone beyond its limit: never reported as done.
    pub(super) fn stop_stuck(&mut self, what: String) {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.stuck.as_ref() != Some(&what))
        else {
            return;
        };
        leaving.stuck = Some(what.clone());
        let sentence =
            "the stop does not come to an end: something survives SIGKILL, so the duty cannot move"
                .to_owned();
        self.say(EventCode::StopStuck, Severity::Critical, Saying::new(sentence).cause(what));
    }
}
