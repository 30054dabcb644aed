//! What people see: the one word with its reason, the lasting warnings, the whole view.

use super::{Machine, Now};
use crate::{
    Arbitration, EventCode, FailbackMode, Fitness, LinkVerdict, Mode, PeerView, Redundancy, Role, Severity,
    State, View, Warning, Word,
};

impl Machine {
    pub(super) fn describe(&self, now: Now) -> View {
        View {
            redundancy: self.redundancy(now),
            identity: self.settings.identity.clone(),
            mode: self.settings.mode,
            role: self.settings.role,
            state: self.state,
            since: self.since,
            why: self.why.clone(),
            epoch: self.duty.as_ref().map(|duty| duty.epoch),
            fit: self.fitness(),
            order: self.lease.order,
            guard_deadline: self.guard_deadline(),
            takeover_after: self.takeover_after(),
            peer: self.peer_view(now),
            procedure: self.moves.procedure.clone(),
            maintenance: self.memory.maintenance.clone(),
            switchover_blocked: self.switchover_blocked(now),
            flap_latched: self.said.latched,
            warnings: self.warnings(now),
        }
    }

    fn peer_view(&self, now: Now) -> PeerView {
        let waits = matches!(self.state, State::Starting | State::Standby);
        let may = self.settings.role == Role::Primary || self.memory.paired_with.is_some();
        let held = self.held_by_unproved().is_some() && self.living(now).is_none();
        let apart = waits
            && may
            && !held
            && !self.is_deactivated()
            && self.stopping.is_none()
            && self.maintenance_allows();
        let deaf = self.peer.link == LinkVerdict::Established && self.silence_due() <= now.boot;
        let unheard = || LinkVerdict::Silent("the session is open, but nothing is acknowledged".to_owned());
        let link = if deaf { unheard() } else { self.peer.link.clone() };
        PeerView {
            link,
            since: self.peer.link_since,
            paired_with: self.memory.paired_with.clone(),
            report: self.peer.report.clone(),
            last_echo: self.peer.last_echo,
            round_trip: self.peer.round_trip,
            paths: self.path_views(now),
            promise_until: self.promise_until(),
            takeover_due: apart.then(|| self.silence_verdict_due()),
        }
    }

    fn redundancy(&self, now: Now) -> Redundancy {
        let (word, reason) = self.word(now);
        Redundancy { word, reason }
    }

    fn word(&self, now: Now) -> (Word, String) {
        let name = self.peer_name();
        if self.is_deactivated() {
            return (Word::Off, "redundancy is deactivated on this node".to_owned());
        }
        if let Some(stopping) = &self.stopping {
            return (Word::Lost, format!("this node {}", stopping.words()));
        }
        let Some(report) = self.partner(now) else { return (Word::Lost, self.lost_because(now)) };
        if self.moves.deactivating.is_some() {
            return (Word::Degraded, format!("{name} is being told that redundancy is to be deactivated"));
        }
        if self.conflict.is_some() || self.said.clash {
            return (Word::Degraded, "both nodes are active; the pair is healing".to_owned());
        }
        let (holder, other_fit, other) = match (self.state, report.state) {
            (State::Active, State::Standby) => (true, &report.fit, name.clone()),
            (State::Standby, State::Active) => (true, &self.fitness(), "this node".to_owned()),
            (State::Active, state) => {
                return (Word::Degraded, format!("{name} is {state}, not yet on standby"));
            }
            (own, State::Active) => {
                return (Word::Degraded, format!("{name} is active; this node is {own}, not yet on standby"));
            }
            (own, State::TakingOver | State::Yielding) | (own @ (State::TakingOver | State::Yielding), _) => {
                return (
                    Word::Degraded,
                    format!("the duty is moving: this node is {own}, {name} is {}", report.state),
                );
            }
            (own, other) => {
                return (Word::Lost, format!("nobody is active: this node is {own}, {name} is {other}"));
            }
        };
        debug_assert!(holder, "every other pair has returned");
        if let Fitness::Unfit(why) = other_fit {
            return (Word::Degraded, format!("{other} could not take over now: {why}"));
        }
        if let Some(window) = &self.memory.maintenance.window {
            return (Word::Degraded, format!("maintenance ({}) holds back every takeover", window.reason));
        }
        if report.summary.project != self.summary.project
            && !report.summary.project.is_empty()
            && !self.summary.project.is_empty()
        {
            return (Word::Degraded, "the two nodes have different plugin definitions".to_owned());
        }
        let active = if self.state == State::Active { "this node".to_owned() } else { name };
        (Word::Ready, format!("{active} is active, {other} could take over now"))
    }

    fn lost_because(&self, now: Now) -> String {
        let name = self.peer_name();
        if self.peer.fresh && self.peer.report.as_ref().is_some_and(|report| report.mode == Mode::Deactivated)
        {
            return format!("{name} runs without redundancy");
        }
        match &self.peer.link {
            LinkVerdict::Silent(seen) => format!("{name} is not connected: {seen}"),
            LinkVerdict::Unproved(_) => {
                format!("what answers in place of {name} has not proved that it belongs to this pair")
            }
            LinkVerdict::ProvedRefused(why) => format!("{name} is refused: {why}"),
            LinkVerdict::Established if self.silence_due() <= now.boot => format!("{name} no longer answers"),
            LinkVerdict::Established => format!("{name} has only just connected"),
        }
    }

    fn warnings(&self, now: Now) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |code, severity, sentence: String| warnings.push(Warning { code, severity, sentence });
        let name = self.peer_name();
        if let Some(what) = self.lease.stuck() {
            warn(
                EventCode::StopStuck,
                Severity::Critical,
                format!("the stop does not come to an end: {what}"),
            );
        }
        if self.conflict.is_some() || self.said.clash {
            warn(EventCode::ConflictFound, Severity::Critical, format!("{name} is active, too"));
        }
        if let Some(held) = &self.said.held {
            let maintenance = self.memory.maintenance.window.is_some();
            let (code, severity) = if maintenance {
                (EventCode::MaintenanceHolds, Severity::Critical)
            } else {
                (EventCode::TakeoverHeld, Severity::Error)
            };
            warn(code, severity, held.clone());
        }
        if let LinkVerdict::ProvedRefused(why) = &self.peer.link {
            warn(EventCode::PeerRefused, Severity::Error, format!("{name} is refused: {why}"));
        }
        if let LinkVerdict::Unproved(seen) = &self.peer.link {
            warn(
                EventCode::PeerUnproved,
                Severity::Error,
                format!(
                    "what answers in place of {name} has not proved that it belongs to this pair: {seen}"
                ),
            );
        }
        if self.said.standalone {
            warn(EventCode::PeerStandalone, Severity::Error, format!("{name} runs without redundancy"));
        }
        if self.said.latched {
            warn(
                EventCode::FlapLatched,
                Severity::Error,
                "automatic hand-back is blocked after too many moves".to_owned(),
            );
        }
        if let Some(why) = &self.health.storage {
            warn(
                EventCode::StorageDegraded,
                Severity::Error,
                format!("the data directory cannot be written: {why}"),
            );
        }
        self.lesser_warnings(now, &mut warn);
        warnings.sort_by_key(|warning| core::cmp::Reverse(warning.severity));
        warnings
    }

    fn lesser_warnings(&self, now: Now, warn: &mut impl FnMut(EventCode, Severity, String)) {
        let name = self.peer_name();
        if self.said.disconnected {
            warn(EventCode::PeerDisconnected, Severity::Warn, format!("{name} is disconnected"));
        }
        for sentence in self.lost_paths(now) {
            warn(EventCode::PathLost, Severity::Warn, sentence);
        }
        if let Fitness::Unfit(why) = self.fitness() {
            warn(EventCode::NodeUnfit, Severity::Warn, format!("this node could not run the plugins: {why}"));
        }
        if let Some(Fitness::Unfit(why)) = self.living(now).map(|report| &report.fit) {
            warn(EventCode::PeerUnfit, Severity::Warn, format!("{name} could not run the plugins: {why}"));
        }
        if let Some(window) = &self.memory.maintenance.window {
            warn(EventCode::MaintenanceSet, Severity::Warn, format!("maintenance: {}", window.reason));
        }
        for sentence in &self.settings.unsafe_settings {
            warn(EventCode::UnsafeSetting, Severity::Warn, sentence.clone());
        }
        let returns = self.settings.failback == FailbackMode::Automatic
            && self.settings.arbitration == Arbitration::None;
        if self.moves.return_held && returns {
            let sentence =
                "a person moved the duty away: the automatic return waits for the next one".to_owned();
            warn(EventCode::TakeoverHeld, Severity::Info, sentence);
        }
    }
}
