//! The network paths to the peer: one session each, what each dial found, and which of them are lost.
//!
//! ```text
//!   path 1: session ─ beats ─┐
//!   path 2: dial: silent     ├─► one peer: the newest echo and the newest report over any path count
//!   path 3: dial: unproved ──┘
//! ```
//!
//! The peer is silent only when every path is. What a dial finds on one path says nothing about another: it counts once
//! nothing else is heard. A path that brings nothing for the time after which a peer is disconnected is *lost*, as long as
//! the peer is connected over another; that is a warning and moves no duty. The events that say so keep a distance that
//! doubles while a path comes and goes, so that a loose cable does not fill the journal; the view shows it at once.

use core::time::Duration;

use super::pause::Pause;
use super::words::Saying;
use super::{Machine, Now};
use crate::{
    BootTime, EventCode, Identity, InstanceId, LinkVerdict, OnUnproved, PathId, PathView, Role, SessionId,
    Severity, Via,
};

/// The open session of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    id: SessionId,
    /// Whether this node has dialled it.
    dialled: bool,
    proved: BootTime,
    /// The newest sequence number; older beats are ignored. `None`: nothing has come in this session yet.
    sequence: Option<u64>,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Path {
    address: String,
    open: Option<Open>,
    newest: Option<SessionId>,
    /// What dials have found, or how the last session ended: silent or unproved.
    seen: LinkVerdict,
    since: BootTime,
    /// When something unproved was last followed by silence.
    unproved_until: Option<BootTime>,
    heard: Option<BootTime>,
    round_trip: Option<Duration>,
    /// `path_lost` was said last, and not `path_back`.
    said_lost: bool,
    pause: Pause,
}

impl Path {
    fn new(now: BootTime, address: String) -> Self {
        Self {
            address,
            open: None,
            newest: None,
            seen: never_heard(),
            since: now,
            unproved_until: None,
            heard: None,
            round_trip: None,
            said_lost: false,
            pause: Pause::default(),
        }
    }
}

impl Path {
    /// The last sign of life over its open session.
    fn alive(&self) -> Option<BootTime> {
        self.open.as_ref().map(|open| open.proved.max(self.heard.unwrap_or_default()))
    }
}

fn never_heard() -> LinkVerdict {
    LinkVerdict::Silent("nothing has been heard since the start".to_owned())
}

/// Every path, in the order of the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    all: Vec<Path>,
    /// When a path is looked at again.
    due: Option<BootTime>,
}

impl Paths {
    pub(super) fn new(now: BootTime, addresses: &[String]) -> Self {
        let mut all: Vec<Path> =
            addresses.iter().take(PathId::MOST).map(|address| Path::new(now, address.clone())).collect();
        if all.is_empty() {
            all.push(Path::new(now, String::new()));
        }
        Self { all, due: None }
    }

    /// The node that dials knows the paths; the other one is told.
    fn fit_to(&mut self, now: BootTime, via: &Via, dials: bool, new_run: bool) {
        let told = if dials { 0 } else { via.paths };
        let kept = if dials || !new_run { self.all.len() } else { 0 };
        let wanted = told.max(kept).max(via.path.index() + 1).min(PathId::MOST);
        self.all.truncate(wanted);
        while self.all.len() < wanted {
            self.all.push(Path::new(now, String::new()));
        }
    }

    /// The newest session that was ever proved over this path.
    pub(super) fn newest(&self, path: PathId) -> Option<SessionId> {
        self.all.get(path.index()).and_then(|path| path.newest)
    }

    /// A session was proved. `dials`: this is the node that dials; `new_run`: the peer has started anew.
    pub(super) fn open(&mut self, now: BootTime, id: SessionId, via: Via, dials: bool, new_run: bool) {
        self.fit_to(now, &via, dials, new_run);
        let Some(path) = self.all.get_mut(via.path.index()) else { return };
        if path.open.is_none() {
            path.since = now;
        }
        if !dials {
            path.address = via.remote;
        }
        path.open = Some(Open { id, dialled: via.dialled, proved: now, sequence: None });
        path.newest = Some(id);
        path.seen = never_heard();
        path.unproved_until = None;
    }

    /// The last sign of life over the open session of this path, if that was dialled from the other end than `via`.
    fn crossed(&self, via: &Via) -> Option<BootTime> {
        let path = self.all.get(via.path.index())?;
        path.open.as_ref().filter(|open| open.dialled != via.dialled)?;
        path.alive()
    }

    /// Forgets the sessions of every path, or of one; returns them.
    pub(super) fn take(&mut self, only: Option<PathId>) -> Vec<SessionId> {
        let chosen = |index| only.is_none_or(|only| only.index() == index);
        let taken = self.all.iter_mut().enumerate().filter(|(index, _)| chosen(*index));
        taken.filter_map(|(_, path)| path.open.take()).map(|open| open.id).collect()
    }

    /// One session is over; `false`: it was not open.
    pub(super) fn close(&mut self, now: BootTime, id: SessionId, seen: LinkVerdict) -> bool {
        let found = self.all.iter_mut().find(|path| path.open.as_ref().is_some_and(|open| open.id == id));
        let Some(path) = found else { return false };
        (path.open, path.seen, path.since) = (None, seen, now);
        true
    }

    /// A beat came; `false`: not in an open session, or it is old.
    pub(super) fn heard(&mut self, now: BootTime, id: SessionId, sequence: u64) -> bool {
        for path in &mut self.all {
            let Some(open) = path.open.as_mut().filter(|open| open.id == id) else { continue };
            if open.sequence.is_some_and(|newest| sequence <= newest) {
                return false;
            }
            open.sequence = Some(sequence);
            path.heard = Some(now);
            path.seen = never_heard();
            return true;
        }
        false
    }

    pub(super) fn measured(&mut self, id: SessionId, round_trip: Duration) {
        let of = |path: &&mut Path| path.open.as_ref().is_some_and(|open| open.id == id);
        if let Some(path) = self.all.iter_mut().find(of) {
            path.round_trip = Some(round_trip);
        }
    }

    /// A dial found this; `true`: something unproved where there was nothing before.
    pub(super) fn found(&mut self, now: BootTime, path: PathId, seen: LinkVerdict) -> bool {
        let Some(path) = self.all.get_mut(path.index()) else { return false };
        let turned = core::mem::discriminant(&path.seen) != core::mem::discriminant(&seen);
        if turned {
            if matches!(path.seen, LinkVerdict::Unproved(_)) {
                path.unproved_until = Some(now);
            }
            if path.open.is_none() {
                path.since = now;
            }
        }
        path.seen = seen;
        turned && matches!(path.seen, LinkVerdict::Unproved(_))
    }

    pub(super) fn any_open(&self) -> bool {
        self.all.iter().any(|path| path.open.is_some())
    }

    /// Whether a beat has come in one of the open sessions.
    pub(super) fn any_heard(&self) -> bool {
        self.all.iter().any(|path| path.open.as_ref().is_some_and(|open| open.sequence.is_some()))
    }

    /// The newest proof of a session in which a beat has come.
    pub(super) fn proved_and_heard(&self) -> Option<BootTime> {
        let open = self.all.iter().filter_map(|path| path.open.as_ref());
        open.filter(|open| open.sequence.is_some()).map(|open| open.proved).max()
    }

    /// Something unproved answers on a path.
    pub(super) fn unproved(&self) -> Option<&str> {
        self.all.iter().find_map(|path| match &path.seen {
            LinkVerdict::Unproved(seen) => Some(seen.as_str()),
            LinkVerdict::Silent(_) | LinkVerdict::ProvedRefused(_) | LinkVerdict::Established => None,
        })
    }

    /// When something unproved was last followed by silence, on any path.
    pub(super) fn unproved_until(&self) -> Option<BootTime> {
        self.all.iter().filter_map(|path| path.unproved_until).max()
    }

    /// What is seen of a peer without a session: unproven is not unavailable, and silent are only all paths together.
    pub(super) fn verdict(&self) -> LinkVerdict {
        if let Some(seen) = self.unproved() {
            return LinkVerdict::Unproved(seen.to_owned());
        }
        let mut reasons: Vec<&str> = Vec::new();
        for path in &self.all {
            let reason = reason(&path.seen);
            if path.seen != never_heard() && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        if reasons.is_empty() { never_heard() } else { LinkVerdict::Silent(reasons.join("; ")) }
    }

    /// When a path is looked at again.
    pub(super) const fn due(&self) -> Option<BootTime> {
        self.due
    }
}

fn reason(seen: &LinkVerdict) -> &str {
    match seen {
        LinkVerdict::Silent(seen) | LinkVerdict::Unproved(seen) | LinkVerdict::ProvedRefused(seen) => seen,
        LinkVerdict::Established => "",
    }
}

impl Machine {
    /// Whether a session that was just proved gives way to the one that is open. Two nodes that dial each other at the same
    /// moment prove two sessions, each end in its own order; if the newer one won, each would close what the other keeps.
    /// As with BGP (RFC 4271, section 6.8) a rule that both know decides: the secondary's dial stays, between two nodes of
    /// one role that of the smaller node id. An open session without a sign of life holds up nobody.
    pub(super) fn gives_way(&self, now: Now, via: &Via, identity: &Identity, role: Role) -> bool {
        let own = &self.settings.identity;
        let same_run = self.peer.session.as_ref().is_some_and(|open| open.identity == *identity);
        let crossed =
            self.peer.paths.crossed(via).is_some_and(|alive| now.boot < alive + self.until_next_sign());
        let own_stays = match (self.settings.role, role) {
            (Role::Secondary, Role::Primary) => true,
            (Role::Primary, Role::Secondary) => false,
            (Role::Primary, Role::Primary) | (Role::Secondary, Role::Secondary) => own.node < identity.node,
        };
        same_run && crossed && via.dialled != own_stays
    }

    /// Whether a session over another path, of the same run of the peer, carries the link: then one more makes it no other.
    pub(super) fn carried_by_another(&self, now: Now, but: PathId, instance: InstanceId) -> bool {
        let same = self.peer.session.as_ref().is_some_and(|open| open.identity.instance == instance);
        let mut others = self.peer.paths.all.iter().enumerate().filter(|(index, _)| *index != but.index());
        same && others
            .any(|(_, path)| path.alive().is_some_and(|alive| now.boot < alive + self.takeover_after()))
    }

    /// Something answers on a path in the place of a peer of which nothing else is heard, and cannot prove the key.
    pub(super) fn held_by_unproved(&self) -> Option<&str> {
        let holds = self.settings.on_unproved == OnUnproved::Hold && self.peer.dead.is_none();
        self.peer.paths.unproved().filter(|_| holds)
    }

    /// From when on this path is lost, unless something comes over it before. `None`: the peer is disconnected altogether,
    /// or there is no other path.
    fn lost_from(&self, path: &Path) -> Option<BootTime> {
        let session = self.peer.session.as_ref().filter(|_| self.peer.paths.all.len() > 1)?;
        // With a refused peer no duty moves over any path, and between two primaries only one path is dialled.
        let refused = matches!(self.peer.link, LinkVerdict::ProvedRefused(_));
        let connected = !self.said.disconnected && !self.is_deactivated() && !refused;
        let heard = path.heard.unwrap_or_default();
        let base = heard.max(session.since).max(self.health.stalled.unwrap_or_default());
        connected.then(|| base + self.disconnect_after())
    }

    /// Says which paths are lost and which are back, not too often.
    pub(super) fn watch_paths(&mut self, now: Now) {
        let mut due: Option<BootTime> = None;
        for id in PathId::all(self.peer.paths.all.len()) {
            let Some(path) = self.peer.paths.all.get(id.index()) else { continue };
            let Some(from) = self.lost_from(path) else { continue };
            let in_session = path.open.as_ref().is_some_and(|open| open.sequence.is_some());
            let news = if path.said_lost { in_session && now.boot < from } else { from <= now.boot };
            let look = match (news, path.pause.quiet_until(now.boot)) {
                (true, Some(until)) => Some(until),
                (true, None) => {
                    let lost = !path.said_lost;
                    self.say_path(now, id, lost);
                    (!lost).then_some(from)
                }
                (false, _) => (!path.said_lost).then_some(from),
            };
            due = due.into_iter().chain(look).min();
        }
        self.peer.paths.due = due;
    }

    fn say_path(&mut self, now: Now, id: PathId, lost: bool) {
        let view = self.peer.paths.all.get(id.index()).map(|path| self.path_view(now, id, path));
        let Some(view) = view else { return };
        let (peer, name) = (self.peer_name(), self.path_name(&view));
        if lost {
            let sentence = format!("{name} to {peer} is lost; the nodes are connected over another");
            let cause = reason(&view.link).to_owned();
            self.say(EventCode::PathLost, Severity::Warn, Saying::new(sentence).cause(cause));
        } else {
            let sentence = format!("{name} to {peer} is back");
            self.say(EventCode::PathBack, Severity::Info, Saying::new(sentence));
        }
        let Some(path) = self.peer.paths.all.get_mut(id.index()) else { return };
        path.said_lost = lost;
        path.pause.said(now.boot);
    }

    fn path_name(&self, view: &PathView) -> String {
        let of = self.peer.paths.all.len();
        match view.address.as_str() {
            "" => format!("network path {} of {of}", view.path),
            address => format!("network path {} of {of} ({address})", view.path),
        }
    }

    fn path_view(&self, now: Now, id: PathId, path: &Path) -> PathView {
        let lost = self.lost_from(path).is_some_and(|from| from <= now.boot);
        let heard = path.alive();
        let link = match heard {
            None => path.seen.clone(),
            Some(heard) if lost || heard + self.disconnect_after() <= now.boot => {
                LinkVerdict::Silent("the session is open, but nothing comes".to_owned())
            }
            Some(_) => match &self.peer.link {
                LinkVerdict::ProvedRefused(why) => LinkVerdict::ProvedRefused(why.clone()),
                LinkVerdict::Silent(_) | LinkVerdict::Unproved(_) | LinkVerdict::Established => {
                    LinkVerdict::Established
                }
            },
        };
        // Open and deaf: as it is since something came last.
        let since = heard.filter(|_| !matches!(link, LinkVerdict::Established)).unwrap_or(path.since);
        PathView { path: id, address: path.address.clone(), link, since, round_trip: path.round_trip, lost }
    }

    /// Every path, for people.
    pub(super) fn path_views(&self, now: Now) -> Vec<PathView> {
        let ids = PathId::all(self.peer.paths.all.len());
        ids.zip(&self.peer.paths.all).map(|(id, path)| self.path_view(now, id, path)).collect()
    }

    /// What people are warned of: path by path, what is lost.
    pub(super) fn lost_paths(&self, now: Now) -> Vec<String> {
        let lost = self.path_views(now).into_iter().filter(|view| view.lost);
        lost.map(|view| format!("{} is lost: {}", self.path_name(&view), reason(&view.link))).collect()
    }
}
