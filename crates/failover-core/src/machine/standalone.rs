//! `Standalone`, mode `deactivated`: the plugins run here whatever the peer does; no automatic transition.

use super::parts::words;
use super::words::Saying;
use super::{Machine, Now};
use crate::{EventCode, Input, MaintenanceWindow, Severity};

impl Machine {
    pub(super) fn in_standalone(&mut self, now: Now, input: Input) {
        match input {
            Input::Woke => {
                self.pass_time(now);
                self.check_lease_alone(now);
                self.check_stop(now);
                if let Some(why) = self.start_overdue(now) {
                    self.begin_again(now, &why, false);
                }
                self.start_again(now);
            }
            Input::Stalled { late_by } => {
                self.stalled(now, late_by);
                self.check_lease_alone(now);
            }
            Input::SessionProved { session, via, peer, role, mode } => {
                self.session_proved(now, session, via, peer, role, mode)
            }
            Input::BeatArrived { session, beat } => {
                if self.beat_arrived(now, session, *beat) {
                    self.look_for_conflict(now);
                }
            }
            Input::SessionEnded { session, cause } => self.session_ended(now, session, &cause),
            Input::DialFinished { path, outcome } => self.dial_finished(now, path, outcome),
            // It has the duty already: the peer's death changes nothing here.
            Input::RefusalConfirmed | Input::TombstoneRead { .. } => {}
            // No peer waits for this node to die.
            Input::TombstoneArmed { .. } => {}
            Input::PluginsReady { epoch } => {
                if self.is_mine(epoch) {
                    self.all_ready(now);
                }
            }
            Input::PluginsFailed { epoch, why } => {
                if self.is_mine(epoch) {
                    self.begin_again(now, &why, false);
                }
            }
            Input::PluginsReaped { epoch } => {
                if self.is_mine(epoch) {
                    self.all_gone(now);
                }
            }
            Input::StopStuck { epoch, what } => {
                if self.is_mine(epoch) {
                    self.stop_stuck(what);
                }
            }
            Input::GuardFired { epoch, why } => {
                if self.is_mine(epoch) {
                    self.begin_again(now, &why, true);
                }
            }
            Input::PreflightChanged { unfit } => self.health.preflight = unfit,
            Input::SummaryChanged(summary) => self.summary = *summary,
            Input::EpochsReserved { up_to } => self.epochs_reserved(up_to),
            Input::StorageChanged { trouble } => self.storage_changed(trouble),
            Input::LicenceChanged(licence) => self.licence.note(licence),
            Input::SwitchoverRequested { request } => self.switchover_requested(now, request),
            Input::StopRequested { handover } => self.stop_requested(now, handover),
            Input::MaintenanceSet { reason, by, until_unix } => {
                self.maintenance_set(MaintenanceWindow { reason, by, until_unix });
            }
            Input::MaintenanceCleared { by } => self.maintenance_cleared(&format!("ended by {by}")),
            Input::MaintenanceExpired { version } => self.maintenance_expired(version),
            Input::TakeoverRequested { request } => self.nothing_to_take(request),
            Input::ModeRequested { request, mode, force } => self.mode_requested(now, request, mode, force),
        }
    }

    fn check_lease_alone(&mut self, now: Now) {
        if self.lease_lapsed(now) {
            self.begin_again(now, "the duty lease ran out while this node stood still", true);
        }
    }

    fn all_ready(&mut self, now: Now) {
        let Some(duty) = self.duty.as_mut().filter(|duty| duty.ready.is_none()) else { return };
        duty.ready = Some(now.boot);
        let (epoch, took) = (duty.epoch, now.boot.since(duty.taken));
        self.health.failures = 0;
        let sentence =
            format!("every plugin runs with epoch {epoch} after {}, without redundancy", words(took));
        self.say(EventCode::StateChanged, Severity::Info, Saying::new(sentence));
    }

    /// The plugins ended or must end: once every one is reaped they start again, after the backoff.
    fn begin_again(&mut self, now: Now, why: &str, fired: bool) {
        let Some(epoch) = self.duty.as_ref().map(|duty| duty.epoch) else { return };
        if self.lease.ending_since().is_some() {
            // They are being stopped already: one failure, however it ends.
            if fired {
                self.order_kill(now, epoch);
            }
            return;
        }
        self.note_failure(now, why);
        if fired {
            self.order_kill(now, epoch);
        } else {
            self.order_stop(now, epoch);
        }
        let code = if fired { EventCode::GuardFired } else { EventCode::StartFailed };
        let sentence = format!("the plugins ended: this node starts them again in {}", words(self.backoff()));
        self.say(code, Severity::Error, Saying::new(sentence).cause(why));
    }

    fn all_gone(&mut self, now: Now) {
        if self.lease.ending_since().is_none() {
            self.note_failure(now, "every plugin process has ended although none was told to");
        }
        self.duty = None;
        self.order_over();
        self.start_again(now);
    }

    fn start_again(&mut self, now: Now) {
        if self.duty.is_none() && self.health.retry.is_none() && self.stopping.is_none() {
            self.stand_alone(now);
        }
    }
}
