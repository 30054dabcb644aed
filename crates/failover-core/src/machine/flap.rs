//! The flap latch: after too many automatic moves, no more automatic hand-back and health moves. It never holds back
//! a takeover from a silent peer. Its marks are in seconds of the Unix clock because they outlive a restart.

use core::time::Duration;

use super::parts::words;
use super::words::Saying;
use super::{Machine, Now};
use crate::{BootTime, EventCode, Severity};

impl Machine {
    /// Marks the end of an automatic move.
    pub(super) fn mark_move(&mut self, now: Now) {
        self.memory.flap_marks_unix.push(now.unix);
        // More marks than the limit say nothing more.
        let keep = usize::try_from(self.settings.flap_limit.max(1)).unwrap_or(usize::MAX);
        let surplus = self.memory.flap_marks_unix.len().saturating_sub(keep);
        self.memory.flap_marks_unix.drain(..surplus);
    }

    /// Looks at the marks: sets and releases the latch.
    pub(super) fn watch_flapping(&mut self, now: Now) {
        let window = self.settings.flap_window.as_secs();
        // A mark from the future (the wall clock was set back) counts only within the window, too.
        self.memory.flap_marks_unix.retain(|mark| now.unix.abs_diff(*mark) < window);
        let marks = self.memory.flap_marks_unix.len();
        let latched = self.settings.flap_limit > 0
            && marks >= usize::try_from(self.settings.flap_limit).unwrap_or(usize::MAX);
        if latched == self.said.latched {
            return;
        }
        self.said.latched = latched;
        let (code, severity, sentence) = if latched {
            let span = words(self.settings.flap_window);
            (
                EventCode::FlapLatched,
                Severity::Error,
                format!(
                    "the duty moved by itself {marks} times within {span}: no automatic hand-back until it has been quiet"
                ),
            )
        } else {
            (EventCode::FlapReleased, Severity::Info, "automatic hand-back is allowed again".to_owned())
        };
        self.say(code, severity, Saying::new(sentence));
    }

    /// When the oldest mark leaves the window, on the boot-time clock.
    pub(super) fn flap_due(&self) -> Option<BootTime> {
        self.said.latch_check
    }

    /// Converts the end of the window into a deadline; only now are both clocks at hand.
    pub(super) fn plan_flap_check(&mut self, now: Now) {
        let oldest = self.memory.flap_marks_unix.iter().min().filter(|_| self.said.latched);
        self.said.latch_check = oldest.map(|mark| {
            let end = mark.saturating_add(self.settings.flap_window.as_secs());
            now.boot + Duration::from_secs(end.saturating_sub(now.unix).max(1))
        });
    }
}
