//! `TakingOver`: has the duty and starts the plugins. Ends when the supervisor says that every one is ready, or failed.

use super::{Machine, Now};
use crate::{Input, MaintenanceWindow};

impl Machine {
    pub(super) fn in_taking_over(&mut self, now: Now, input: Input) {
        match input {
            Input::Woke => {
                self.pass_time(now);
                self.outwait_conflict(now);
                self.check_lease(now);
                self.check_keep(now);
                self.check_start(now);
            }
            // First of all the lease: beats that waited in a socket must not speak for it.
            Input::Stalled { late_by } => {
                self.stalled(now, late_by);
                self.check_lease(now);
                self.check_keep(now);
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
            Input::TombstoneArmed { epoch, sha256 } => self.tombstone_armed(epoch, sha256),
            Input::PluginsReady { epoch } => {
                if self.is_mine(epoch) {
                    self.complete(now);
                }
            }
            Input::PluginsFailed { epoch, why } => {
                if self.is_mine(epoch) {
                    self.fail(now, &why);
                }
            }
            Input::PluginsReaped { epoch } => {
                if self.is_mine(epoch) {
                    self.fail(now, "every plugin process has ended although none was told to");
                    self.reaped(now);
                }
            }
            // Nothing is being stopped.
            Input::StopStuck { .. } => {}
            Input::GuardFired { epoch, why } => {
                if self.is_mine(epoch) {
                    self.guard_fired(now, &why);
                }
            }
            Input::PreflightChanged { unfit } => self.health.preflight = unfit,
            Input::SummaryChanged(summary) => self.summary = *summary,
            Input::EpochsReserved { up_to } => self.epochs_reserved(up_to),
            Input::StorageChanged { trouble } => self.storage_changed(trouble),
            Input::LicenceChanged(licence) => {
                self.licence.note(licence);
                self.check_keep(now);
            }
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
