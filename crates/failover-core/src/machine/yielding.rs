//! `Yielding`: stops the plugins. Ends only when every plugin process has been reaped.

use super::{Machine, Now};
use crate::{Input, MaintenanceWindow};

impl Machine {
    pub(super) fn in_yielding(&mut self, now: Now, input: Input) {
        match input {
            Input::Woke => {
                self.pass_time(now);
                self.check_lease(now);
                self.check_stop(now);
            }
            Input::Stalled { late_by } => {
                self.stalled(now, late_by);
                self.check_lease(now);
            }
            Input::SessionProved { session, via, peer, role, mode } => {
                self.session_proved(now, session, via, peer, role, mode)
            }
            Input::BeatArrived { session, beat } => {
                // Heard and kept; what follows is decided when every plugin is gone.
                if self.beat_arrived(now, session, *beat) {
                    self.look_for_conflict_in_yielding(now);
                }
            }
            Input::SessionEnded { session, cause } => self.session_ended(now, session, &cause),
            Input::DialFinished { path, outcome } => self.dial_finished(now, path, outcome),
            // It has the duty already: the peer's death changes nothing here.
            Input::RefusalConfirmed | Input::TombstoneRead { .. } => {}
            // A yielding node promises nothing any more.
            Input::TombstoneArmed { .. } => {}
            // Late news of what is being stopped anyway.
            Input::PluginsReady { .. } | Input::PluginsFailed { .. } => {}
            Input::PluginsReaped { epoch } => {
                if self.is_mine(epoch) {
                    self.reaped(now);
                }
            }
            Input::StopStuck { epoch, what } => {
                if self.is_mine(epoch) {
                    self.stop_stuck(what);
                }
            }
            Input::GuardFired { epoch, why } => {
                if self.is_mine(epoch) {
                    self.guard_fired(now, &why);
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
}
