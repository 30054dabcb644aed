//! The other node as the link shows it: sessions, beats, silence, refusals.
//!
//! Silence counts from the newest *own stamp that the peer has echoed*, never from the arrival of an answer: an
//! answer may have been under way for long, and counting from it lets both nodes be active. The start of the process
//! and the end of a stall count as an echo.
//!
//! With several network paths there is one session per path and still one peer: the newest echo over any path counts, and
//! the newest report, by the number that the peer gave it, not the one that arrived last. The link is made or lost when
//! the first session begins or the last one ends.

use core::time::Duration;

use super::paths::Paths;
use super::pause::Pause;
use super::words::Saying;
use super::{Machine, Now};
use crate::{
    Beat, BootTime, DialOutcome, Effect, Epoch, EventCode, Identity, InstanceId, LinkVerdict, Mode,
    OnUnproved, PathId, Report, Role, SessionId, Severity, State, TombstonePromise, Via, timing,
};

/// The peer at the other end of the open sessions: one per path, all with the same run of the same node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) identity: Identity,
    pub(super) role: Role,
    pub(super) mode: Mode,
    /// Since when a session has been open without a gap.
    pub(super) since: BootTime,
    /// Whether the peer has seen a beat of this node since then, so that its report answers ours.
    pub(super) answered: bool,
}

/// What this node knows of its peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) session: Option<Session>,
    pub(super) paths: Paths,
    /// The run of the peer before the newest one.
    former: Option<InstanceId>,
    pub(super) link: LinkVerdict,
    pub(super) link_since: BootTime,
    pub(super) report: Option<Report>,
    /// Whether a beat has come in one of the open sessions: `report` is at least as new.
    pub(super) fresh: bool,
    /// The newest proof. A peer that proves the key and hangs up is refusing this node, not silent.
    proved: Option<BootTime>,
    pub(super) last_echo: Option<BootTime>,
    pub(super) last_arrival: Option<BootTime>,
    pub(super) round_trip: Option<Duration>,
    /// Own newest stamp that the peer answered without having the duty: whatever it did began after it.
    pub(super) idle_seen: Option<BootTime>,
    /// Since when the peer is known to stop its plugins in a planned move.
    pub(super) yielding_since: Option<BootTime>,
    /// The last refusal and whose: it stands in a new session until the timings can be judged again.
    refused: Option<(Identity, String)>,
    promise: Option<TombstonePromise>,
    /// Proof that nothing runs on the peer: which, in words. A new session voids it.
    pub(super) dead: Option<String>,
    /// Of what is said about something that answers and proves nothing.
    unproved: Pause,
}

impl Peer {
    pub(super) fn new(now: BootTime, addresses: &[String]) -> Self {
        Self {
            session: None,
            paths: Paths::new(now, addresses),
            former: None,
            link: LinkVerdict::Silent("nothing has been heard since the start".to_owned()),
            link_since: now,
            report: None,
            fresh: false,
            proved: None,
            last_echo: None,
            last_arrival: None,
            round_trip: None,
            idle_seen: None,
            yielding_since: None,
            refused: None,
            promise: None,
            dead: None,
            unproved: Pause::default(),
        }
    }

    fn turn(&mut self, now: BootTime, link: LinkVerdict) -> bool {
        let changed = core::mem::discriminant(&self.link) != core::mem::discriminant(&link);
        if changed {
            self.link_since = now;
        }
        let news = self.link != link;
        self.link = link;
        news
    }
}

impl Machine {
    // ---------------------------------------------------------------------------------------- silence

    /// What every silence is counted from.
    pub(super) fn silent_since(&self) -> BootTime {
        let told = if self.rules.count_from_echo { self.peer.last_echo } else { self.peer.last_arrival };
        self.started.max(told.unwrap_or_default()).max(self.health.stalled.unwrap_or_default())
    }

    /// When silence has lasted for the takeover time.
    pub(super) fn silence_due(&self) -> BootTime {
        let takeover = self.takeover_after();
        // A proof is a sign of life, too: a session that is only just open has not been echoed yet, and one that the peer
        // has ended shows that it lives.
        let counted = self.silent_since().max(self.peer.proved.unwrap_or_default()) + takeover;
        let due = counted.max(self.peer.last_arrival.unwrap_or_default() + self.at_least_after_an_arrival());
        match (self.settings.on_unproved, self.peer.paths.unproved_until()) {
            (OnUnproved::Hold, Some(until)) => due.max(until + takeover),
            (OnUnproved::Hold, None) | (OnUnproved::TakeOver, _) => due,
        }
    }

    /// How long the peer is left alone after a message from it, whatever the message echoes.
    ///
    /// A primary only answers: a heartbeat that was long on its way, or that this node was late to read, echoes an old
    /// answer and yet shows that the peer lived since, and the peer may have been held alive by it for one more interval.
    /// A secondary asks: what it has not asked in time its session tells (`Input::Stalled`).
    fn at_least_after_an_arrival(&self) -> Duration {
        match self.settings.role {
            Role::Primary => self.takeover_after().saturating_sub(self.interval()),
            Role::Secondary => Duration::ZERO,
        }
    }

    /// The report of a peer that is connected and answers.
    pub(super) fn living(&self, now: Now) -> Option<&Report> {
        // A proof speaks only for a report that came after it: over another path it would lengthen the life of an old one.
        let heard = self.silent_since().max(self.peer.paths.proved_and_heard().unwrap_or_default());
        let due = heard + self.takeover_after();
        let answers = self.peer.session.is_some() && self.peer.fresh && now.boot < due;
        self.peer.report.as_ref().filter(|_| answers)
    }

    /// The report of a peer that is connected, answers, fits and is part of the pair.
    pub(super) fn partner(&self, now: Now) -> Option<&Report> {
        let fits = matches!(self.peer.link, LinkVerdict::Established);
        self.living(now).filter(|report| fits && report.mode != Mode::Deactivated)
    }

    // ---------------------------------------------------------------------------------------- inputs

    pub(super) fn session_proved(
        &mut self,
        now: Now,
        id: SessionId,
        via: Via,
        identity: Identity,
        role: Role,
        mode: Mode,
    ) {
        let path = via.path;
        if let Some(newest) = self.peer.paths.newest(path).filter(|newest| id <= *newest) {
            if id < newest {
                let why = "a newer session was proved before it".to_owned();
                self.out.push(Effect::CloseSession { session: id, why });
            }
            return;
        }
        if self.turned_away(now, id, &identity) {
            return;
        }
        if self.gives_way(now, &via, &identity, role) {
            let why = "the session that the other node dialled at the same time is kept".to_owned();
            self.out.push(Effect::CloseSession { session: id, why });
            return;
        }
        let same_peer = self.peer.session.as_ref().is_none_or(|open| open.identity == identity);
        let carried = same_peer && self.carried_by_another(now, path, identity.instance);
        // Another run of the peer, or another peer: every session with the one before is over.
        for session in self.peer.paths.take(same_peer.then_some(path)) {
            let why = "a newer session of the same peer has replaced it".to_owned();
            self.out.push(Effect::CloseSession { session, why });
        }
        let reported = self.peer.report.as_ref().map(|report| &report.identity);
        let before = self.peer.session.as_ref().map(|open| &open.identity).or(reported);
        let same_run = before.is_some_and(|before| before.instance == identity.instance);
        if !same_run {
            self.peer.former =
                before.filter(|before| before.node == identity.node).map(|before| before.instance);
            self.peer.report = None;
            self.peer.yielding_since = None;
            self.moves.procedure.declined = None;
            // Whoever has to be told of an overlap is gone.
            self.moves.procedure.overlap_ms = None;
        }
        let dials = self.settings.role == Role::Secondary;
        self.peer.paths.open(now.boot, id, via, dials, !same_run);
        self.peer.proved = Some(now.boot);
        self.peer.fresh = self.peer.paths.any_heard();
        self.peer.dead = None;
        self.void_fence();
        if carried {
            return;
        }
        let refusal = self.refusal_of(&identity, role, mode);
        self.peer.session = Some(Session { identity, role, mode, since: now.boot, answered: false });
        self.peer.promise = None;
        self.link_lost_for_moves(now, "the link was made anew");
        self.judge(now, refusal);
        self.arm_tombstone();
    }

    /// Whether a session that has just been proved counts for nothing.
    fn turned_away(&mut self, now: Now, session: SessionId, identity: &Identity) -> bool {
        let Some(open) = &self.peer.session else { return false };
        let own = self.settings.identity.instance;
        if open.identity.instance == own && identity.instance == own {
            return true; // Both ends of one connection: this node has dialled itself.
        }
        if open.identity.node != identity.node && self.living(now).is_some() {
            let name = identity.name.as_str();
            let open = open.identity.name.as_str();
            let why =
                format!("{name} knows the key too, but this node is paired with {open}, which is connected");
            self.say(EventCode::SessionRejected, Severity::Error, Saying::new(why.clone()));
            self.out.push(Effect::CloseSession { session, why });
            return true;
        }
        // What the dead run of the peer had proved may arrive late over a slow path.
        let former = self.peer.former == Some(identity.instance) && open.identity.node == identity.node;
        if former && open.identity.instance != identity.instance && now.boot < self.silence_due() {
            let why = "it is a session of an earlier run of the peer".to_owned();
            self.out.push(Effect::CloseSession { session, why });
            return true;
        }
        false
    }

    /// True when the beat counts; the state then looks at what it says.
    pub(super) fn beat_arrived(&mut self, now: Now, id: SessionId, beat: Beat) -> bool {
        let speaks = self.peer.session.as_mut().filter(|open| open.identity == beat.report.identity);
        let Some(session) = speaks else { return false };
        if !self.peer.paths.heard(now.boot, id, beat.sequence) {
            return false;
        }
        session.answered |= beat.echo.is_some();
        self.peer.fresh = true;
        self.peer.last_arrival = Some(now.boot);
        self.void_fence();
        // A stamp from before this run or from the future is no echo of ours.
        let echo = beat.echo.filter(|echo| (self.started..=now.boot).contains(echo));
        if let Some(echo) = echo {
            // A heartbeat is answered at once, an answer only by the next heartbeat: that is no round trip.
            if self.settings.role == Role::Secondary {
                self.peer.round_trip = Some(now.boot.since(echo));
                self.peer.paths.measured(id, now.boot.since(echo));
            }
            self.peer.last_echo = self.peer.last_echo.max(Some(echo));
            if self.health.stalled.is_some_and(|end| echo >= end) {
                self.health.stalled = None;
            }
        }
        // Over two paths what was said before may come after what was said since: it is a sign of life and no more.
        let late = |known: &Report| {
            known.identity.instance == beat.report.identity.instance && beat.report.revision < known.revision
        };
        if self.rules.newest_report && self.peer.report.as_ref().is_some_and(late) {
            return false;
        }
        self.take_in(now, echo, beat.report);
        true
    }

    fn take_in(&mut self, now: Now, echo: Option<BootTime>, report: Report) {
        let epochs = [Some(report.highest_epoch), report.epoch, report.last_held];
        let credible = epochs.into_iter().flatten().all(|epoch| self.epochs.learn(epoch));
        if !credible {
            let sentence =
                format!("the peer names epoch {}, which counting cannot reach", report.highest_epoch);
            if self.peer.report.as_ref().is_none_or(|last| last.highest_epoch != report.highest_epoch) {
                self.say(EventCode::EpochTrouble, Severity::Error, Saying::new(sentence));
            }
        }
        // What shows an overlap that is only just over says nothing of the time before.
        let was_active = self.was_active_beside(&report);
        if matches!(report.state, State::Starting | State::Standby) && !was_active {
            self.peer.idle_seen = self.peer.idle_seen.max(echo);
        }
        if report.state == State::Yielding {
            self.peer.yielding_since = self.peer.yielding_since.or(Some(now.boot));
        } else if report.state != State::Standby {
            self.peer.yielding_since = None;
        }
        self.peer.promise = report.tombstone;
        self.merge_maintenance(&report);
        if let Some(session) = self.peer.session.as_mut() {
            session.role = report.role;
            session.mode = report.mode;
        }
        if report.mode != Mode::Deactivated && !matches!(self.peer.link, LinkVerdict::ProvedRefused(_)) {
            self.memory.peer_timings = Some(report.timings);
        }
        self.memory.peer_alone = report.mode == Mode::Deactivated;
        self.memory.peer_role = Some(report.role);
        self.settle_parity(now, echo, &report);
        let refusal = self
            .refusal_of(&report.identity, report.role, report.mode)
            .or_else(|| self.refusal_of_timings(&report));
        self.peer.report = Some(report);
        self.judge(now, refusal);
    }

    pub(super) fn session_ended(&mut self, now: Now, id: SessionId, cause: &str) {
        let seen = LinkVerdict::Silent(format!("the session ended: {cause}"));
        if !self.peer.paths.close(now.boot, id, seen) {
            return;
        }
        self.peer.fresh = self.peer.paths.any_heard();
        if self.peer.paths.any_open() && self.rules.every_path {
            return;
        }
        self.peer.session = None;
        self.look_at_paths(now);
        self.link_lost_for_moves(now, cause);
    }

    pub(super) fn dial_finished(&mut self, now: Now, path: PathId, outcome: DialOutcome) {
        let seen = match outcome {
            DialOutcome::Silent(seen) => LinkVerdict::Silent(seen),
            DialOutcome::Unproved(seen) => LinkVerdict::Unproved(seen),
        };
        if self.peer.paths.found(now.boot, path, seen.clone()) {
            // Whoever has begun to answer since may be the peer, started anew with a wrong key or certificate.
            self.peer.dead = None;
        }
        if self.peer.session.is_some() {
            return;
        }
        if let (LinkVerdict::Silent(seen), false, true) =
            (seen, self.rules.refused_is_silence, self.memory.paired_with.is_some())
        {
            self.peer.dead = Some(seen);
        }
        self.look_at_paths(now);
    }

    /// Without a session the link is what the dials of every path have found.
    fn look_at_paths(&mut self, now: Now) {
        let verdict = self.peer.paths.verdict();
        let unproved = match &verdict {
            LinkVerdict::Unproved(seen) => Some(seen.clone()),
            LinkVerdict::Silent(_) | LinkVerdict::ProvedRefused(_) | LinkVerdict::Established => None,
        };
        let news = self.peer.turn(now.boot, verdict);
        if let Some(seen) = unproved.filter(|_| news && self.peer.unproved.quiet_until(now.boot).is_none()) {
            self.peer.unproved.said(now.boot);
            let sentence = format!(
                "something answers at the peer's address but has not proved that it belongs to this pair: {seen}"
            );
            self.say(EventCode::PeerUnproved, Severity::Error, Saying::new(sentence));
        }
    }

    pub(super) fn refusal_confirmed(&mut self) {
        let counts = self.settings.confirm_refusals && self.settings.arbitration == crate::Arbitration::None;
        if counts && self.peer.session.is_none() && self.memory.paired_with.is_some() {
            self.peer.dead = Some("every address of the peer refuses connections".to_owned());
        }
    }

    pub(super) fn tombstone_read(&mut self, epoch: Epoch) {
        let promised = self.peer.promise.is_some_and(|promise| promise.epoch == epoch);
        let held = self.peer.report.as_ref().and_then(|report| report.epoch) == Some(epoch);
        if !promised || !held || self.peer.dead.is_some() {
            return;
        }
        let cause = format!("its guard showed the secret of epoch {epoch}: every plugin there is gone");
        // Over a cable that was cut a session may not have ended yet.
        for session in self.peer.paths.take(None) {
            let why = "the peer's guard has proved the end of the peer".to_owned();
            self.out.push(Effect::CloseSession { session, why });
        }
        self.peer.session = None;
        self.peer.fresh = false;
        self.peer.dead = Some(cause.clone());
        let sentence = format!("the manager of {} is dead and its plugins have ended", self.peer_name());
        self.say(EventCode::TombstoneRead, Severity::Warn, Saying::new(sentence).cause(cause));
    }

    // ---------------------------------------------------------------------------------------- verdicts

    fn judge(&mut self, now: Now, refusal: Option<String>) {
        let Some((identity, answered)) = self.peer.session.as_ref().map(|s| (s.identity.clone(), s.answered))
        else {
            return;
        };
        let before = self.peer.refused.take().filter(|(whose, _)| *whose == identity);
        let stands = before.as_ref().filter(|_| !answered).map(|(_, why)| why.clone());
        let Some(why) = refusal.or(stands) else {
            self.peer.turn(now.boot, LinkVerdict::Established);
            if self.peer.fresh {
                self.memory.paired_with = Some(identity);
            }
            return;
        };
        self.peer.turn(now.boot, LinkVerdict::ProvedRefused(why.clone()));
        if before.is_none_or(|(_, known)| known != why) {
            let sentence = format!("{} is alive but refused: {why}", self.peer_name());
            self.say(EventCode::PeerRefused, Severity::Error, Saying::new(sentence));
        }
        self.peer.refused = Some((identity, why));
    }

    /// Why this peer cannot be the other half of the pair; both nodes come to the same answer.
    fn refusal_of(&self, identity: &Identity, role: Role, mode: Mode) -> Option<String> {
        let own = &self.settings.identity;
        if identity.instance == own.instance {
            return Some(
                "this node has dialled itself: `redundancy.secondary.address` must name the primary"
                    .to_owned(),
            );
        }
        if identity.node == own.node {
            return Some(
                "both nodes have the same node id: one data directory is a copy of the other".to_owned(),
            );
        }
        let alone = mode == Mode::Deactivated || self.is_deactivated();
        (!alone && role == self.settings.role).then(|| {
            format!(
                "both nodes are configured as {role}: make one of them the {} with `onduty mode {}`",
                role.other(),
                role.other()
            )
        })
    }

    /// Why the timings of the two cannot work together. Judged once the peer has seen this node's own.
    fn refusal_of_timings(&self, report: &Report) -> Option<String> {
        let alone = report.mode == Mode::Deactivated || self.is_deactivated();
        if alone || self.peer.session.as_ref().is_none_or(|session| !session.answered) {
            return None;
        }
        let own = self.timings_told();
        let (primary, secondary) = match self.settings.role {
            Role::Primary => (own, report.timings),
            Role::Secondary => (report.timings, own),
        };
        timing::misfit(&primary, &secondary)
    }

    /// The link is silent for long enough, or was from the start: says so, and says when it is back.
    pub(super) fn watch_link(&mut self, now: Now) {
        if self.is_deactivated() {
            return;
        }
        let arrived = self.peer.last_arrival.filter(|_| self.peer.session.is_some() && self.peer.fresh);
        let quiet = self.disconnect_due() <= now.boot;
        if quiet && !self.said.disconnected {
            self.said.disconnected = true;
            self.said.link_known = true;
            let sentence = format!(
                "{} is disconnected: no heartbeat for {}",
                self.peer_name(),
                super::parts::words(self.disconnect_after())
            );
            let seen = match &self.peer.link {
                LinkVerdict::Silent(seen)
                | LinkVerdict::Unproved(seen)
                | LinkVerdict::ProvedRefused(seen) => seen.clone(),
                LinkVerdict::Established => "the session is open, but nothing comes".to_owned(),
            };
            self.say(EventCode::PeerDisconnected, Severity::Warn, Saying::new(sentence).cause(seen));
        } else if !quiet && arrived.is_some() && (self.said.disconnected || !self.said.link_known) {
            self.said.disconnected = false;
            self.said.link_known = true;
            let sentence = format!("{} is connected", self.peer_name());
            self.say(EventCode::PeerConnected, Severity::Info, Saying::new(sentence));
        }
    }

    pub(super) fn disconnect_after(&self) -> Duration {
        match self.settings.role {
            Role::Primary => self.settings.timeout,
            Role::Secondary => self.takeover_after(),
        }
    }

    /// When the peer counts as disconnected unless something arrives before.
    pub(super) fn disconnect_due(&self) -> BootTime {
        let base = self.started.max(self.peer.last_arrival.unwrap_or_default());
        base.max(self.health.stalled.unwrap_or_default()) + self.disconnect_after()
    }
}
