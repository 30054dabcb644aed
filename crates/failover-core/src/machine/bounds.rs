//! How long this node waits for its own supervisor: a start that is never reported, a stop that never ends.
//!
//! A supervisor that lives keeps limits of its own and reports sooner. These are for one that does not: no state of the
//! node depends on an answer that may never come.

use core::time::Duration;

use super::parts::words;
use super::words::Saying;
use super::{Machine, Now};
use crate::{BootTime, DutyOrder, Epoch, EventCode, Severity, State};

/// How long the supervisor may go beyond its own limit for a start or a stop before this node acts without its word.
const SLACK: Duration = Duration::from_secs(5);

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

    /// When a stop that nobody has reported as done becomes a kill: its limit and the slack.
    fn kill_due(&self) -> Option<(Epoch, BootTime)> {
        let Some(DutyOrder::Stop { epoch, .. }) = self.lease.order else { return None };
        let since = self.lease.ending_since()?;
        Some((epoch, since + self.settings.stop_limit + SLACK))
    }

    /// When even the kill counts as stuck although nobody has said so: the slack once more.
    fn stuck_due(&self) -> Option<BootTime> {
        let since = self.lease.ending_since().filter(|_| self.lease.stuck().is_none())?;
        Some(since + self.settings.stop_limit + SLACK * 2)
    }

    /// When a stop is looked at again.
    pub(super) fn stop_ends(&self) -> Option<BootTime> {
        let kill = self.kill_due().map(|(_, due)| due);
        kill.into_iter().chain(self.stuck_due()).min()
    }

    pub(super) fn check_stop(&mut self, now: Now) {
        if let Some((epoch, _)) = self.kill_due().filter(|(_, due)| *due <= now.boot) {
            let sentence = "the stop has gone beyond its limit: every plugin is killed".to_owned();
            self.say(EventCode::StopStuck, Severity::Error, Saying::new(sentence));
            self.order_kill(now, epoch);
        }
        if self.stuck_due().is_some_and(|due| due <= now.boot) {
            self.stop_stuck("the supervisor has not reported that every process has ended".to_owned());
        }
    }

    /// The stop has gone beyond its limit: never reported as done.
    pub(super) fn stop_stuck(&mut self, what: String) {
        if !self.lease.note_stuck(&what) {
            return;
        }
        let consequence = if self.state == State::Standalone {
            "the plugins cannot start again"
        } else {
            "the duty cannot move"
        };
        let sentence =
            format!("the stop does not come to an end: something survives SIGKILL, so {consequence}");
        self.say(EventCode::StopStuck, Severity::Critical, Saying::new(sentence).cause(what));
    }
}
