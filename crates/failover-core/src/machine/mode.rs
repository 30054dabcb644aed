//! Changes of the mode at run time: what may change when, and how plugins never run twice on the way.
//!
//! ```text
//!   a new role      the duty moves or the plugins stop ──► every one reaped ──► ChangeMode ──► a new run, in `Starting`
//!   deactivated     the reports say so ──► the peer has heard ──► Active becomes Standalone; the plugins go on
//! ```
//!
//! A new role is a new run: whatever a restart keeps safe, a change of the role keeps safe, too, and there is no third way
//! in which a machine could come to a role. Between the two changes that swap a pair both nodes are primaries: each refuses
//! the other, so no duty moves, and whoever has it keeps it. Two secondaries would start nothing, so the order is enforced:
//! first the secondary becomes a primary, then the primary a secondary.
//!
//! Mode `deactivated` takes effect in place, because a start in it waits for nobody: were it a new run, a peer that takes
//! over meanwhile would run the plugins, too. It is in force only when the peer has answered a report that says so, for from
//! then on the peer's silence rule is off (`peer_alone`).

use super::parts::{Deactivating, Stopping};
use super::words::Saying;
use super::{Machine, Now};
use crate::{EventCode, Fitness, LinkVerdict, Mode, Report, RequestId, Role, Severity, State, timing};

impl Machine {
    /// The mode that reports tell: one that is to come is told before it is in force.
    pub(super) const fn mode_told(&self) -> Mode {
        if self.moves.deactivating.is_some() { Mode::Deactivated } else { self.settings.mode }
    }

    pub(super) fn mode_requested(&mut self, now: Now, request: RequestId, mode: Mode, force: bool) {
        let known = self.moves.deactivating.as_ref().is_some_and(|begun| begun.request == request);
        if known || self.moves.settled.contains(&request) {
            return; // The same request again.
        }
        if let Some(why) = self.mode_blocked(now, mode, force) {
            self.refuse(request, why);
            return;
        }
        match mode.role() {
            Some(_) => self.change_role(now, request, mode),
            None if self.living(now).is_some() && !force => self.tell_of_deactivation(now, request),
            None => self.deactivate(now, request),
        }
    }

    // ---------------------------------------------------------------------------------------- what is refused

    fn mode_blocked(&self, now: Now, mode: Mode, force: bool) -> Option<String> {
        if let Some(stopping) = &self.stopping {
            return Some(format!("this node {} already", stopping.words()));
        }
        if mode == self.settings.mode {
            return Some(format!("the mode is {mode} already"));
        }
        if matches!(self.state, State::TakingOver | State::Yielding) {
            return Some(format!("this node is {}: ask again when that is over", self.state));
        }
        if self.moves.under_way() {
            return Some("a move of the duty is under way: ask again when it is over".to_owned());
        }
        if force {
            return None;
        }
        if self.memory.maintenance.window.is_some() {
            return Some("maintenance is on, and nothing moves: end it first".to_owned());
        }
        match mode.role() {
            Some(role) => self.role_blocked(now, role),
            None => self.deactivation_blocked(now),
        }
    }

    fn deactivation_blocked(&self, now: Now) -> Option<String> {
        let name = self.peer_name();
        match self.living(now) {
            Some(report) if report.state.may_run_plugins() || report.mode == Mode::Deactivated => Some(
                format!("{name} runs the plugins: they would run twice (`--force` does it all the same)"),
            ),
            Some(_) if self.state != State::Active => Some(format!(
                "nobody has the duty now, and {name} may take it at any moment: ask again when one of the two is active"
            )),
            Some(_) => None,
            None if self.knows_a_peer() => Some(format!(
                "{name} is not in sight: it may run the plugins, and they would run twice; if it is surely off, use \
                 `--force`"
            )),
            None => None,
        }
    }

    fn role_blocked(&self, now: Now, role: Role) -> Option<String> {
        let name = self.peer_name();
        let Some(report) = self.living(now) else {
            return match (self.knows_a_peer(), role) {
                (true, _) => Some(format!(
                    "{name} is not in sight, so nobody can tell whether the two modes would fit; if it is gone for good, \
                     use `--force`"
                )),
                (false, Role::Secondary) => Some(
                    "this node has never been connected to a primary: as a secondary it would stop its plugins and wait \
                     for one (`--force` does it all the same)"
                        .to_owned(),
                ),
                (false, Role::Primary) => None,
            };
        };
        if report.mode == Mode::Deactivated {
            return None;
        }
        match (role, report.role) {
            (Role::Secondary, Role::Secondary) => Some(format!(
                "two secondaries would start nothing: first make {name} a primary, with `onduty mode primary` there"
            )),
            (Role::Primary, Role::Primary) if self.is_deactivated() => {
                Some(format!("two primaries refuse each other: this node can be the secondary of {name}"))
            }
            (Role::Primary | Role::Secondary, _) => self.nobody_left(now, role, report),
        }
    }

    /// Why nobody would run the plugins that this node runs now.
    fn nobody_left(&self, now: Now, role: Role, report: &Report) -> Option<String> {
        if self.state != State::Active || report.state.may_run_plugins() {
            return None;
        }
        let gives = matches!(self.peer.link, LinkVerdict::Established);
        match (role, gives) {
            // The duty goes to the peer before this node changes.
            (_, true) if self.could_give(now) => None,
            (_, true) => {
                let why = self.switchover_blocked(now).unwrap_or_else(|| "it is not ready".to_owned());
                Some(format!("the duty cannot be handed over first: {why} (`--force` does without)"))
            }
            // The roles will fit, and then the start table decides.
            (Role::Primary, false) => None,
            (Role::Secondary, false) => match &report.fit {
                Fitness::Fit => None,
                Fitness::Unfit(why) => Some(format!(
                    "{} could not run the plugins: {why} (`--force` changes the mode all the same)",
                    self.peer_name()
                )),
            },
        }
    }

    const fn knows_a_peer(&self) -> bool {
        self.memory.paired_with.is_some() || self.peer.session.is_some()
    }

    // ---------------------------------------------------------------------------------------- a new role

    fn change_role(&mut self, now: Now, request: RequestId, mode: Mode) {
        self.moves.settle(&request);
        if self.living(now).is_none() {
            // A person has forced it and answers for the peer: the next run need not look for it longer than usual.
            self.memory.peer_role = None;
        }
        let before = self.settings.mode;
        let how = if self.state.may_run_plugins() {
            "its plugins end here, then it starts anew"
        } else {
            "it starts anew"
        };
        let sentence = format!("this node changes its mode from {before} to {mode}: {how}");
        self.say(EventCode::ModeChanged, Severity::Info, Saying::new(sentence).request(Some(request)));
        self.begin_stop(now, Stopping { mode: Some(mode), handover: true, finished: false });
    }

    // ---------------------------------------------------------------------------------------- deactivated

    /// The reports say it from now on; it is in force when the peer has heard: its answer comes with its next heartbeats.
    fn tell_of_deactivation(&mut self, now: Now, request: RequestId) {
        let patience = self.takeover_after().max(self.interval() * 4);
        self.moves.deactivating = Some(Deactivating { request, since: now.boot, until: now.boot + patience });
    }

    /// When the attempt to tell the peer has lasted for too long.
    pub(super) fn deactivation_due(&self) -> Option<crate::BootTime> {
        self.moves.deactivating.as_ref().map(|begun| begun.until)
    }

    /// The peer has answered: had it read the report before this node's mode was in it, it would have answered sooner.
    pub(super) fn deactivation_heard(&mut self, now: Now) {
        let echo = self.peer.last_echo;
        let heard = self
            .moves
            .deactivating
            .as_ref()
            .is_some_and(|begun| echo.is_some_and(|echo| begun.since + timing::SCHEDULING_DELAY < echo));
        if !heard {
            return;
        }
        if self.living(now).is_none_or(|report| report.state.may_run_plugins()) {
            self.deactivation_failed("it runs the plugins, too");
        } else if let Some(begun) = self.moves.deactivating.take() {
            self.deactivate(now, begun.request);
        }
    }

    /// The peer could not be told, or something else came first.
    pub(super) fn deactivation_failed(&mut self, why: &str) {
        let Some(begun) = self.moves.deactivating.take() else { return };
        let mode = self.settings.mode;
        let name = self.peer_name();
        self.refuse(
            begun.request,
            format!("the mode stays {mode}: {name} could not be told of the change ({why})"),
        );
    }

    fn deactivate(&mut self, now: Now, request: RequestId) {
        self.moves.settle(&request);
        self.forget_moves(None);
        let before = core::mem::replace(&mut self.settings.mode, Mode::Deactivated);
        self.conflict = None;
        self.said.held = None;
        self.said.disconnected = false;
        self.said.redundancy_active = false;
        // No takeover waits for the end of these plugins any more.
        if let Some(duty) = self.duty.as_mut() {
            duty.tombstone = None;
        }
        let twice = self
            .living(now)
            .is_some_and(|report| report.state.may_run_plugins() || report.mode == Mode::Deactivated);
        let unknown = self.living(now).is_none() && self.knows_a_peer();
        let (severity, consequence) = match (twice, unknown) {
            (true, _) => (Severity::Critical, "the plugins run twice, as a person has asked for"),
            (false, true) => (
                Severity::Error,
                "the other node is not in sight; if it runs the plugins, they run twice, as a person has asked for",
            ),
            (false, false) => (Severity::Warn, "the plugins run here, without redundancy"),
        };
        let sentence = format!("the mode was changed from {before} to {}: {consequence}", Mode::Deactivated);
        let saying = Saying::new(sentence).request(Some(request));
        if self.state == State::Active {
            self.go(now, State::Standalone, EventCode::ModeChanged, severity, saying);
        } else {
            self.say(EventCode::ModeChanged, severity, saying);
            self.decide(now);
        }
    }
}
