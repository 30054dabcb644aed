//! `Standby`: every plugin process has been reaped. Watches the peer, answers its offers, asks for the duty.

use super::{Machine, Now};
use crate::{Input, MaintenanceWindow};

impl Machine {
    pub(super) fn in_standby(&mut self, now: Now, input: Input) {
        match input {
            Input::Woke => {
                self.pass_time(now);
                self.decide(now);
            }
            Input::Stalled { late_by } => self.stalled(now, late_by),
            // A proof is a sign of life; what it means for the duty, the first report tells.
            Input::SessionProved { session, via, peer, role, mode } => {
                self.session_proved(now, session, via, peer, role, mode)
            }
            Input::BeatArrived { session, beat } => self.heard_in_idle(now, session, *beat),
            Input::SessionEnded { session, cause } => {
                self.session_ended(now, session, &cause);
                self.decide(now);
            }
            Input::DialFinished { path, outcome } => {
                self.dial_finished(now, path, outcome);
                self.decide(now);
            }
            Input::RefusalConfirmed => {
                self.refusal_confirmed();
                self.decide(now);
            }
            Input::TombstoneRead { epoch } => {
                self.tombstone_read(epoch);
                self.decide(now);
            }
            // It holds no duty: whatever the supervisor says is of an epoch that is over.
            Input::TombstoneArmed { .. }
            | Input::PluginsReady { .. }
            | Input::PluginsFailed { .. }
            | Input::PluginsReaped { .. }
            | Input::StopStuck { .. }
            | Input::GuardFired { .. } => {}
            Input::PreflightChanged { unfit } => {
                self.health.preflight = unfit;
                self.decide(now);
            }
            Input::SummaryChanged(summary) => self.summary = *summary,
            Input::EpochsReserved { up_to } => {
                self.epochs_reserved(up_to);
                self.decide(now);
            }
            Input::StorageChanged { trouble } => {
                self.storage_changed(trouble);
                self.decide(now);
            }
            Input::LicenceChanged(licence) => self.licence_changed(now, licence),
            Input::SwitchoverRequested { request } => self.switchover_requested(now, request),
            Input::StopRequested { handover } => self.stop_requested(now, handover),
            Input::MaintenanceSet { reason, by, until_unix } => {
                self.maintenance_set(MaintenanceWindow { reason, by, until_unix });
            }
            Input::MaintenanceCleared { by } => {
                self.maintenance_cleared(&format!("ended by {by}"));
                self.decide(now);
            }
            Input::MaintenanceExpired { version } => {
                self.maintenance_expired(version);
                self.decide(now);
            }
            Input::TakeoverRequested { request } => self.takeover_requested(now, request),
            Input::ModeRequested { request, mode, force } => self.mode_requested(now, request, mode, force),
        }
    }
}
