//! Inputs that mean the same in every state, or in every state with the duty.

use core::time::Duration;

use super::parts::words;
use super::words::Saying;
use super::{Machine, Now};
use crate::{
    Epoch, EventCode, Fitness, Maintenance, MaintenanceWindow, Report, RequestId, Role, Severity,
    TombstonePromise,
};

impl Machine {
    /// Whether the node could run the plugins, and if not, why.
    pub(super) fn fitness(&self) -> Fitness {
        let storage = self.health.storage.as_ref().filter(|_| !self.epochs.in_reserve());
        let why = if let Some(stopping) = &self.stopping {
            Some(format!("it {}", stopping.words()))
        } else if self.health.stalled.is_some() && self.duty.is_none() {
            Some("it has stood still and listens to its peer first".to_owned())
        } else if let Some(why) = &self.health.preflight {
            Some(why.clone())
        } else if let Some(why) = storage {
            Some(format!("the data directory cannot be written and no epoch is in reserve: {why}"))
        } else {
            self.health.retry.map(|_| format!("the last start failed: {}", self.health.failed))
        };
        why.map_or(Fitness::Fit, Fitness::Unfit)
    }

    /// Takes note of when the fitness changes; before every decision, for the peer decides by it, too.
    pub(super) fn note_fitness(&mut self, now: Now) {
        let fit = self.fitness().is_fit();
        if self.health.seen.is_none_or(|(seen, _)| seen != fit) {
            self.health.seen = Some((fit, now.boot));
        }
    }

    /// Whether the peer has answered since the fitness of this node changed. Until then it may be taking the duty by what it
    /// was told before.
    pub(super) fn fitness_is_known(&self) -> bool {
        let Some((_, since)) = self.health.seen else { return false };
        let told_first = self.peer.session.as_ref().is_some_and(|session| since < session.since);
        told_first || self.peer.last_echo.is_some_and(|echo| since < echo)
    }

    /// The loop stood still: nothing heard before counts as new, and silence starts afresh.
    pub(super) fn stalled(&mut self, now: Now, late_by: Duration) {
        // The driver and each session see the same gap; it is one event.
        let told =
            self.health.stalled.replace(now.boot).is_some_and(|end| now.boot.since(end) < self.interval());
        if told {
            return;
        }
        let sentence = format!("this node stood still for {}", words(late_by));
        self.say(EventCode::Stalled, Severity::Warn, Saying::new(sentence));
    }

    /// What ends by itself.
    pub(super) fn pass_time(&mut self, now: Now) {
        if self.health.retry.is_some_and(|retry| retry <= now.boot) {
            self.health.retry = None;
        }
        let settle = self.takeover_after();
        if self.health.stalled.is_some_and(|end| end + settle <= now.boot) {
            self.health.stalled = None;
        }
        self.expire_moves(now);
    }

    pub(super) fn storage_changed(&mut self, trouble: Option<String>) {
        match (&self.health.storage, &trouble) {
            (before, Some(why)) if before.as_ref() != Some(why) => {
                let sentence = "the data directory cannot be written; the node goes on".to_owned();
                self.say(
                    EventCode::StorageDegraded,
                    Severity::Error,
                    Saying::new(sentence).cause(why.clone()),
                );
            }
            (Some(_), None) => {
                self.forget_reservation();
                self.say(
                    EventCode::StorageRestored,
                    Severity::Info,
                    Saying::new("the data directory can be written again"),
                );
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        self.health.storage = trouble;
    }

    pub(super) fn tombstone_armed(&mut self, epoch: Epoch, sha256: [u8; 32]) {
        let open = self.peer.session.is_some();
        if let Some(duty) = self.duty.as_mut().filter(|duty| open && duty.epoch == epoch) {
            duty.tombstone = Some(TombstonePromise { epoch, sha256 });
        }
    }

    /// Whether the supervisor speaks of the epoch of now.
    pub(super) fn is_mine(&self, epoch: Epoch) -> bool {
        self.duty.as_ref().is_some_and(|duty| duty.epoch == epoch)
    }

    // ---------------------------------------------------------------------------------------- maintenance

    pub(super) fn maintenance_set(&mut self, window: MaintenanceWindow) {
        let sentence = format!(
            "maintenance is on ({}), set by {}: no takeover and no hand-back",
            window.reason, window.by
        );
        self.turn_maintenance(Some(window));
        self.say(EventCode::MaintenanceSet, Severity::Warn, Saying::new(sentence));
    }

    pub(super) fn maintenance_cleared(&mut self, how: &str) {
        if self.memory.maintenance.window.is_none() {
            return;
        }
        self.turn_maintenance(None);
        self.said.held = None;
        self.say(
            EventCode::MaintenanceCleared,
            Severity::Info,
            Saying::new(format!("maintenance is over: {how}")),
        );
    }

    pub(super) fn maintenance_expired(&mut self, version: u64) {
        if version == self.memory.maintenance.version {
            self.maintenance_cleared("its time has come");
        }
    }

    fn turn_maintenance(&mut self, window: Option<MaintenanceWindow>) {
        let known = self.peer.report.as_ref().map_or(0, |report| report.maintenance.version);
        let version = self.memory.maintenance.version.max(known).saturating_add(1);
        self.memory.maintenance = Maintenance { version, window };
    }

    /// Pair-wide: the newer set or clear wins, a tie is the primary's.
    pub(super) fn merge_maintenance(&mut self, report: &Report) {
        let own = &self.memory.maintenance;
        let theirs = &report.maintenance;
        let tie = own.version == theirs.version
            && self.settings.role == Role::Secondary
            && report.role == Role::Primary;
        if theirs == own || !(theirs.version > own.version || tie) {
            return;
        }
        self.memory.maintenance = theirs.clone();
        self.said.held = None;
        let (code, sentence) = match &theirs.window {
            Some(window) => (
                EventCode::MaintenanceSet,
                format!("maintenance is on ({}), set by {} on the other node", window.reason, window.by),
            ),
            None => (EventCode::MaintenanceCleared, "maintenance was ended on the other node".to_owned()),
        };
        self.say(code, Severity::Warn, Saying::new(sentence));
    }

    // ---------------------------------------------------------------------------------------- refusals

    /// A request to take the duty by hand on a node that has it.
    pub(super) fn nothing_to_take(&mut self, request: RequestId) {
        if !self.moves.settled.contains(&request) {
            let why = format!("this node is {}: there is nothing to take", self.state);
            self.refuse(request, why);
        }
    }
}
